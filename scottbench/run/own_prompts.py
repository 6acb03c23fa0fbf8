"""Pictures of one's own prompts: the way of a run without data, features and numbers, for `scottbench sample` and `scottbench.sample`.

A picture depends on its prompt, the seed and the method's weights and options alone: its noise is that of an item whose id is made of the
prompt, and it is made in a call of its own, so that neither other prompts nor their order change a byte of it.
"""

from __future__ import annotations

import hashlib
import io
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.errors import LOWER, Incomplete, IntegrityError, MissingAsset, ScottbenchError, UsageError, telling_memory
from scottbench.models.pipeline import open_student
from scottbench.models.sampling import Sampler
from scottbench.plan.cells import PlannedCell, make_cells, unsealed, unusual_steps
from scottbench.plan.choices import choose
from scottbench.plan.inputs import admit_students, doubts, find_students, open_model, with_weights
from scottbench.report.contact_sheet import Sheet, draw_sheet
from scottbench.run.clock import Clock
from scottbench.store.assets import gather, offline
from scottbench.store.environment import flush_denormals, set_tf32
from scottbench.store.files import json_bytes, read_plain, write_file
from scottbench.text import count, in_one_line, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

    from scottbench.models.diffusion_model import DiffusionModel
    from scottbench.plan.request import RunRequest
    from scottbench.registry.condition import TextCondition
    from scottbench.registry.loader import Plugins

RECORD, SHEET = "pictures.json", "sheet.png"
LARGEST_LIST = 4 * 2**20
"""Most bytes of a file of prompts."""
HINT = "Free some space or name another folder with -o."


# --- prompts ---------------------------------------------------------------------------------------------------------


def read_prompts(path: Path) -> list[str]:
    """Read a file of prompts, one a line, blank lines left out. Raises UsageError: unreadable, too large, no text, or none in it."""
    try:
        text = read_plain(path, LARGEST_LIST).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text" if isinstance(error, UnicodeError) else error
        raise UsageError(f"--prompts {one_line(path)} cannot be read: {why}. Give a text file with one prompt a line.") from None
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise UsageError(f"--prompts {one_line(path)} holds no prompt. Write one a line.")
    return found


def checked(prompts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the prompts, each once and in one line, and remarks on those left out. Raises UsageError for none, or an empty one."""
    if not prompts:
        raise UsageError('no prompt. Give one in quotes, such as "a red apple", or a file with one a line: --prompts FILE')
    found = [in_one_line(prompt) for prompt in prompts]
    if "" in found:
        raise UsageError(f"prompt {found.index('') + 1} is empty: there is nothing to see a method by. Give some words.")
    once = list(dict.fromkeys(found))
    left = len(found) - len(once)
    return once, [f"{count(left, 'prompt')} given twice: the pictures would be equal, each is made once."] if left else []


def item_id(prompt: str) -> str:
    """Return the id of a prompt, by which its noise is drawn."""
    return f"prompt-{hashlib.sha256(prompt.encode()).hexdigest()[:32]}"


# --- plan ------------------------------------------------------------------------------------------------------------


@dataclass
class Session:
    """Prompts, cells and the model that they are sampled from, opened and checked."""

    request: RunRequest
    prompts: list[str]
    model_name: str
    model: DiffusionModel
    cells: list[PlannedCell]
    remarks: list[str]
    """Lines for the user."""
    failures: dict[str, str] = field(default_factory=dict)
    """Id of a cell -> why it has no pictures, or not all."""
    empty: TextCondition | None = None

    def uncond(self) -> TextCondition:
        """Return the (1,L,D) condition of the unconditional pass, made once."""
        if self.empty is None:
            self.empty = self.model.empty_prompt()
        return self.empty

    @property
    def total(self) -> int:
        """Count the pictures."""
        return len(self.prompts) * len(self.cells)


def open_session(plugins: Plugins, request: RunRequest, prompts: Sequence[str]) -> Session:
    """Find methods, model and students, and check prompts; nothing is sampled yet.

    Raises UsageError for names, values and prompts, MissingAsset or DamagedAsset (one message for all) for files."""
    texts, remarks = checked(prompts)
    choices = choose(plugins, replace(request, metrics=None))
    flush_denormals()
    set_tf32(request.tf32 == "on")
    with offline():
        found = gather({
            "model": lambda: open_model(plugins, choices.preset, request, choices.device),
            "students": lambda: find_students(choices),
        })  # fmt: skip
        name, model = found["model"]
        methods = with_weights(choices, found["students"], model.digest)
        admit_students(methods, model)
    cells = make_cells(methods, choices.steps, choices.seeds, model.schedule)
    remarks += [line for number, text in enumerate(texts, 1) for line in overlong(model, number, text)]
    return Session(request, texts, name, model, cells, [*remarks, *doubts(methods, model), *unusual_steps(cells), *unsealed(cells)])


def overlong(model: DiffusionModel, number: int, prompt: str) -> list[str]:
    """Say, in a line or none, that a prompt has more tokens than the model reads, and where it stops reading."""
    for tokenizer in model.tokenizers:
        tokens, most = tokenizer(prompt, truncation=False, verbose=False).input_ids, tokenizer.model_max_length
        if len(tokens) > most:
            last = one_line(tokenizer.decode(tokens[max(1, most - 7) : most - 1]))
            return [f"prompt {number} has {len(tokens):,} tokens and the model reads {most}: it sees nothing after '... {last}'."]
    return []


# --- pictures --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One picture, and how it was made."""

    prompt: str
    number: int
    """Place of the prompt, from 1."""
    method: str
    """The method with its inline options."""
    steps: int
    seed: int
    guidance: float
    nfe: int
    """Network evaluations that it took."""
    seconds: float
    """Time of text encoder, U-Net and decoder."""
    image: Image
    file: str
    """Name of its PNG."""


def make(session: Session, on_progress: Callable[[dict], None]) -> Iterator[Sample]:
    """Make all pictures, cell after cell, prompt after prompt. A cell that fails costs no other its pictures: see `Session.failures`.

    on_progress: called with {"stage": "cell", "cell": id, "done": pictures, "total": pictures}. Raises MissingAsset, DamagedAsset,
    UsageError or IntegrityError where a student cannot be opened.
    """
    clock = Clock(session.model.device)
    texts: dict[str, tuple[TextCondition, float]] = {}
    for cell, model in opened(session):
        try:
            for number, prompt in enumerate(session.prompts, 1):
                if prompt not in texts:
                    seconds: dict[str, float] = {}
                    with clock.stage(seconds, "text", host=True):
                        condition = session.model.encode_prompts([prompt])
                        clock.synchronise()
                    texts[prompt] = condition, seconds["text"]
                with telling_memory(LOWER):
                    made = _one(session, cell, model, clock, (number, prompt, *texts[prompt]))
                yield made
                on_progress({"stage": "cell", "cell": cell.id, "done": number, "total": len(session.prompts)})
        except (Incomplete, IntegrityError, UsageError, MissingAsset, MemoryError):
            raise
        except ScottbenchError as error:
            session.failures[cell.id] = one_line(error)
        except Exception as error:  # a method may raise anything; the other cells must go on
            session.failures[cell.id] = f"{type(error).__name__}: {one_line(error)}"


def opened(session: Session) -> Iterator[tuple[PlannedCell, DiffusionModel]]:
    """Give the cells, each with the model that it samples from; one student is open at a time."""
    held: tuple[Path | None, DiffusionModel] = (None, session.model)
    for cell in session.cells:
        folder, facts = cell.method.student, cell.method.facts
        if folder != held[0]:
            model = session.model
            if folder is not None and facts is not None:
                model = open_student(session.model, folder, facts["trainer"], facts)
            held = folder, model
        yield cell, held[1]


def _one(
    session: Session, cell: PlannedCell, model: DiffusionModel, clock: Clock, given: tuple[int, str, TextCondition, float]
) -> Sample:
    """One picture, by itself; given: number, prompt, its condition (1,L,D) and the seconds that took."""
    from PIL.Image import fromarray

    number, prompt, text, spent = given
    method, seconds, before = cell.method, {"text": spent}, model.evaluations
    sampler = Sampler(
        model, method.noun, method.label, method.options, session.uncond(), method.guidance, cell.steps, cell.seed)
    with clock.stage(seconds, "picture", host=True):  # the pixels are waited for
        pixels = model.decode(sampler.latents(text, [item_id(prompt)]))[0]
    digits = max(2, len(str(len(session.prompts))))
    return Sample(
        prompt, number, method.label, cell.steps, cell.seed, method.guidance, model.evaluations - before, sum(seconds.values()),
        fromarray(pixels), f"{number:0{digits}d}_{cell.id}.png")


# --- what is kept ----------------------------------------------------------------------------------------------------


class Samples(Sequence[Sample]):
    """Pictures of one's own prompts. A notebook shows them as one sheet; `images` has them as PIL images."""

    def __init__(self, session: Session, made: Sequence[Sample]):
        self.session, self.made = session, list(made)

    def __len__(self) -> int:
        return len(self.made)

    def __getitem__(self, place: Any) -> Any:
        return self.made[place]

    @property
    def images(self) -> list[Image]:
        """List the pictures, PIL images: method by method, number of steps by number of steps, seed by seed, prompt by prompt."""
        return [one.image for one in self.made]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Tell, of each method at each number of steps: guidance, NFE, pictures, and the median of their seconds."""
        found: dict[tuple[str, int], list[Sample]] = {}
        for one in self.made:
            found.setdefault((one.method, one.steps), []).append(one)
        return [
            {"method": method, "steps": steps, "guidance": group[0].guidance, "nfe": group[0].nfe, "pictures": len(group),
             "seconds": statistics.median(one.seconds for one in group)}
            for (method, steps), group in found.items()
        ]

    @property
    def sheet(self) -> Image:
        """Draw all pictures on one sheet: a block a prompt, a row a method, a column a seed; of one seed a column a number of steps."""
        cells = [(cell.method.label, cell.steps, cell.seed) for cell in self.session.cells]
        by_steps = len({seed for *_, seed in cells}) == 1 and len({steps for _, steps, _ in cells}) > 1
        row_of = (lambda method, steps: (method,)) if by_steps else (lambda method, steps: (method, steps))
        rows = list(dict.fromkeys(row_of(method, steps) for method, steps, _ in cells))
        columns = sorted({steps if by_steps else seed for _, steps, seed in cells})
        blocks: dict[str, dict[tuple[int, int], Image]] = {prompt: {} for prompt in self.session.prompts}
        for one in self.made:
            place = rows.index(row_of(one.method, one.steps)), columns.index(one.steps if by_steps else one.seed)
            blocks[one.prompt][place] = one.image
        names = [count(n, "step") if by_steps else f"seed {n}" for n in columns]
        labels = [self._label(row) for row in rows]
        seed = f", seed {self.session.cells[0].seed}" if by_steps else ""
        return draw_sheet(Sheet(labels, names, list(blocks.items()), f"model {self.session.model_name}{seed}."))

    def _label(self, row: tuple) -> str:
        """Method, number of steps, NFE and seconds, a line each, of a row of the sheet."""
        facts = [one for one in self.rows if (one["method"], one["steps"])[: len(row)] == row]
        head = [row[0].replace("@", " @").replace(",", ", ")] + ([count(row[1], "step")] if len(row) > 1 else [])
        if len(row) == 1 or not facts:
            return "\n".join([*head, *([] if facts else ["failed"])])
        return "\n".join([*head, f"NFE {facts[0]['nfe']}", f"{facts[0]['seconds']:.2g} s"])

    def save(self, out: str | Path, command: str = "") -> Path:
        """Write a PNG of each picture, the sheet and a record of how they were made, and return the sheet's path. Raises UsageError where
        a file of somebody else would be overwritten or the folder cannot be written, Incomplete where the disk is full."""
        folder = Path(out).expanduser()
        check_folder(folder, self.session)
        for one in self.made:
            keep(folder, one)
        return self.finish(folder, command)

    def finish(self, folder: Path, command: str) -> Path:
        """Write record and sheet beside pictures that are kept already; return the sheet's path. Raises as `save`."""
        session = self.session
        record = {
            "schema": "scottbench.pictures/1",
            "command": command,
            "model": {"name": session.model_name, "digest": session.model.digest},
            "prompts": session.prompts,
            "pictures": [
                {"file": one.file, "prompt": one.number, "id": item_id(one.prompt), "method": one.method, "steps": one.steps,
                 "seed": one.seed, "guidance": one.guidance, "nfe": one.nfe, "seconds": round(one.seconds, 4)}
                for one in self.made
            ],
            "failed": session.failures,
            "remarks": session.remarks,
        }
        write_file(folder / RECORD, json_bytes(record), HINT)
        return write_file(folder / SHEET, png(self.sheet), HINT)

    def _repr_png_(self) -> bytes:
        """Return the sheet, for a notebook."""
        return png(self.sheet)

    def __repr__(self) -> str:
        return f"Samples({count(len(self), 'picture')} of {count(len(self.session.prompts), 'prompt')})"


def png(image: Image) -> bytes:
    """Return the bytes of a picture's PNG."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def keep(folder: Path, one: Sample) -> None:
    """Write the PNG of a picture. Raises UsageError or Incomplete where it cannot be written."""
    write_file(folder / one.file, png(one.image), HINT)


def check_folder(folder: Path, session: Session) -> None:
    """Check, before anything is sampled, that nothing but earlier pictures of ours is overwritten. Raises UsageError."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{one_line(folder)} is no folder. Name another with -o.")
    if (folder / RECORD).is_file():
        return
    endings = tuple(f"_{cell.id}.png" for cell in session.cells)
    there = [path.name for path in sorted(folder.iterdir()) if path.name == SHEET or path.name.endswith(endings)] if folder.is_dir() else []
    if there:
        raise UsageError(
            f"{one_line(folder)} holds '{one_line(there[0])}' and no {RECORD}: it may be somebody's. Name another folder with -o.")


def default_folder(prompts: Sequence[str]) -> Path:
    """Return pictures/ and a name made of the first prompt: "pictures/a-red-apple"."""
    letters = "".join(letter if letter.isascii() and letter.isalnum() else " " for letter in prompts[0].lower())
    name = "-".join(letters.split())[:40].strip("-")
    return Path("pictures") / (name if name else item_id(prompts[0])[:15])

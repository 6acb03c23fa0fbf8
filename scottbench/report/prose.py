"""The report's sentences and lists that are made of records: setup, split of the wall time, environment, limits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scottbench.report.tables import number
from scottbench.store.manifest import flawed
from scottbench.store.plan_record import older_identity
from scottbench.store.record import CellRecord, RunRecord, section, text
from scottbench.text import duration


def setup(record: RunRecord) -> str:
    """Say what was run, in sentences."""
    plan = record.plan
    dataset, model = section(plan, "dataset"), section(plan, "model")
    sampled, given = ([cell for cell in record.cells if (cell.steps > 0) is made] for made in (True, False))
    steps = _by_method({cell.method: _steps([other for other in sampled if other.method == cell.method]) for cell in sampled})
    seeds = _listed(str(cell.facts["seed"]) for cell in sampled)
    guidance = _by_method({cell.method: number(cell.facts.get("guidance_scale")) for cell in sampled})
    extractors = _listed(
        f"{source.get('label')} ({source.get('kind')}, resize rule “{source.get('resize')}”)"
        for source in plan.get("extractors", {}).values()
    )
    sizes = ", ".join(f"{n:,}" for n in sorted({cell.n for cell in record.cells}))
    reference = section(record.manifest, "reference")
    features = f"Features come from {extractors}. " if extractors else ""
    parts = []
    if sampled:
        parts.append(
            f"Each method draws N = {sizes} images at {steps} with the model {model.get('name')}, one per prompt of {dataset.get('name')} "
            f"({dataset.get('split')} split), with seed {seeds}. The guidance scale s is {guidance} (s = 1 is unguided)."
        )
    if given:
        files = "; ".join(f"{cell.method}: {_given(cell)}" for cell in given)
        whole = "" if sampled else f" N = {sizes} of them, one per prompt of {dataset.get('name')}, are measured."
        parts.append(f"Pictures that were made elsewhere are read from files ({files}).{whole}")
    parts.append(_reference(dataset, reference))
    return " ".join(parts) + f" {features}Networks ran in {plan.get('dtype')} on {plan.get('device')}."


def _given(cell: CellRecord) -> str:
    """The files of a row of pictures in words: "PNG 1000, 64 x 64"."""
    facts = section(cell.facts, "options")
    return f"{facts.get('formats', 'n/a')}, {facts.get('sizes', 'n/a')}{', lossy' if facts.get('lossy') is True else ''}"


def _reference(dataset: dict[str, Any], reference: dict[str, Any]) -> str:
    """The reference images in a sentence."""
    own = dataset.get("reference")
    if reference.get("n") == 0:
        return "There are no reference images: no metric compares with any."
    which = f", a set of their own ({own.get('name')})" if isinstance(own, dict) else ""
    return f"The reference is {number(reference.get('n'))} real images{which}."


def _steps(cells: list[CellRecord]) -> str:
    """ "1 step", "1, 2 and 4 steps"."""
    return _listed(str(cell.steps) for cell in cells) + (" step" if {cell.steps for cell in cells} == {1} else " steps")


def _by_method(values: dict[str, str]) -> str:
    """ "3" where all methods share a value, else "3 for ddim and dpmpp; 2 for cd"."""
    methods: dict[str, list[str]] = {}
    for method, value in values.items():
        methods.setdefault(value, []).append(method)
    if len(methods) == 1:
        return next(iter(methods))
    return "; ".join(f"{value} for {_listed(names)}" for value, names in methods.items())


def _listed(parts: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"; each once."""
    parts = list(dict.fromkeys(parts))
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def digest_rows(record: RunRecord) -> list[tuple[str, str]]:
    """(what, sha256) of all that went in."""
    plan, manifest = record.plan, record.manifest
    rows = {
        "Plan": manifest["plan_hash"],
        "Model": section(plan, "model").get("digest"),
        "Data": plan.get("dataset", {}).get("digest"),
        "Reference": section(manifest, "reference").get("digest"),
    }
    for source in plan.get("extractors", {}).values():
        rows[f"Extractor: {source.get('label')}"] = source.get("digest")
    return [(f"{what}, sha256", number(digest)) for what, digest in rows.items()]


def split_sentence(record: RunRecord) -> str:
    """Say where the wall time went, or that of all processes where several ran side by side, and how much memory was needed."""
    manifest = record.manifest
    wall, forward, share = manifest.get("wall_seconds"), manifest.get("forward_seconds"), manifest.get("forward_share")
    if wall is None:
        return "The wall time of this run was not recorded."
    sentence = f"The whole run took {duration(wall)}"
    if forward is not None and share is not None:
        by_part = section(manifest, "forward_seconds_by_part")
        parts = " (" + _listed(f"{part} {duration(seconds)}" for part, seconds in by_part.items()) + ")" if by_part else ""
        processes = forward / share if share > 0 else wall
        together = processes > 1.01 * wall  # of one process the two are one, but for the share's rounding
        sentence += (
            (f", its processes together {duration(processes)}" if together else "")
            + f", of which {duration(forward)} ({100 * share:.0f} %) inside the forward passes of the networks{parts} and "
            + f"{duration(max(0.0, (processes if together else wall) - forward))} around them"
        )
    peak = manifest.get("peak_memory_bytes")
    return sentence + (f"; peak memory {peak / 1e9:.2f} GB." if peak is not None else ".")


def environment_rows(record: RunRecord) -> list[tuple[str, str]]:
    """(quantity, value) of software, hardware and dates."""
    manifest = record.manifest
    environment = section(manifest, "environment")
    git = environment.get("git")
    commit = "an installed package" if git is None else f"{git.get('commit')}{' with local changes' if git.get('dirty') else ''}"
    packages = ", ".join(f"{name} {version}" for name, version in section(environment, "packages").items())
    rows = [
        ("Status", str(manifest["status"])),
        ("Started", str(manifest["created"])),
        ("Finished", text(manifest, "finished", "not finished")),
        ("Processor", f"{environment.get('cpu', 'n/a')}, {number(environment.get('threads'))} threads"),
        ("Device", str(environment.get("device", "n/a"))),
        ("System", f"{environment.get('platform', 'n/a')}, Python {environment.get('python', 'n/a')}"),
        ("Packages", number(packages)),
        ("Source", commit),
    ]
    known = {"python", "platform", "cpu", "threads", "packages", "git", "device"}
    return rows + [(key, _spelled(value)) for key, value in environment.items() if key not in known]


def _spelled(value: object) -> str:
    """A value of a record as text; a table of them as "name value, name value"."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_spelled(inner)}" for key, inner in value.items()) or "none"
    return number(value)


def references(record: RunRecord) -> list[tuple[str, str]]:
    """(names of methods and metrics, the paper they follow), each paper once."""
    papers: dict[str, list[str]] = {}
    for entry, name in [(cell.facts, cell.method) for cell in record.cells] + [(m, m["name"]) for m in record.manifest["metrics"]]:
        if entry.get("paper"):
            papers.setdefault(str(entry["paper"]), []).append(str(name))
    return [(", ".join(dict.fromkeys(names)), paper) for paper, names in papers.items()]


def limits(record: RunRecord) -> list[str]:
    """The run's own limits first, then those of every report of this version."""
    own = [str(limit) for limit in record.manifest.get("limits", [])]
    status = record.manifest["status"]
    if status != "complete":
        own.insert(0, f"This run is {status}, not complete: rows may be missing.")
    if older := older_identity(record.plan):
        own.append(f"This run has the {older}.")
    labels = list(dict.fromkeys(metric.extractor for metric in record.metrics if metric.extractor))
    if labels:
        own.append(
            f"Numbers named after an extractor ({', '.join(labels)}) cannot be compared with numbers of another, published ones included."
        )
    seeds = len({cell.facts["seed"] for cell in record.cells})
    drawn = "one seed" if seeds == 1 else f"{seeds} seeds"
    if not any(cell.steps for cell in record.cells):
        drawn = "one image a prompt"
    spread = f"Point estimates from {drawn} without intervals: a small difference may be noise."
    if any(cell.intervals for cell in record.cells):
        spread = (
            f"Intervals and tests are about other prompts and other sampling noise ({drawn} here), at this N. They do not cover training: "
            "a student distilled again, with another seed, may differ by more."
        )
    if all(isinstance(cell.facts.get("sentinels"), dict) for cell in record.cells):
        broken = [f"{flaw} of {cell.name}" for cell in record.cells if (flaw := flawed(cell.facts))]
        found = "; ".join(broken) + ". They are measured like all others." if broken else "none."
        own.append(f"Images that no method means to make (black, of one colour, duplicates, with pixels that are not finite): {found}")
    timed = ["Times are of this machine and this batch size; NFE is what transfers to another."]
    return [
        *own,
        "Only numbers of equal fingerprint and equal N share a column and a ranking; several of the metrics depend on N itself.",
        spread,
        *(timed if any(cell.steps for cell in record.cells) else []),
        "The samples are the first of the plan, not a random or a typical choice.",
    ]

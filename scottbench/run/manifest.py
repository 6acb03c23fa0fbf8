"""From a plan in execution to its manifest: what it is of, how it stands, what failed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from scottbench.plan.cells import PlannedMetric, by_seeds, over_seeds_id
from scottbench.plan.identity import reference_digest
from scottbench.plan.plan import Plan, PlannedCell
from scottbench.registry.label import Label
from scottbench.run.clock import peak_memory
from scottbench.run.sentinels import count_cell
from scottbench.store.environment import arithmetic
from scottbench.store.events import log_digest, read_events, read_log, spent
from scottbench.store.files import read_plain, timestamp
from scottbench.store.folder import LOCK
from scottbench.store.manifest import SCHEMA, CellEntry, Level, Manifest, MetricEntry, QuotedValue, Recorded, Reference, SeedsEntry, Status
from scottbench.store.reader import LARGEST_TABLE, RECORDS, damaged

if TYPE_CHECKING:
    from scottbench.run.session import Work


def start(plan: Plan, work: Work, environments: list[dict[str, Any]]) -> Manifest:
    """Return the manifest of a run that begins or goes on. environments: of all attempts and workers so far, as in env.json; the last is
    of this process."""
    shown = slice(0, min(plan.preset.sample_items, plan.n, plan.chunk))  # of the reference images one chunk is kept
    return Manifest(
        schema=SCHEMA,
        status="running",
        plan_hash=plan.hash,
        plan=plan.record,
        command=plan.command,
        created=work.earlier.get("created", timestamp()),
        finished=None,
        attempts=work.earlier.get("attempts", 0) + 1,
        level=level(plan, environments),
        files=digests(work.folder.root, [LOCK]),
        wall_seconds=0.0,
        forward_seconds=0.0,
        forward_seconds_by_part={},
        forward_share=None,
        store_seconds=0.0,
        peak_memory_bytes=None,
        chunks={},
        log=None,
        environment=environments[-1]["environment"],
        cells=[cell_entry(cell, plan.n) for cell in plan.cells],
        over_seeds=[seeds_entry(cells, plan.n) for cells in by_seeds(plan.cells) if len(cells) > 1],
        metrics=[metric_entry(metric, plan) for metric in plan.metrics],
        samples={"ids": list(plan.items.ids[shown]), "prompts": list(plan.items.prompts[shown])},
        model_card=plan.model_card,
        recorded=cast("Recorded | None", plan.recorded),
        quoted=quoted_values(plan),
        limits=[*plan.preset.limits, *of_data(plan), *unsafe_sentence(plan), *(f"{line[:1].upper()}{line[1:]}" for line in plan.warnings)],
        reference=reference_entry(plan),
    )


def level(plan: Plan, environments: list[dict[str, Any]]) -> Level:
    """Return how far runs of this plan agree.

    "exact": made on CPUs of one type with one number of threads, one setting of what changes rounding and one torch, so that the same plan
    gives the same bytes there.
    "tolerance": images and numbers agree within what `scottbench verify --resample` allows.
    """
    kinds = {arithmetic(entry["environment"]) for entry in environments}
    return "exact" if plan.exact and len(kinds) == 1 else "tolerance"


def quoted_values(plan: Plan) -> list[QuotedValue] | None:
    """Return the papers' numbers that the preset brings, which are about its own data; None where there are none."""
    return [cast(QuotedValue, asdict(one)) for one in plan.preset.papers] or None if plan.own_data else None


def unsafe_sentence(plan: Plan) -> list[str]:
    """Return the sentence for the report's limits where weights were read from pickles; nothing otherwise."""
    if plan.teacher is None or not plan.teacher.pickled:
        return []
    return [f"Weights were read from pickled checkpoints ({', '.join(plan.teacher.pickled)}), which can run code when they are read."]


def of_data(plan: Plan) -> list[str]:
    """Return the preset's sentences about its dataset, for a run of that dataset."""
    return plan.preset.data_limits if plan.own_data else []


def reference_entry(plan: Plan) -> Reference:
    """Return how many reference images there are, and their digest; that of nothing where there are none."""
    if plan.reference is None:
        return {"n": 0, "digest": hashlib.sha256(b"").hexdigest()}
    return {"n": plan.reference.n, "digest": reference_digest(plan.reference.items.digest, plan.reference.n)}


def cell_entry(cell: PlannedCell, n: int) -> CellEntry:
    """Return the entry of a cell that nothing has been made of yet."""
    method = cell.method
    return CellEntry(
        cell.id, method.label, method.noun.summary, method.noun.paper, method.noun.version, cell.steps, cell.seed, method.guidance,
        dict(vars(method.options)), cell.timesteps, None, method.weights_digest, method.facts, n)


def seeds_entry(cells: list[PlannedCell], n: int) -> SeedsEntry:
    """Return the entry of a method at a number of steps, all seeds together. cells: one per seed."""
    first = cells[0]
    return SeedsEntry(
        over_seeds_id(cells), first.method.label, first.steps, [cell.seed for cell in cells], [cell.id for cell in cells], None, n)


def metric_entry(metric: PlannedMetric, plan: Plan) -> MetricEntry:
    """Return the entry of a metric; its inline options stand behind its title."""
    noun, label = metric.noun, Label.parse(metric.label)
    title = noun.label if noun.label else label.name
    return MetricEntry(
        metric.label, f"{title} ({label.chosen})" if label.options else title, noun.unit, noun.summary, noun.paper, noun.higher_is_better,
        noun.digits, noun.scope, metric.fingerprint, " + ".join(dict.fromkeys(plan.sources[plan.roles[role]].label for role in noun.roles)))


def update(manifest: Manifest, work: Work, status: Status) -> None:
    """Note the status, and the times of all attempts and workers as the event log has them."""
    manifest.spent(spent(read_events(work.folder.root)))
    manifest.status = status
    manifest.peak_memory_bytes = peak_memory()
    manifest.finished = None if status == "running" else timestamp()


def seal(manifest: Manifest, work: Work) -> None:
    """Note the digests of all that a run has written: records, chunks by folder, the log so far."""
    root = work.folder.root
    manifest.files = digests(root, RECORDS)
    manifest.chunks = chunk_digests(work)
    data = read_log(root)
    manifest.log = None if data is None else log_digest(data)


def chunk_digests(work: Work) -> dict[str, str]:
    """Return "images/CELL" and the like -> the digest of its chunks (`RunFolder.digest`), for all folders of a plan that are whole."""
    plan = work.plan
    places: list[tuple[str, ...]] = [("images", owner) for owner in ("reference", *(cell.id for cell in plan.cells))]
    places += [("features", owner, role) for owner in ("reference", "text", *(cell.id for cell in plan.cells)) for role in plan.sources]
    found: dict[tuple[str, ...], str | None] = {}
    for place in places:
        chunks = plan.spans_of(place[1])[: 1 if place == ("images", "reference") else None]
        found[place] = work.folder.digest(place, chunks) if chunks else None
    return {"/".join(place): digest for place, digest in found.items() if digest is not None}


def digests(root: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the sha256 of those of the records that are there. Raises IntegrityError where one is no plain file."""
    found = {}
    for name in names:
        try:
            found[name] = hashlib.sha256(read_plain(root / name, LARGEST_TABLE, root)).hexdigest()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise damaged(root / name, error) from None
    return found


def finish_cell(manifest: Manifest, work: Work, cell: PlannedCell, reason: str | None) -> None:
    """Note a cell's counted NFE and flawed images, or why it has none. reason: why it has no images; None: it has."""
    if reason is None:
        counted = {(work.folder.facts(("images", cell.id), span) or {}).get("nfe") for span in work.chunks}
        if len(counted) == 1:
            manifest.cell(cell.id).nfe = counted.pop()
            manifest.cell(cell.id).sentinels = count_cell(work, cell)
        else:
            reason = f"method '{cell.method.label}' evaluated its network unequally often: {sorted(map(str, counted))} per image."
    manifest.failed(cell.id, reason)

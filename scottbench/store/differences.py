"""Compare the plans of two runs, and say where they are not the same run."""

from __future__ import annotations

from pathlib import Path

from scottbench.errors import IntegrityError, ScottbenchError, UsageError
from scottbench.store.plan_record import older_identity, plan_digest
from scottbench.text import one_line

MEANINGS = {"schema", "digest", "weights_digest", "student_digest", "version", "code", "fingerprint", "timesteps", "unsafe"}
"""Plan keys that pin what the user's words resolved to: digests, versions, time steps. If only these differ, the request is the same and
its inputs have changed: IntegrityError, not UsageError."""
GENERATION = ("schema", "model", "dataset", "seeds", "device", "dtype", "compile", "tf32", "chunk", "micro_batch", "cells")
"""Keys of a plan that say which images a run has; the others are of code, features and metrics. Who makes no images compares these, and the
digests of the stored ones."""


def differences(old: object, new: object, where: str = "") -> list[str]:
    """List where two JSON-able records differ, as dotted keys; entries of equally long lists by their "id" or "name", else their number."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys((*old, *new))
        return [place for key in keys for place in differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [place for number, pair in pairs for place in differences(*pair, f"{where}.{_label(pair[1], number)}".lstrip("."))]
    return [] if old == new else [where]


def _label(entry: object, number: int) -> str:
    return str(entry.get("id", entry.get("name", number))) if isinstance(entry, dict) else str(number)


def listed(places: list[str]) -> str:
    """Name the first three of many places in one line; code by its file, and first, since other differences follow from it."""
    named = sorted((_in_words(place) for place in places), key=lambda name: not name.startswith("code "))
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return one_line(", ".join(named[:3])) + more


def _in_words(place: str) -> str:
    head, _, rest = place.partition(".")
    part, _, file = rest.partition(".")
    return f"code of {part} ({file})" if head == "code" and file else place


def _is_meaning(place: str) -> bool:
    return place.rpartition(".")[2] in MEANINGS or ".timesteps." in place or place.startswith("code.")


def refuse(root: Path, found: dict, wanted: dict) -> ScottbenchError:
    """Make the error for a folder whose locked plan is another than the wanted one; both {"plan_hash", "plan"}.

    It is an IntegrityError where the same was asked for and means something else now, a UsageError where something else was asked for.
    """
    plan = found.get("plan")
    if isinstance(plan, dict) and (older := older_identity(plan)):
        return IntegrityError(f"{root} has the {older}. It cannot be gone on with: make a new run, with another --out.")
    places = differences(plan, wanted["plan"])
    if places and all(map(_is_meaning, places)):
        return IntegrityError(
            f"{root} was made when the same words meant something else: {listed(places)}. Nothing of it is reused. "
            "Restore what has changed, or name a new folder with --out.")
    old, new = (str(record["plan_hash"])[:12] for record in (found, wanted))
    return UsageError(f"{root} holds a run of plan {old}, this plan is {new}. Name another folder with --out, or none.")


def check_whole(root: Path, found: dict) -> None:
    """Raise IntegrityError unless the plan that a folder holds, {"plan_hash", "plan"}, has the hash that stands beside it."""
    plan = found.get("plan")
    try:
        whole = isinstance(plan, dict) and plan_digest(plan) == found.get("plan_hash")
    except ValueError:
        whole = False
    if not whole:
        raise IntegrityError(
            f"{root}/plan.lock.json was changed: its plan has another hash than stands beside it. Restore the file, or name a new folder "
            "with --out.")


def check_same(root: Path, found: dict, wanted: dict, keys: tuple[str, ...] | None = None) -> None:
    """Raise IntegrityError unless the plan that a folder holds is the wanted one, in `keys` only if given; both plan records."""
    if "schema" in wanted and found.get("schema") != wanted["schema"]:
        raise IntegrityError(
            f"{root} has the {older_identity(found)}. It can be read, reported and compared, but not gone on with or measured again: "
            "make a new run.")
    kept = found if keys is None else {key: found.get(key) for key in keys}
    places = differences(kept, wanted if keys is None else {key: wanted.get(key) for key in keys})
    if places:
        raise IntegrityError(
            f"{root} was made from something else than what is here now: {listed(places)}. Nothing of it is reused. "
            "Restore what has changed, or start a new run.")

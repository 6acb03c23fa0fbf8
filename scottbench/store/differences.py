"""Compare the plans of two runs, and say where they are not the same run."""

from __future__ import annotations

from pathlib import Path

from scottbench.errors import IntegrityError, ScottbenchError, UsageError
from scottbench.text import one_line

MEANINGS = {"schema", "digest", "weights_digest", "version", "code", "fingerprint", "timesteps", "unsafe"}
"""Plan keys that pin what the user's words resolved to: digests, versions, time steps. If only these differ, the request is the same and
its inputs have changed: IntegrityError, not UsageError."""
GENERATION = ("schema", "model", "dataset", "seeds", "device", "dtype", "chunk", "micro_batch", "cells")
"""Keys of a plan that the images depend on; the others are of features and metrics."""


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
    """Name the first three of many places in one line."""
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return one_line(", ".join(places[:3])) + more


def refuse(root: Path, found: dict, wanted: dict) -> ScottbenchError:
    """Make the error for a folder whose locked plan is another than the wanted one; both {"plan_hash", "plan"}.

    It is an IntegrityError where the same was asked for and means something else now, a UsageError where something else was asked for.
    """
    places = differences(found.get("plan"), wanted["plan"])
    if places and all(place.rpartition(".")[2] in MEANINGS or ".timesteps." in place for place in places):
        return IntegrityError(
            f"{root} was made when the same words meant something else: {listed(places)}. Nothing of it is reused. "
            "Restore what has changed, or name a new folder with --out.")
    old, new = (str(record["plan_hash"])[:12] for record in (found, wanted))
    return UsageError(f"{root} holds a run of plan {old}, this plan is {new}. Name another folder with --out, or none.")


def check_same(root: Path, found: dict, wanted: dict, keys: tuple[str, ...] | None = None) -> None:
    """Raise IntegrityError unless the plan that a folder holds is the wanted one, in `keys` only if given; both plan records."""
    kept = found if keys is None else {key: found.get(key) for key in keys}
    places = differences(kept, wanted if keys is None else {key: wanted.get(key) for key in keys})
    if places:
        raise IntegrityError(
            f"{root} was made from something else than what is here now: {listed(places)}. Nothing of it is reused. "
            "Restore what has changed, or start a new run.")



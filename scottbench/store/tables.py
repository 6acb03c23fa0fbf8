"""The tables of a run: which columns results, items, pairs and timings have, of which type, and which of them a reader needs.

Writers build their frames from the schemas; readers ask for the columns that every version wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.errors import UsageError
from scottbench.text import one_line

if TYPE_CHECKING:
    import polars as pl

RESULTS, ITEMS, PAIRS, TIMINGS = "results.parquet", "items.parquet", "pairs.parquet", "timings.parquet"

RESULTS_SCHEMA = {
    "method": "String", "steps": "Int32", "nfe": "Int32", "seed": "Int64", "guidance_scale": "Float64", "dataset": "String", "n": "Int32",
    "metric": "String", "value": "Float64", "unit": "String", "higher_is_better": "Boolean", "fingerprint": "String", "ci_low": "Float64",
    "ci_high": "Float64", "ci_method": "String", "seeds": "String", "flawed": "Int32",
}  # fmt: skip
"""One row per cell and metric, and per metric of all seeds of a method at a number of steps (together, or their mean). Column -> type of
polars, by name: to know the columns needs no polars."""
ITEMS_SCHEMA = {
    "method": "String", "steps": "Int32", "seed": "Int64", "metric": "String", "id": "String", "value": "Float64", "influence": "Float64",
    "seeds": "String",
}  # fmt: skip
"""One row per cell, metric and prompt. `value` is empty where the metric is no mean over items, `seed` where it is of several seeds."""
PAIRS_SCHEMA = {
    "metric": "String", "method_a": "String", "steps_a": "Int32", "method_b": "String", "steps_b": "Int32", "seeds": "String", "n": "Int32",
    "value_a": "Float64", "value_b": "Float64", "difference": "Float64", "ci_low": "Float64", "ci_high": "Float64", "p": "Float64",
    "p_holm": "Float64", "images_to_decide": "Int64", "verdict": "String",
}  # fmt: skip
"""One row per metric and pair, A - B."""
TIMINGS_SCHEMA = {
    "method": "String", "steps": "Int32", "seed": "Int64", "stage": "String", "n": "Int32", "seconds_total": "Float64",
    "seconds_per_image": "Float64", "ci_low": "Float64", "ci_high": "Float64", "chunks": "Int32",
}  # fmt: skip
"""One row per cell and stage."""

RESULT_COLUMNS = frozenset({"method", "steps", "seed", "n", "metric", "value", "fingerprint"})
"""Columns that a reader of results needs; runs of earlier versions lack the others."""
ITEM_COLUMNS = frozenset({"method", "steps", "seed", "metric", "id", "influence"})
PAIR_COLUMNS = frozenset(
    {"metric", "method_a", "steps_a", "method_b", "steps_b", "n", "difference", "ci_low", "ci_high", "p_holm", "verdict"})
TIMING_COLUMNS = frozenset({"method", "steps", "seed", "stage", "seconds_per_image"})


def polars_schema(columns: Mapping[str, str]) -> dict[str, Any]:
    """Return column -> polars type of one of the schemas of this module."""
    import polars

    return {name: getattr(polars, kind) for name, kind in columns.items()}


def frame(rows: Sequence[Mapping[str, Any]] | Mapping[str, Any], columns: Mapping[str, str]) -> pl.DataFrame:
    """Return a data frame of rows, or of whole columns, in the order and with the types of a schema."""
    import polars

    return polars.DataFrame(rows, schema=polars_schema(columns))


def read_frame(path: Path, needed: frozenset[str] | set[str]) -> pl.DataFrame:
    """Read a table of a run. Raises UsageError, one line, where it is missing, damaged or lacks a column that is needed."""
    import polars

    if not path.is_file():
        raise UsageError(f"{path} is missing: the run did not finish. Finish it: scottbench run with --out {path.parent}")
    try:
        table = polars.read_parquet(path)
    except (OSError, polars.exceptions.PolarsError) as error:
        raise UsageError(f"{path} cannot be read ({one_line(error)}). Make the run again: scottbench run") from None
    absent = needed - set(table.columns)
    if absent:
        raise UsageError(f"{path} lacks column '{min(absent)}': another version wrote it. Make the run again: scottbench run")
    return table


def read_rows(path: Path, needed: frozenset[str] | set[str]) -> list[dict[str, Any]]:
    """Read a table of a run as rows. Raises UsageError as `read_frame`."""
    return read_frame(path, needed).to_dicts()

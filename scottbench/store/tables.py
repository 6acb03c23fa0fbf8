"""The tables of a run: which columns results, items, pairs and timings have, of which type, and which of them a reader needs.

Writers build their frames from the schemas; readers ask for the columns that every version wrote.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scottbench.text import one_line

if TYPE_CHECKING:
    import polars as pl

RESULTS, ITEMS, PAIRS, TIMINGS = "results.parquet", "items.parquet", "pairs.parquet", "timings.parquet"
CATEGORIES = "categories.parquet"
"""There where the dataset's items have columns."""

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
CATEGORIES_SCHEMA = {
    "method": "String", "steps": "Int32", "seed": "Int64", "metric": "String", "column": "String", "category": "String", "n": "Int32",
    "value": "Float64", "ci_low": "Float64", "ci_high": "Float64", "seeds": "String",
}  # fmt: skip
"""One row per cell, metric that is a mean over items, column of the dataset and value of that column."""
TIMINGS_SCHEMA = {
    "method": "String", "steps": "Int32", "seed": "Int64", "stage": "String", "n": "Int32", "seconds_total": "Float64",
    "seconds_per_image": "Float64", "ci_low": "Float64", "ci_high": "Float64", "chunks": "Int32", "load": "Float64", "rounds": "Int32",
}  # fmt: skip
"""One row per cell and stage."""

RESULT_COLUMNS = frozenset({"method", "steps", "seed", "n", "metric", "value", "fingerprint"})
"""Columns that a reader of results needs; runs of earlier versions lack the others."""
ITEM_COLUMNS = frozenset({"method", "steps", "seed", "metric", "id", "influence"})
PAIR_COLUMNS = frozenset(
    {"metric", "method_a", "steps_a", "method_b", "steps_b", "n", "difference", "ci_low", "ci_high", "p_holm", "verdict"})
CATEGORY_COLUMNS = frozenset(CATEGORIES_SCHEMA) - {"seed", "ci_low", "ci_high"}
TIMING_COLUMNS = frozenset({"method", "steps", "seed", "stage", "seconds_per_image"})
SCHEMAS = {RESULTS: RESULTS_SCHEMA, ITEMS: ITEMS_SCHEMA, PAIRS: PAIRS_SCHEMA, TIMINGS: TIMINGS_SCHEMA, CATEGORIES: CATEGORIES_SCHEMA}
FILLED = {"method", "steps", "n", "metric", "fingerprint", "id", "method_a", "steps_a", "method_b", "steps_b", "verdict", "stage", "column",
          "category"}
"""Columns without gaps."""


def asked(a: tuple[str, int], b: tuple[str, int], cells: Iterable[tuple[str, int]]) -> bool:
    """Tell whether a table of pairs asks about two (method, steps) of `cells`: two methods at one number of steps, one method at
    neighbouring numbers, or pictures made elsewhere, of 0 steps, which meet all others."""
    if a[0] != b[0]:
        return a[1] == b[1] or 0 in (a[1], b[1])
    line = sorted({steps for method, steps in cells if method == a[0]})
    return abs(line.index(a[1]) - line.index(b[1])) == 1


def polars_schema(columns: Mapping[str, str]) -> dict[str, Any]:
    """Return column -> polars type of one of the schemas of this module."""
    import polars

    return {name: getattr(polars, kind) for name, kind in columns.items()}


def frame(rows: Sequence[Mapping[str, Any]] | Mapping[str, Any], columns: Mapping[str, str]) -> pl.DataFrame:
    """Return a data frame of rows, or of whole columns, in the order and with the types of a schema."""
    import polars

    return polars.DataFrame(rows, schema=polars_schema(columns))


def parse_frame(data: bytes, name: str, needed: frozenset[str] | set[str], most: int) -> pl.DataFrame:
    """Read a table of a run from its bytes, of which nothing is believed. name: the file's, which says which columns it may have.

    needed: columns that it must have. most: rows that it may have; more are refused before any is read. Raises ValueError, in the words of
    a sentence about the table, where it is no table, is too long, lacks a column, or has a value of a wrong kind or not finite.
    """
    import polars

    try:
        rows = int(polars.scan_parquet(io.BytesIO(data)).select(polars.len()).collect().item())
        if rows > most:
            raise ValueError(f"it has {rows:,} rows, more than the {most:,} that its run can have")
        table = polars.read_parquet(io.BytesIO(data))
    except (OSError, polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
        raise ValueError(one_line(error)) from None
    absent = needed - set(table.columns)
    if absent:
        raise ValueError(f"it lacks column '{min(absent)}'")
    for column, kind in SCHEMAS.get(name, {}).items():
        if column in table.columns:
            _check_column(table[column], kind, column in needed and column in FILLED)
    return table


def _check_column(values: pl.Series, kind: str, filled: bool) -> None:
    """Raise ValueError unless a column is of a kind, has numbers that are finite, and is `filled` where it must be."""
    import polars

    found = values.dtype
    fits = {"String": found == polars.String, "Boolean": found == polars.Boolean, "Float64": found.is_numeric()}
    if found != polars.Null and not fits.get(kind, found.is_integer()):
        raise ValueError(f"column '{values.name}' holds {found}, not {kind}")
    if filled and values.null_count():
        raise ValueError(f"column '{values.name}' has gaps")
    # NaN stands for "no value" in runs of the first version; an infinite number never stood for anything
    if found.is_float() and values.is_infinite().any():
        raise ValueError(f"column '{values.name}' holds a number that is not finite")

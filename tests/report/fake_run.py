"""A run folder as `scottbench run` writes one, made by hand: records with invented numbers and small coloured images."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import polars as pl
from PIL import Image, ImageDraw

DIRECTIONS = {"fid": False, "clip_score": True, "coverage": True, "precision": True, "recall": True, "density": True}
LABELS = dict(zip(DIRECTIONS, ("FID", "CLIP score", "Coverage", "Precision", "Recall", "Density")))
VALUES = {
    ("scott", 1): (1.07, 0.507, 0.51, 0.61, 0.42, 0.93),
    ("scott", 2): (0.76, 0.5704, 0.67, 0.72, 0.5, 1.01),
    ("scott", 4): (0.71, 0.581, 0.7, 0.75, 0.55, 1.04),
    ("cd", 1): (0.98, 0.497, 0.50, 0.63, 0.40, 0.95),
    ("cd", 2): (0.83, 0.5702, 0.60, 0.71, 0.44, 1.02),
    ("cd", 4): (0.81, 0.568, 0.66, 0.73, 0.47, 1.05),
}
PROMPTS = (
    "twemoji emoji of red apple",
    "noto emoji of grinning face with big eyes",
    "fluent flat emoji of sailboat",
    "emojione emoji of flag: Norway",
    "fluent 3D emoji of cat",
    "noto emoji of umbrella with rain drops",
)


def fake_run(
    folder: Path, cells=(("scott", 2), ("cd", 2)), n: int = 256, prompts=PROMPTS, size: int = 64, label="pocket features", **changes
) -> Path:
    """A complete run folder of (method, steps) cells. `changes` replace top-level keys of the manifest."""
    folder.mkdir(parents=True)
    ids = [f"item-{i}" for i in range(len(prompts))]
    entries = [cell_entry(method, steps, n) for method, steps in cells]
    metrics = [metric_entry(name, n, label) for name in DIRECTIONS]
    manifest = {**manifest_of(entries, metrics, ids, list(prompts), n), **changes}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    values = [VALUES[entry["method"], entry["steps"]] for entry in entries]
    rows = [result_row(entry, metric, value) for entry, row in zip(entries, values) for metric, value in zip(metrics, row)]
    pl.DataFrame(rows).write_parquet(folder / "results.parquet")
    pl.DataFrame([row for entry in entries for row in timing_rows(entry)]).write_parquet(folder / "timings.parquet")
    for hue, place in enumerate(["reference", *(entry["id"] for entry in entries)]):
        write_chunk(folder / "images" / place, ids, hue, size)
    return folder


def edit_manifest(folder: Path, **changes) -> None:
    """Replace top-level keys of the manifest of a run that is there."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_results(folder: Path, **columns: pl.Expr) -> None:
    """Replace columns of results.parquet."""
    path = folder / "results.parquet"
    pl.read_parquet(path).with_columns(**columns).write_parquet(path)


def metric_entry(name: str, n: int, label: str | None) -> dict:
    return {
        "name": name, "label": LABELS[name], "unit": "", "summary": f"what {name} is", "paper": "A paper, arXiv 1234.56789",
        "higher_is_better": DIRECTIONS[name], "digits": 3, "fingerprint": f"{name}(); scottbench 0.1; n={n}", "extractor_label": label,
    }  # fmt: skip


def cell_entry(method: str, steps: int, n: int) -> dict:
    student = {"trainer": method, "steps": 5210, "samples_seen": 166720, "minutes": 98.4, "network_evaluations": 1200345}
    return {
        "id": f"{method}__s{steps}__seed0", "method": method, "summary": "a few-step sampler", "paper": f"The paper of {method}",
        "version": "1", "steps": steps, "seed": 0, "guidance_scale": 2.5, "options": {"eta": 0.0},
        "timesteps": [999 - 250 * i for i in range(steps)], "nfe": steps, "weights_digest": method.encode().hex()[0] * 64,
        "student": student, "n": n, "error": None, "failures": {},
    }  # fmt: skip


def manifest_of(entries: list[dict], metrics: list[dict], ids: list[str], prompts: list[str], n: int) -> dict:
    extractor = {"kind": "open_clip", "label": "pocket features", "digest": "c3" * 32, "resize": "clean"}
    card = [
        {"quantity": "CLIP score, share of the real images'", "value": 0.972, "reference": 1.0, "note": "DDIM 50, guidance 3"},
        {"quantity": "FID, times the floor", "value": 1.58, "reference": 1.0, "note": "floor: training images"},
    ]
    return {
        "schema": "scottbench.run/1", "status": "complete", "plan_hash": "7c1e9a2f" * 8,
        "command": "scottbench run --methods scott,cd --steps 2",
        "created": "2026-02-11T09:30:04Z", "finished": "2026-02-11T09:35:10Z", "attempts": 1,
        "wall_seconds": 306.2, "forward_seconds": 231.0,
        "forward_seconds_by_part": {"U-Net": 150.0, "decoder": 60.0, "extractor": 21.0}, "forward_share": 0.7544,
        "peak_memory_bytes": 2_100_000_000,
        "plan": {
            "preset": "pocket", "model": {"name": "pocket", "digest": "a1" * 32}, "seed": 0, "device": "cpu", "dtype": "float32",
            "dataset": {"name": "emoji5k", "split": "evaluation", "digest": "b2" * 32, "n": n},
            "extractors": {"image": extractor, "clip": extractor},
        },
        "environment": {
            "python": "3.11.2", "platform": "Linux x86_64", "cpu": "A processor", "threads": 2, "packages": {"torch": "2.14.1"},
            "git": {"commit": "d" * 40, "dirty": True}, "device": "cpu",
        },
        "cells": entries, "metrics": metrics, "samples": {"ids": ids, "prompts": prompts}, "reference": {"n": n, "digest": "e5" * 32},
        "model_card": {"title": "Teacher quality", "n": 5000, "rows": card}, "limits": ["Emoji at 64x64 say nothing about photographs."],
    }  # fmt: skip


def result_row(entry: dict, metric: dict, value: float | None) -> dict:
    return {
        "method": entry["method"], "steps": entry["steps"], "nfe": entry["nfe"], "seed": 0, "guidance_scale": 2.5, "dataset": "emoji5k",
        "n": entry["n"], "metric": metric["name"], "value": value, "unit": "", "higher_is_better": metric["higher_is_better"],
        "fingerprint": metric["fingerprint"],
    }  # fmt: skip


def timing_rows(entry: dict) -> list[dict]:
    each = {"text": 0.0011, "denoise": 0.0131 * entry["steps"], "decode": 0.0079, "features": 0.0036, "store": 0.0007}
    key = {"method": entry["method"], "steps": entry["steps"], "seed": 0, "n": entry["n"]}
    return [{**key, "stage": stage, "seconds_total": seconds * entry["n"], "seconds_per_image": seconds} for stage, seconds in each.items()]


def write_chunk(folder: Path, ids: list[str], hue: int, size: int) -> None:
    """One stored zip of PNGs: a disc on white, its colour by column, its place by item."""
    folder.mkdir(parents=True)
    name = f"00000-{len(ids) - 1:05d}.zip"
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_STORED) as archive:
        for i, item_id in enumerate(ids):
            image = Image.new("RGB", (size, size), "white")
            box = [size // 8 + i, size // 8, size * 3 // 4 + i, size * 3 // 4]
            ImageDraw.Draw(image).ellipse(box, fill=((60 * hue) % 256, 40 + 20 * i, 255 - (50 * hue) % 256))
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            archive.writestr(zipfile.ZipInfo(f"{item_id}.png", (1980, 1, 1, 0, 0, 0)), buffer.getvalue())
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / name).with_suffix(".json").write_text(json.dumps({"sha256": digest, "ids": ids}))

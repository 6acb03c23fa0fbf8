"""Turn measure.py's JSON into the model card that reports show (assets/model/quality.json) and the README's tables.

python -m scottbench_pocket.build.quality MEASURE.json            writes the card, prints the Markdown
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from . import common

TARGETS = {"clip_share": "target 97 %", "recall_share": "target 92 %", "fid_ratio": "target 1.6"}


def reached(row: dict) -> int:
    """How many of the three targets a row of the teacher reaches."""
    return (row["clip_share"] >= 0.97) + (row["recall_share"] >= 0.92) + (row["fid_ratio"] <= 1.6)


def card(measured: dict) -> dict:
    """The card: one row a quantity, each with what it is to be held against. The teacher's row is that of the guidance at which it reaches
    most targets, and of those the best in FID."""
    real, floor, through = measured["real"], measured["floor"], measured["autoencoder"]
    best = min(measured["teacher"], key=lambda row: (-reached(row), row["fid"]))
    who = f"DDIM {best['steps']}, guidance {best['guidance']:g}, N = {best['n']}"
    rows = [
        (
            "CLIP score of the teacher",
            f"{best['clip_score']:.3f}",
            f"{real['clip_score']:.3f} (real images)",
            f"{who}; {100 * best['clip_share']:.0f} % of the real images', {TARGETS['clip_share']}",
        ),
        (
            "own caption first among 100",
            f"{best['recall_100']:.2f}",
            f"{real['recall_100']:.2f} (real images)",
            f"{who}; {100 * best['recall_share']:.0f} % of the real images', {TARGETS['recall_share']}",
        ),
        (
            "FID (pocket features) of the teacher",
            f"{best['fid']:.2f}",
            f"{floor['fid']:.2f} (floor)",
            f"{who}; {best['fid_ratio']:.1f} times the floor, {TARGETS['fid_ratio']}; the floor is the FID of as many training images",
        ),
        (
            "FID (pocket features) through the autoencoder",
            f"{through['fid']:.2f}",
            f"{real['fid']:.2f} (real images)",
            f"N = {through['n']}, all against the 5,000 evaluation images; PSNR {measured['psnr_db']:.1f} dB",
        ),
    ]
    names = ("quantity", "value", "reference", "note")
    return {"title": "Quality of the embedded model", "rows": [dict(zip(names, row, strict=True)) for row in rows]}


def markdown(measured: dict) -> str:
    """Tables for the README: the guidance scan, costs, sizes."""
    lines = ["| images | N | NFE | FID | CLIP score | R@1 of 100 |", "| --- | --- | --- | --- | --- | --- |"]
    for name, row in (
        ("real, evaluation split", measured["real"]),
        ("real, training split (the floor)", measured["floor"]),
        ("evaluation images through the autoencoder", measured["autoencoder"]),
    ):
        lines.append(f"| {name} | {row['n']} | | {row['fid']:.2f} | {row['clip_score']:.3f} | {row['recall_100']:.2f} |")
    for row in measured["teacher"]:
        nfe = row["steps"] * (1 if row["guidance"] == 1 else 2)
        lines.append(
            f"| teacher, DDIM {row['steps']}, s = {row['guidance']:g} | {row['n']} | {nfe} | {row['fid']:.2f} | {row['clip_score']:.3f} "
            f"| {row['recall_100']:.2f} |"
        )
    lines += ["", "| part | GFLOP an image | parameters |", "| --- | --- | --- |"]
    sizes = measured["parameters_m"]
    for name, flops in measured["gflop"].items():
        millions = sizes.get(name, sizes["vae"] if name in ("decode", "encode") else None)
        lines.append(f"| {name.replace('_', ' ')} | {flops:.3f} | {f'{millions:.2f} M' if millions is not None else ''} |")
    return "\n".join(lines)


def main() -> None:
    """Write the card and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "measured", type=Path, nargs="+", help="JSON files of measure.py; the first gives real images, costs and sizes, all give rows"
    )
    parser.add_argument("--out", type=Path, default=common.ASSETS / "model" / "quality.json")
    arguments = parser.parse_args()
    files = [json.loads(path.read_text()) for path in arguments.measured]
    measured = files[0] | {"teacher": [row for file in files for row in file["teacher"]]}
    common.write_json(arguments.out, card(measured))
    print(markdown(measured))


if __name__ == "__main__":
    main()

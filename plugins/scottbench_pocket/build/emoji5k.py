"""Build Emoji-5K: text-image pairs at 64x64 from open SVG icon sets. Byte for byte reproducible.

    python -m scottbench_pocket.build.emoji5k --npm DIR --out DIR

Needs resvg-py, which a benchmark run does not. `--npm` holds the unpacked npm packages, one folder each.
"""

import argparse
import csv
import hashlib
import importlib.metadata
import io
import json
import sys
import zipfile
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image, features

from . import emoji_names, emoji_notices, emoji_split

COLUMNS = ("id", "split", "family", "concept", "caption", "code_points", "variant", "sha256")
SPLITS = ("train", "evaluation")
SIZE = 64


def svg(icons: dict, name: str) -> str:
    """The SVG document of one icon of an iconify set; its own left, top, width, height before the set's."""
    icon = icons["icons"][name]
    # iconify's defaults
    defaults = {"left": 0, "top": 0, "width": 16, "height": 16}
    box = [icon.get(key, icons.get(key, default)) for key, default in defaults.items()]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIZE}" height="{SIZE}" viewBox="{box[0]} {box[1]} {box[2]} {box[3]}">{icon["body"]}</svg>'
    )


def render(document: str) -> np.ndarray:
    """An SVG document as (64, 64, 3) uint8 on white. System fonts stay out: they differ between machines."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=document, background="#ffffff", skip_system_fonts=True)
    pixels = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))
    assert pixels.shape == (SIZE, SIZE, 4) and (pixels[..., 3] == 255).all()
    return pixels[..., :3].copy()


def webp(pixels: np.ndarray) -> bytes:
    """Lossless WebP bytes of a (64, 64, 3) uint8 image. Quality 100 is 0.5 % smaller and 50 times slower."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=75, method=6, exact=True)
    return buffer.getvalue()


def _picture(document: str) -> tuple[bytes, bytes]:
    pixels = render(document)
    return pixels.tobytes(), webp(pixels)


def collect(npm: Path, limit: int | None = None) -> tuple[list[dict], list[str]]:
    """Items of every family (with their SVG documents, not yet rendered) and one report line a family.

    `limit` keeps the first icons of each family only, for the test that builds a sample again.
    """
    concept_of = emoji_names.concepts(npm)
    by_name = emoji_names.names(npm, concept_of)
    items, report = [], []
    for family in emoji_names.FAMILIES:
        icons = emoji_names.load(npm, family, "icons.json")
        icon_of, unmapped = emoji_names.match(npm, family, concept_of, by_name)
        wanted = [sequence for sequence in sorted(icon_of) if emoji_split.belongs(sequence)]
        report.append(
            f"{family.id}: {len(icon_of)} mapped, {len(unmapped)} dropped without a CLDR name, "
            f"{len(icon_of) - len(wanted)} skin tones left out"
        )
        for sequence in wanted[:limit]:
            items.append(
                {
                    "id": f"{family.id}-{sequence}",
                    "family": family.id,
                    "concept": concept_of[sequence],
                    "caption": f"{family.style} emoji of {concept_of[sequence]}",
                    "code_points": sequence,
                    "variant": emoji_split.variant(sequence),
                    "svg": svg(icons, icon_of[sequence]),
                }
            )
    return items, report


def rasterise(items: list[dict], processes: int) -> tuple[list[dict], int, int]:
    """Adds `pixels`, `webp` and `sha256`; returns the items kept, blank ones and exact duplicates.

    Of equal pictures the first in the order of FAMILIES, then of code points, stays.
    """
    kept, seen, blank, duplicates = [], set(), 0, 0
    with Pool(processes) as pool:
        pictures = pool.imap(_picture, [item.pop("svg") for item in items], chunksize=32)
        for item, (pixels, encoded) in zip(items, pictures, strict=True):
            item["sha256"] = hashlib.sha256(pixels).hexdigest()
            if pixels == b"\xff" * len(pixels):
                blank += 1
            elif item["sha256"] in seen:
                duplicates += 1
            else:
                seen.add(item["sha256"])
                kept.append(item | {"pixels": pixels, "webp": encoded})
    return kept, blank, duplicates


def write_archive(path: Path, items: list[dict]) -> None:
    """A stored zip of `<id>.webp`, the same bytes on every machine and day."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for item in items:
            entry = zipfile.ZipInfo(f"{item['id']}.webp", (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, item["webp"])


def write(out: Path, items: list[dict]) -> None:
    """items.csv, one archive a split, the licences and, last, digests.json over all of them."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "items.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(items)
    for split in SPLITS:
        write_archive(out / f"{split}.zip", [item for item in items if item["split"] == split])
    emoji_notices.write(out)
    files = sorted(p for p in out.rglob("*") if p.is_file() and p.name != "digests.json")
    digests = {
        "files": {
            path.relative_to(out).as_posix(): {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for path in files
        },
        "items": {split: sum(item["split"] == split for item in items) for split in SPLITS},
        "npm": {f.package: f.version for f in emoji_names.FAMILIES} | dict([emoji_names.CLDR_PACKAGE]),
        "rendered_with": {
            "resvg-py": importlib.metadata.version("resvg-py"),
            "pillow": Image.__version__,
            "libwebp": features.version("webp"),
        },
    }
    (out / "digests.json").write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


def missing_packages(npm: Path) -> list[str]:
    """`npm pack` lines for the packages that `npm` lacks or holds in another version."""
    wanted = [(f.package, f.version) for f in emoji_names.FAMILIES] + [emoji_names.CLDR_PACKAGE]
    lines = []
    for package, version in wanted:
        manifest = emoji_names.folder(npm, package) / "package.json"
        if not manifest.is_file() or json.loads(manifest.read_text(encoding="utf-8"))["version"] != version:
            folder = package.rsplit("/", 1)[-1]
            lines.append(f"mkdir -p {folder} && tar xzf $(npm pack {package}@{version}) -C {folder} --strip 1")
    return lines


def build(npm: Path, processes: int = 2) -> tuple[list[dict], list[str]]:
    """Items in the order of their ids with split and pictures, and the report lines."""
    items, report = collect(npm)
    items, blank, duplicates = rasterise(items, processes)
    items.sort(key=lambda item: item["id"])
    held = emoji_split.evaluation_ids(items)
    for item in items:
        item["split"] = "evaluation" if item["id"] in held else "train"
    report.append(f"{blank} blank and {duplicates} duplicate pictures dropped, {len(items)} kept")
    return items, report


def main(argv: list[str] | None = None) -> int:
    """Command line: build everything and print what was kept and dropped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--npm", type=Path, required=True, help="folder of the unpacked npm packages")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args(argv)
    lines = missing_packages(args.npm)
    if lines:
        sys.stderr.write("\n  ".join([f"Packages missing in {args.npm}, or of another version. Fetch them there:", *lines]) + "\n")
        return 3
    items, report = build(args.npm, args.processes)
    write(args.out, items)
    sys.stdout.write("\n".join(report) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

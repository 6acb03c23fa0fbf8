"""Shards as others make them: WebDataset of img2dataset, parquet and arrow of Hugging Face, a part of DiffusionDB."""

import io
import json
import tarfile
import zipfile

import polars as pl
from PIL import Image


def jpeg(number, size=(40, 32), form="JPEG"):
    """A picture whose gray, 0 to 255, says its number."""
    stream = io.BytesIO()
    Image.new("RGB", size, (number,) * 3).save(stream, form, quality=100, subsampling=0)
    return stream.getvalue()


def tar(path, samples):
    """samples: {"key": {".jpg": bytes, ".txt": bytes}}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for key, parts in samples.items():
            for suffix, data in parts.items():
                member = tarfile.TarInfo(key + suffix)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def sample(number, **facts):
    """A sample as img2dataset writes it."""
    text = f"caption {number}"
    return {".jpg": jpeg(number), ".txt": text.encode(), ".json": json.dumps({"caption": text, **facts}).encode()}


def tars(folder, sizes=(7, 5, 8), **facts):
    """Shards of so many samples; their numbers go on from shard to shard."""
    number = 0
    for shard, size in enumerate(sizes):
        tar(folder / f"{shard:05d}.tar", {f"{n:09d}": sample(n, **facts) for n in range(number, number + size)})
        number += size
    return folder


def table(numbers, struct=True):
    pictures = [jpeg(n) for n in numbers]
    image = [{"bytes": data, "path": f"{n}.jpg"} for n, data in zip(numbers, pictures)] if struct else pictures
    return pl.DataFrame({
        "image" if struct else "jpg": image, "text": [f"caption {n}" for n in numbers],
        "aesthetic": [n / 10 for n in numbers]})  # fmt: skip


def parquets(folder, sizes=(70, 75)):
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for shard, size in enumerate(sizes):
        table(range(number, number + size)).write_parquet(folder / f"train-{shard:05d}.parquet", row_group_size=30)
        number += size
    return folder


def arrows(folder, batches=(10, 6)):
    """A folder as datasets' save_to_disk leaves it: one arrow stream of several record batches."""
    folder.mkdir(parents=True, exist_ok=True)
    parts, number = [], 0
    for size in batches:
        stream = io.BytesIO()
        table(range(number, number + size)).write_ipc_stream(stream)
        parts.append(stream.getvalue())
        number += size
    from scottbench_streams.columns import END, messages

    found = b""
    for order, part in enumerate(parts):
        (folder / "one").write_bytes(part)
        for kind, offset, size, _ in messages(folder / "one"):
            if kind == 3 or order == 0:
                found += part[offset : offset + size]
    (folder / "one").unlink()
    (folder / "data-00000-of-00001.arrow").write_bytes(found + END)
    (folder / "dataset_info.json").write_text("{}")
    return folder


def zips(folder, size=6):
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "part-000001.zip", "w") as archive:
        for n in range(size):
            method = zipfile.ZIP_DEFLATED if n % 2 else zipfile.ZIP_STORED
            archive.writestr(f"{n}.png", jpeg(n, form="PNG"), method)
        archive.writestr("part-000001.json", json.dumps({f"{n}.png": {"p": f"caption {n}", "se": 1} for n in range(size)}))
    return folder


def numbers(images):
    """The numbers of pictures, by their gray."""
    return [round(float(image.mean())) for image in images]

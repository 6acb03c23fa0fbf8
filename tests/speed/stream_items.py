"""The streaming loader: pictures a second, decoded and resized to 512x512, in the order of a training; peak memory along the way.

    OMP_NUM_THREADS=1 python tests/speed/stream_items.py [ITEMS [WIDTHxHEIGHT ...]]      default: 4000 and 512x512 640x480 1024x768

Shards of 1,000 JPEGs in tars (quality 90, noise at all scales, half a byte a pixel as COCO's pictures have); one shard is written and
linked under further names, for the disk's sake.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scottbench_streams.items import open_stream
from scottbench_streams.options import StreamOptions

from scottbench.run.clock import peak_memory
from scottbench.training.stream import Stream

SHARD, BATCH, SIDE = 1000, 32, 512
DIFFERENT = 50
"""Pictures of a shard that differ; they come again and again."""


def picture(width: int, height: int, seed: int) -> bytes:
    """Make a JPEG of the sum of noise at all scales, which is as large as a detailed photograph."""
    generator, total = np.random.default_rng(seed), np.zeros((height, width, 3), np.float32)
    for scale in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        coarse = generator.integers(0, 256, (max(1, height // scale), max(1, width // scale), 3), np.uint8)
        total += np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    total = (total - total.min()) / (total.max() - total.min()) * 255
    buffer = io.BytesIO()
    Image.fromarray(total.astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write(folder: Path, items: int, width: int, height: int) -> int:
    """Write shards; returns the mean bytes of a picture."""
    pictures = [picture(width, height, seed) for seed in range(DIFFERENT)]
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number in range(SHARD):
            for suffix, data in ((".jpg", pictures[number % DIFFERENT]), (".txt", b"a picture of noise")):
                entry = tarfile.TarInfo(f"{number:06d}{suffix}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    for shard in range(1, -(-items // SHARD)):
        os.link(folder / "00000.tar", folder / f"{shard:05d}.tar")
    return sum(map(len, pictures)) // DIFFERENT


def measure(items: int, width: int, height: int) -> None:
    """Read an epoch of items of one size, and print a line of JSON."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["XDG_CACHE_HOME"], folder = home, Path(home) / "shards"
        folder.mkdir()
        each = write(folder, items, width, height)
        stream = Stream(open_stream("train", StreamOptions(path=folder, side=SIDE)), torch.zeros(0, dtype=torch.int64), 0)
        stream.cut(1, BATCH)
        steps, peaks, started, cpu = stream.opened().course.steps, [], time.perf_counter(), time.process_time()
        for step in range(steps):
            _, pixels, _, _ = stream.read(step, 0, stream.parts(step, 1)[0])
            assert pixels.shape == (BATCH, SIDE, SIDE, 3)
            if step % max(1, steps // 8) == 0:
                peaks.append(round(peak_memory() / 1e9, 3))
        wall = time.perf_counter() - started
        print(json.dumps({
            "source": f"{width}x{height}", "items": steps * BATCH, "bytes": each, "per_second": round(steps * BATCH / wall, 1),
            "processor_ms_an_item": round(1000 * (time.process_time() - cpu) / (steps * BATCH), 2), "peak_GB": peaks,
        }), flush=True)  # fmt: skip


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    for size in sys.argv[2:] or ["512x512", "640x480", "1024x768"]:
        measure(count, *map(int, size.split("x")))

"""What is inside a chunk: images as a zip of PNGs, features as .npy. Written here, and read with every size checked before memory is taken.

The bytes of a chunk may come from anybody: an archive may say that it unpacks to gigabytes, a picture or an array that it is as large.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from scottbench.store.files import check_name

if TYPE_CHECKING:
    import numpy as np

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every zip entry, so that equal images give equal bytes."""
LARGEST = {".zip": 2**30, ".npy": 2**28}
"""Bytes of a chunk of images, and of features, that are read at most."""
PIXELS = 2**24
"""Pixels of an image at most: 4096 x 4096."""
UNPACKED = 2**31
"""Bytes of all images of a chunk at most, decoded."""
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


class Unfit(ValueError):
    """A chunk holds something else than it should. The message ends a sentence that begins with its name."""


def pack_images(ids: Sequence[str], images: np.ndarray, each: Callable[..., Any] = map) -> bytes:
    """Return images, (n, H, W, 3) uint8, as a zip of PNGs named by item id. each: a `map` that may do several images at once. Raises
    UsageError for an id that is no file name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for item_id, picture in zip(ids, each(png, images), strict=True):
            archive.writestr(zipfile.ZipInfo(check_name(item_id, "item id") + ".png", EPOCH), picture)
    return buffer.getvalue()


def png(image: np.ndarray) -> bytes:
    """Return an image, (H, W, 3) uint8, as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    # level 1: 3x faster than the default for 10 % more bytes at 64x64
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def unpack_pictures(data: bytes, ids: Sequence[str]) -> list[bytes]:
    """Return the PNGs of a chunk of images, in the order of `ids`, without decoding them. Raises Unfit for anything but what
    `pack_images` makes: other names, packed entries, pictures that are no PNG or too large."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if [entry.filename for entry in entries] != [f"{item_id}.png" for item_id in ids]:
                raise Unfit("is no archive of the images that it should hold")
            # stored entries are no larger than the archive
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size for entry in entries):
                raise Unfit("is an archive with packed entries")
            if sum(entry.file_size for entry in entries) > len(data):
                raise Unfit("is an archive that says to be larger than it is")
            pictures = [archive.read(entry) for entry in entries]
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, OverflowError, UnicodeDecodeError, struct.error, EOFError):
        raise Unfit("is no zip archive of images") from None
    if 3 * sum(math.prod(picture_size(picture)) for picture in pictures) > UNPACKED:
        raise Unfit("holds more pixels than fit")
    return pictures


def picture_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) that a PNG names, read from its head alone. Raises Unfit where it is no PNG or has more than PIXELS."""
    if len(data) < 24 or not data.startswith(PNG):
        raise Unfit("holds a picture that is no PNG")
    width, height = struct.unpack(">II", data[16:24])
    if not 0 < width * height <= PIXELS:
        raise Unfit(f"holds a picture of {width} x {height} pixels; at most {PIXELS:,} are read")
    return width, height


def decoded(picture: bytes) -> np.ndarray:
    """Return the (H, W, 3) uint8 pixels of a PNG. Raises Unfit where it cannot be decoded or is no RGB image."""
    import numpy as np
    from PIL import Image

    picture_size(picture)
    try:
        with Image.open(io.BytesIO(picture), formats=["PNG"]) as image:
            pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise Unfit(f"holds a picture that cannot be decoded ({type(error).__name__})") from None
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise Unfit("holds a picture that is no RGB image")
    return pixels


def unpack_images(data: bytes, ids: Sequence[str]) -> np.ndarray:
    """Return the (n, H, W, 3) uint8 images of a chunk; where sizes differ, (n,) arrays (H, W, 3). Raises Unfit as `unpack_pictures` and
    `decoded`."""
    import numpy as np

    images = [decoded(picture) for picture in unpack_pictures(data, ids)]
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    found = np.empty(len(images), object)
    found[:] = images
    return found


def pack_features(features: np.ndarray) -> bytes:
    """Return features, (n, d), as .npy of float32."""
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(features, dtype=np.float32), allow_pickle=False)
    return buffer.getvalue()


def unpack_features(data: bytes, n: int) -> np.ndarray:
    """Return the (n, d) float32 features of a chunk. Raises Unfit for an array of another type, shape or length than its bytes."""
    import numpy as np

    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, kind = read_head(stream)
    except (ValueError, TypeError, SyntaxError, EOFError, MemoryError, RecursionError):
        raise Unfit("is no array file") from None
    if kind != np.dtype("<f4") or by_columns or len(shape) != 2 or shape[0] != n or shape[1] < 1:
        raise Unfit(f"is no array of {n} rows of 32-bit numbers")
    if 4 * n * shape[1] != len(data) - stream.tell():
        raise Unfit("is an array of another length than it says")
    return np.frombuffer(data, np.float32, offset=stream.tell()).reshape(shape)


def check(suffix: str, data: bytes, ids: Sequence[str]) -> None:
    """Raise Unfit unless a chunk's bytes hold the images (suffix ".zip") or features (".npy") of `ids`; no picture is decoded."""
    if suffix == ".zip":
        unpack_pictures(data, ids)
    else:
        unpack_features(data, len(ids))

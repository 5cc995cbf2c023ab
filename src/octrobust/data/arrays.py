"""Images decoded once into memory-mapped arrays, and the reader of those arrays."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from octrobust import config
from octrobust.cores import cores
from octrobust.data.index import IndexRow, index_rows
from octrobust.errors import UserError
from octrobust.files import atomic_folder, rows_of, write_csv, write_json

BLOCK = 256  # images decoded before the next are asked for
COLUMNS = ("row", "path", "label", "patient", "target")
# Pillow's modes with 8 bits a channel or fewer, and its 16-bit greys ("I" is how some versions
# open those). Others, as 32-bit floats, have no range that says what is white.
MODES_8 = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
MODES_16 = ("I", "I;16", "I;16B", "I;16L", "I;16N")
# Images (n, C, S, S) float32 in [0, 1] with targets (n,) int64.
Batch = tuple[NDArray[np.float32], NDArray[np.int64]]


class Batches(Protocol):
    """So many batches, to be gone through any number of times; a list of them is one."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


def stored_side(image_size: int) -> int:
    """The side R of a stored image, in pixels: 256/224 of the evaluation view's."""
    return round(image_size * 256 / 224)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split, in memory-mapped form.

    pixels: (N, R, R) uint8, grey; targets: (N,) int64, a label's place in ``data.classes``;
    labels, patients, paths: N strings each, patients empty where unknown; image_size: S pixels.
    """

    name: str
    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]
    labels: tuple[str, ...]
    patients: tuple[str, ...]
    paths: tuple[str, ...]
    image_size: int

    def __len__(self) -> int:
        return len(self.targets)

    def views(self, rows: Sequence[int] | NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """The evaluation view of `rows`: centre crops, (n, 1, S, S) float32 in [0, 1]."""
        if not isinstance(rows, slice):
            rows = np.asarray(rows, dtype=np.int64)
        return _views(self.pixels[rows], self.image_size)

    def batches(self, size: int) -> Batches:
        """All evaluation views in order with their targets, `size` images at a time."""
        return _InOrder(self, size)


@dataclass(frozen=True)
class _InOrder:
    images: ImageSet
    size: int

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.images), self.size):
            rows = slice(start, start + self.size)
            yield self.images.views(rows), self.images.targets[rows]


def open_split(folder: Path, name: str, image_size: int) -> ImageSet:
    """Open split `name` as `prepare` wrote it to `folder`; pixels stay on disk until read.

    Raises:
        UserError: the files are missing, damaged, or of another image size.
    """
    table = _columns(folder / f"{name}.csv")
    source = folder / f"{name}.npy"
    side = stored_side(image_size)
    try:
        pixels = np.load(source, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{source} does not exist: run `dvc repro prepare` first") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{source} is damaged ({error}): run `dvc repro prepare`") from None
    if pixels.dtype != np.uint8 or pixels.shape != (len(table["path"]), side, side):
        raise UserError(
            f"{source} holds {pixels.dtype} {pixels.shape}, where {len(table['path'])} rows at "
            f"data.image_size {image_size} need uint8 {(len(table['path']), side, side)}: "
            "run `dvc repro prepare`"
        )
    if not set(table["target"]) <= {"0", "1"}:
        raise UserError(f"{folder / name}.csv is damaged: targets must be 0 or 1: run `dvc repro`")
    return ImageSet(
        name=name,
        pixels=pixels,
        targets=np.array(table["target"], dtype=np.int64),
        labels=tuple(table["label"]),
        patients=tuple(table["patient"]),
        paths=tuple(table["path"]),
        image_size=image_size,
    )


def _columns(path: Path) -> dict[str, list[str]]:
    """A split's table by column; what rows share is one object."""
    columns: dict[str, list[str]] = {name: [] for name in COLUMNS}
    for row in rows_of(path, COLUMNS):
        for name in COLUMNS:
            value = row[name]
            columns[name].append(value if name == "path" else sys.intern(value))
    return columns


@lru_cache(maxsize=1)
def formats() -> list[str]:
    """What Pillow reads by itself, for every file that others have made."""
    Image.init()
    return sorted(set(Image.OPEN) - {"EPS", "WMF"})  # these it hands to another program


def decode(source: Path | BinaryIO, side: int) -> NDArray[np.uint8]:
    """Read an image as 8-bit grey: short side resized to `side`, centre square, (side, side).

    The geometry is torchvision's Resize and CenterCrop on a PIL image, antialiased bilinear.
    16-bit grey is scaled to 8 bits, colours are weighted to grey (ITU-R 601), alpha is dropped.

    Raises:
        UserError: the file is missing, is no image, or has a mode without a defined range.
    """
    try:
        with Image.open(source, formats=formats()) as image:
            grey = to_grey(image)
    except FileNotFoundError:
        raise UserError(f"{source} does not exist") from None
    except Exception as error:  # damaged bytes make Pillow's readers raise nearly anything
        raise UserError(f"{source} cannot be read as an image ({error})") from None
    width, height = grey.size
    short = min(width, height)
    size = (int(side * width / short), int(side * height / short))
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    square = grey.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + side, top + side))
    return np.asarray(square)


def view_of(source: Path | BinaryIO, image_size: int) -> NDArray[np.float32]:
    """The evaluation view of one image file, (1, S, S) float32 in [0, 1], as a split would give it.

    Raises:
        UserError: as `decode`.
    """
    square = decode(source, stored_side(image_size))
    return _views(square[None], image_size).reshape(1, image_size, image_size)


def _views(pixels: NDArray[np.uint8], image_size: int) -> NDArray[np.float32]:
    """Centre crops (n, 1, S, S) float32 in [0, 1] of stored images (n, R, R) uint8."""
    start = round((pixels.shape[1] - image_size) / 2)  # rounded as torchvision's CenterCrop does
    inside = slice(start, start + image_size)
    views: NDArray[np.float32] = pixels[:, None, inside, inside].astype(np.float32)
    return views / np.float32(255)


def to_grey(image: Image.Image) -> Image.Image:
    """8-bit grey; 16 bits are scaled, colours weighted (ITU-R 601), alpha dropped.

    Raises:
        ValueError: a mode without a defined range.
    """
    if image.mode in MODES_16:
        values = np.asarray(image).astype(np.float64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("values outside 16 bits")
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if image.mode not in MODES_8:
        raise ValueError(f"mode {image.mode}: convert it to 8-bit or 16-bit grey")
    if image.mode == "L":
        return image.copy()
    return image.convert("RGB").convert("L")  # by way of RGB: applies palettes, drops alpha


def prepare(
    raw: Path, splits: Path, data: config.Data, out: Path, metrics: Path, threads: int | None = None
) -> None:
    """Decode every split's images to ``out/{split}.npy``, with ``out/{split}.csv`` beside it.

    The arrays are uint8 (N, R, R), R = `stored_side`; row i is row i of ``splits/{split}.csv``.
    As many images as `threads` are decoded at a time, None: as there are cores, to the same bytes
    for any number. `out` appears whole or not at all. Numbers go to `metrics`, JSON; seconds are
    wall-clock.

    Raises:
        UserError: a split or an image is missing or cannot be read.
    """
    started = time.perf_counter()
    side = stored_side(data.image_size)
    images: dict[str, int] = {}
    with atomic_folder(out) as folder:
        for name in config.SPLITS:
            source = splits / f"{name}.csv"
            images[name] = _count(source, data.classes)
            shape = (images[name], side, side)
            _write_pixels(folder / f"{name}.npy", raw, index_rows(source), shape, threads)
            write_csv(folder / f"{name}.csv", _table(index_rows(source), data.classes), COLUMNS)
    total = sum(images.values())
    numbers = {
        "images": {**images, "total": total},
        "bytes": total * side * side,
        "seconds": round(time.perf_counter() - started, 3),
    }
    write_json(metrics, numbers)


def _count(table: Path, classes: Sequence[str]) -> int:
    """Rows of a split, whose labels are all of `classes`."""
    number = 0
    for row in index_rows(table):
        number += 1
        if row.label not in classes:
            raise UserError(
                f"{table}: '{row.path}' is labelled '{row.label}', none of data.classes "
                f"({', '.join(classes)}): run `dvc repro split`"
            )
    return number


def _write_pixels(
    target: Path,
    raw: Path,
    rows: Iterator[IndexRow],
    shape: tuple[int, int, int],
    threads: int | None,
) -> None:
    """As a plain file, a block at a time: a memory map would fill memory with what is written, and
    a pool that is handed all images at once keeps something of each."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    bar = tqdm(total=shape[0], desc=f"prepare {target.stem}", unit="image", disable=not shape[0])

    def square(row: IndexRow) -> NDArray[np.uint8]:
        if not (raw / row.path).exists():
            raise UserError(f"{raw / row.path} does not exist: run `dvc repro ingest`")
        return decode(raw / row.path, shape[1])

    # Threads, as Pillow decodes and resizes outside the interpreter's lock.
    with target.open("wb") as out, ThreadPoolExecutor(threads or cores()) as pool, bar:
        np.lib.format.write_array_header_1_0(out, header)
        while block := list(islice(rows, BLOCK)):
            for pixels in pool.map(square, block):
                out.write(pixels.tobytes())
                bar.update()


def _table(rows: Iterable[IndexRow], classes: Sequence[str]) -> Iterator[dict[str, str | int]]:
    return (
        {
            "row": number,
            "path": row.path,
            "label": row.label,
            "patient": row.patient,
            "target": classes.index(row.label),
        }
        for number, row in enumerate(rows)
    )

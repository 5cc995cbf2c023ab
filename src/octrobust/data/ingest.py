"""data/raw: images from a source, each read once to the last pixel, and their index."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from octrobust import config
from octrobust.data import sources
from octrobust.data.arrays import MODES_8, MODES_16, to_grey
from octrobust.data.catalogue import Catalogue, Picture, catalogue
from octrobust.data.index import IndexRow, write_index
from octrobust.data.look_alikes import perceptual_hash
from octrobust.errors import UserError
from octrobust.files import (
    atomic_folder,
    partial_folder,
    sha256_file,
    user_path,
    write_csv,
    write_json,
)

# No other: Pillow would hand a PostScript file named .png to an interpreter.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
SHOWN = 3  # paths quoted in an error
_CHUNK, _CHUNKS = 32, 64  # files that a worker is given at once, and is ahead by

T = TypeVar("T")


def ingest(data: config.Data, out: Path, quarantine: Path, metrics: Path, workers: int = 0) -> None:
    """Write the images of ``data.classes`` to ``out/CLASS/`` and their index to ``out/index.csv``.

    Bytes are copied unchanged. Identical ones are kept once, under the first path. Different
    images of one name are all kept, see `index.another_name`. Files that cannot be decoded, or
    show one grey only, go to `quarantine` (CSV: path in the source, error) and not to `out`; each
    file counts, also one of several with the same bytes. `out` appears whole or not at all. Numbers
    go to `metrics`, JSON.
    The result is the same for any number of `workers` (processes; 0 and 1: this one).

    Raises:
        UserError: the source is missing or unfit, more than ``data.max_quarantined`` files cannot
            be read, a class has no images, or images have the same bytes under two labels.
    """
    if data.sha256 and not data.archive:
        raise UserError("data.sha256: only data.archive is checked by it, and none is given")
    root = _root(data, out)
    # Beside `out`, on the same disk: what is made here is moved, not copied.
    with (
        partial_folder(out.with_name("ingest")) as room,
        catalogue(room / "catalogue.db") as files,
    ):
        workshop = room / "made"
        workshop.mkdir()
        files.offer(sources.named(data.source).gather(data, root, workshop, workers))
        total = files.number("file")
        files.group(_each(_hash, files.files(), total, workers, "ingest: hash"))
        firsts = files.firsts(), files.first_copies()
        files.judge(_each(_read, *firsts, workers, "ingest: check"))
        _write_quarantine(quarantine, files, total, data.max_quarantined)
        files.name()
        numbers = files.summary(data.classes)
        _check_kept(files, numbers["classes"], quarantine)
        with atomic_folder(out) as target:
            write_index(target / "index.csv", _placed(files, target, workshop))
        write_json(metrics, numbers)


def _root(data: config.Data, out: Path) -> Path | None:
    if data.root is None:
        return None
    root = user_path(data.root)
    if not root.is_dir():
        raise UserError(f"data.root: {root} is not a folder")
    if out.resolve() in (root.resolve(), *root.resolve().parents):
        raise UserError(f"data.root: {root} is in {out}, which this stage replaces: move it")
    return root


def _each(
    function: Callable[[Path], T], paths: Iterator[Path], total: int, workers: int, title: str
) -> Iterator[T]:
    """What `function` says of every path, in order."""
    yield from tqdm(_results(function, paths, workers), title, total, unit="file")


def _results(function: Callable[[Path], T], paths: Iterator[Path], workers: int) -> Iterator[T]:
    if workers <= 1:
        yield from map(function, paths)
        return
    # Spawned, not forked: the caller may have threads of its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        # Some at a time: `map` takes all that it is given before it hands out the first result.
        while some := list(islice(paths, _CHUNK * _CHUNKS * workers)):
            yield from pool.map(function, some, chunksize=_CHUNK)


def _hash(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError:
        return ""  # `_read` says why


def _read(path: Path) -> Picture | str:
    """Decode the whole image; a string says why it cannot be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            if path.stat().st_size == 0:
                return "empty file"
            with Image.open(path, formats=FORMATS) as image:
                image.verify()  # PNG's checksums, which load() passes over
            with Image.open(path, formats=FORMATS) as image:
                # A JPEG's further frames (MPO) are previews; a TIFF's are scans that would be lost.
                frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
                if frames > 1:
                    return f"{frames} images in one file"
                mode = sys.intern(image.mode)
                image.load()
                if image.format in ("JPEG", "MPO") and not _is_closed(path):
                    return "truncated: no end after its pixels"
                return Picture(image.width, image.height, mode, _phash(image))
        except UnidentifiedImageError:  # its message has the path, which may be a temporary one
            return f"none of {', '.join(FORMATS)}, or damaged at its start"
        except OSError as error:
            return error.strerror or str(error)
        except Exception as error:  # damaged bytes make Pillow's readers raise nearly anything
            return " ".join(str(error).split()) or type(error).__name__


def _is_closed(path: Path) -> bool:
    """Whether an end marker follows the JPEG's last scan. Pillow does without: to it, the zeros
    that a broken download leaves at a file's end are pixels."""
    content = path.read_bytes()
    return content.rfind(b"\xff\xd9") > content.rfind(b"\xff\xda")


def _phash(image: Image.Image) -> str:
    """Raises a `ValueError` for what is no scan of a mode that could hold one."""
    if image.mode not in (*MODES_8, *MODES_16):  # no defined range: for the expectations to say
        return ""
    grey = to_grey(image)
    if len(set(grey.getextrema())) == 1:
        raise ValueError("one and the same grey throughout")
    return perceptual_hash(grey)


def _write_quarantine(path: Path, files: Catalogue, total: int, limit: int) -> None:
    rows = ({"path": shown, "error": error} for shown, error in files.unreadable())
    write_csv(path, rows, ["path", "error"])
    number = files.quarantined()
    if number > limit:
        some = [f"{shown} ({error})" for shown, error in islice(files.unreadable(), SHOWN)]
        raise UserError(
            f"{number} of {total} images cannot be read, where data.max_quarantined is {limit}: "
            f"{'; '.join(some)}{'; ...' if number > SHOWN else ''}: {path} lists all"
        )


def _check_kept(
    files: Catalogue, images: Mapping[str, Mapping[str, int]], quarantine: Path
) -> None:
    torn = files.torn()
    if torn:
        shown = "; ".join(" = ".join(files.copies(first)) for first in torn[:SHOWN])
        raise UserError(
            f"{len(torn)} images have the same bytes under two labels: {shown}"
            f"{'; ...' if len(torn) > SHOWN else ''}: remove them from the class they are not of"
        )
    for label, of_class in images.items():
        if not of_class["images"]:
            raise UserError(f"no image of class {label} can be read: see {quarantine}")


def _placed(files: Catalogue, target: Path, workshop: Path) -> Iterator[IndexRow]:
    """Copy, or move what was made in `workshop`, to ``target/LABEL/NAME``."""
    for path, row in tqdm(files.images(), "ingest: copy", files.number("image"), unit="image"):
        place = target / row.path
        place.parent.mkdir(exist_ok=True)
        if path.is_relative_to(workshop):
            path.replace(place)
        else:
            shutil.copyfile(path, place)
        yield row

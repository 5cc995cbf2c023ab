"""data/raw: images from a source, each read once to the last pixel, and their index."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import tempfile
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from octrobust import config
from octrobust.data import sources
from octrobust.data.arrays import MODES_8, MODES_16, to_grey
from octrobust.data.folder import Candidate
from octrobust.data.index import IndexRow, another_name, parse_name, write_index
from octrobust.data.look_alikes import perceptual_hash
from octrobust.errors import UserError
from octrobust.files import (
    atomic_folder,
    sha256_file,
    user_path,
    write_csv,
    write_json,
)

# No other: Pillow would hand a PostScript file named .png to an interpreter.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
SHOWN = 3  # paths quoted in an error

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Picture:
    """Pixels, Pillow's mode, and the perceptual hash."""

    width: int
    height: int
    mode: str
    phash: str


@dataclass(frozen=True, slots=True)
class _Content:
    """Files with the same bytes, in order of their place in the source."""

    sha256: str
    files: list[Candidate]


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
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside `out`, on the same disk: what is made here is moved, not copied.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".ingest.") as name:
        workshop = Path(name)
        found = sources.named(data.source).gather(data, root, workshop, workers)
        candidates: list[Candidate] = sorted(found, key=lambda one: one.where)
        contents = _by_content(candidates, workers)
        readings = _each(_read, [one.files[0].path for one in contents], workers, "ingest: check")
        kept: list[tuple[_Content, _Picture]] = []
        unreadable: list[tuple[Candidate, str]] = []
        for content, reading in zip(contents, readings, strict=True):
            if isinstance(reading, _Picture):
                kept.append((content, reading))
            else:
                unreadable += [(one, reading) for one in content.files]
        _write_quarantine(quarantine, unreadable, len(candidates), data.max_quarantined)
        _check_kept([content for content, _ in kept], data.classes, quarantine)
        with atomic_folder(out) as target:
            rows = _place(kept, target, workshop)
            write_index(target / "index.csv", rows)
    duplicates = sum(len(content.files) - 1 for content, _ in kept)
    write_json(metrics, _summary(rows, data.classes, duplicates, len(unreadable)))


def _root(data: config.Data, out: Path) -> Path | None:
    if data.root is None:
        return None
    root = user_path(data.root)
    if not root.is_dir():
        raise UserError(f"data.root: {root} is not a folder")
    if out.resolve() in (root.resolve(), *root.resolve().parents):
        raise UserError(f"data.root: {root} is in {out}, which this stage replaces: move it")
    return root


def _by_content(candidates: Sequence[Candidate], workers: int) -> list[_Content]:
    """Group by sha256, in order of the first files; a file that cannot be read stands alone."""
    hashes = _each(_hash, [one.path for one in candidates], workers, "ingest: hash")
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for one, sha256 in zip(candidates, hashes, strict=True):
        groups[sha256 or one.where].append(one)
    return [_Content(sha256, files) for sha256, files in groups.items()]


def _each(
    function: Callable[[Path], T], paths: Sequence[Path], workers: int, title: str
) -> list[T]:
    if workers <= 1:
        return list(map(function, tqdm(paths, title, unit="file")))
    # Spawned, not forked: the caller may have threads of its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        results = pool.map(function, paths, chunksize=32)
        return list(tqdm(results, title, len(paths), unit="file"))


def _hash(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError:
        return ""  # `_read` says why


def _read(path: Path) -> _Picture | str:
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
                return _Picture(image.width, image.height, mode, _phash(image))
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


def _write_quarantine(
    path: Path, unreadable: Sequence[tuple[Candidate, str]], total: int, limit: int
) -> None:
    unreadable = sorted(unreadable, key=lambda one: one[0].where)
    rows = [{"path": one.where, "error": error} for one, error in unreadable]
    write_csv(path, rows, ["path", "error"])
    if len(rows) > limit:
        shown = "; ".join(f"{row['path']} ({row['error']})" for row in rows[:SHOWN])
        raise UserError(
            f"{len(rows)} of {total} images cannot be read, where data.max_quarantined is {limit}: "
            f"{shown}{'; ...' if len(rows) > SHOWN else ''}: {path} lists all"
        )


def _check_kept(kept: Sequence[_Content], classes: Sequence[str], quarantine: Path) -> None:
    torn = [content for content in kept if len({one.label for one in content.files}) > 1]
    if torn:
        shown = "; ".join(" = ".join(one.where for one in each.files) for each in torn[:SHOWN])
        raise UserError(
            f"{len(torn)} images have the same bytes under two labels: {shown}"
            f"{'; ...' if len(torn) > SHOWN else ''}: remove them from the class they are not of"
        )
    for label in classes:
        if not any(content.files[0].label == label for content in kept):
            raise UserError(f"no image of class {label} can be read: see {quarantine}")


def _place(
    kept: Sequence[tuple[_Content, _Picture]], target: Path, workshop: Path
) -> list[IndexRow]:
    """Copy, or move what was made in `workshop`, to ``target/LABEL/NAME``; rows sorted by path."""
    names = _names([content.files[0] for content, _ in kept])
    rows = []
    for content, picture in tqdm(kept, "ingest: copy", unit="image"):
        one = content.files[0]
        name = names[one]
        place = target / one.label / name
        place.parent.mkdir(exist_ok=True)
        if one.path.is_relative_to(workshop):
            one.path.replace(place)
        else:
            shutil.copyfile(one.path, place)
        patient, number = parse_name(name, one.label)
        rows.append(
            IndexRow(
                path=f"{one.label}/{name}",
                label=one.label,
                patient=patient,
                image=number,
                sha256=content.sha256,
                width=picture.width,
                height=picture.height,
                mode=picture.mode,
                phash=picture.phash,
            )
        )
    return sorted(rows, key=lambda row: row.path)


def _names(candidates: Sequence[Candidate]) -> dict[Candidate, str]:
    """Unique names within a label: the first to come keeps its own."""
    names: dict[Candidate, str] = {}
    taken = set()
    for one in candidates:
        if _place_key(one.label, one.name) not in taken:
            taken.add(_place_key(one.label, one.name))
            names[one] = one.name
    for one in candidates:
        attempt = 0
        while one not in names:
            attempt += 1
            name = another_name(one.name, one.label, attempt)
            if _place_key(one.label, name) not in taken:
                taken.add(_place_key(one.label, name))
                names[one] = name
    return names


def _place_key(label: str, name: str) -> tuple[str, str]:
    """Equal for names that some file systems take for one."""
    return label, unicodedata.normalize("NFC", name).casefold()


def _summary(
    rows: Sequence[IndexRow], classes: Sequence[str], duplicates: int, quarantined: int
) -> Mapping[str, Any]:
    return {
        **_counts(rows),
        "classes": {
            label: _counts([row for row in rows if row.label == label]) for label in classes
        },
        "duplicates": duplicates,
        "quarantined": quarantined,
        "widths": _range([row.width for row in rows]),
        "heights": _range([row.height for row in rows]),
    }


def _counts(rows: Sequence[IndexRow]) -> dict[str, int]:
    """Images, and known patients."""
    return {
        "images": len(rows),
        "patients": len({row.patient for row in rows if row.patient}),
    }


def _range(values: Sequence[int]) -> dict[str, int]:
    return {"min": min(values), "max": max(values)}

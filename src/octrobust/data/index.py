"""The index of images: which file, whose, of what, and its checksum."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath

from octrobust.errors import UserError
from octrobust.files import rows_of, write_csv

# Kermany's numbers stay far below, so a number with this added cannot be one of theirs.
RENUMBER = 1_000_000
# A patient is letters and digits, at least one digit: "CNV-scan-3.png" names no patient.
_PATIENT = r"([A-Za-z0-9_]*[0-9][A-Za-z0-9_]*)"


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One image.

    path: posix, relative to data/raw; patient and image (its number): empty where unknown;
    sha256: of the file's bytes, lower-case hexadecimal; width, height: pixels; mode: Pillow's
    name of the pixel format as stored (L, RGB, I;16, ...); phash: what `look_alikes` compares,
    empty where the format has no defined range.
    """

    path: str
    label: str
    patient: str
    image: str
    sha256: str
    width: int
    height: int
    mode: str
    phash: str = ""


COLUMNS = tuple(field.name for field in fields(IndexRow))


def read_index(path: Path) -> list[IndexRow]:
    """Read an index or a split.

    Raises:
        UserError: the file is missing or is no index, or a path leads out of data/raw.
    """
    return list(index_rows(path))


def index_rows(path: Path) -> Iterator[IndexRow]:
    """The same, a row at a time."""
    try:
        yield from map(_row, rows_of(path, COLUMNS))
    except ValueError as error:
        raise UserError(f"{path} is not an index of images ({error}): run `dvc repro`") from None


def _row(values: dict[str, str]) -> IndexRow:
    path = PurePosixPath(values["path"])
    if path.is_absolute() or ".." in path.parts or "\0" in values["path"]:
        raise ValueError(f"'{path}' is outside data/raw")
    # One object for what many rows share: an index may have a hundred thousand.
    shared = {name: sys.intern(values[name]) for name in ("label", "patient", "image", "mode")}
    numbers = {name: int(values[name]) for name in ("width", "height")}
    return IndexRow(**{**values, **shared, **numbers})  # type: ignore[arg-type]


def write_index(path: Path, rows: Iterable[IndexRow]) -> None:
    """Write `rows` in the order given."""
    write_csv(path, ({name: getattr(row, name) for name in COLUMNS} for row in rows), COLUMNS)


def parse_name(name: str, label: str) -> tuple[str, str]:
    """Patient and image number from a file name like ``CLASS-PATIENT-N.ext``, Kermany's.

    Both are empty for any other name.
    """
    found = re.fullmatch(rf"{re.escape(label)}-{_PATIENT}-([0-9]+)\.[A-Za-z]+", name)
    return (found[1], found[2]) if found else ("", "")


def another_name(name: str, label: str, attempt: int) -> str:
    """A name for a second image called `name`; attempt: 1, 2, ...

    ``CNV-5-7.jpeg`` becomes ``CNV-5-1000007.jpeg``, so that the patient stays readable; any
    other name gets ``~2``, ``~3``, ...
    """
    patient, image = parse_name(name, label)
    suffix = PurePosixPath(name).suffix
    if patient:
        return f"{label}-{patient}-{int(image) + attempt * RENUMBER}{suffix}"
    return f"{name.removesuffix(suffix)}~{attempt + 1}{suffix}"

"""Any directory of CLASS/... images."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from octrobust.errors import UserError

_BREAKING = ("Cc", "Zl", "Zp")  # Unicode's control characters, line and paragraph separators
EXTENSIONS = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that should be an image.

    path: the bytes; where: its path in the source, which orders it and is shown to people; name:
    the file name it would have in data/raw/LABEL.
    """

    path: Path
    where: str
    label: str
    name: str


def find(root: Path, classes: Sequence[str]) -> Iterator[Candidate]:
    """Every image in ``root/CLASS/``, at any depth, in no order that counts.

    Other folders and files of `root` are left alone, as is anything hidden. Links are followed.

    Raises:
        UserError: a class has no images.
    """
    for label in classes:
        here, any_found = root / label, False
        for inside, path in files_under(here):
            if is_image(inside):
                any_found = True
                yield Candidate(path, f"{label}/{inside}", label, inside.name)
        if not any_found:
            raise no_images(label, here, root)


def is_image(inside: PurePosixPath) -> bool:
    """Whether a path in a source has an image's extension and no hidden or macOS part."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in inside.parts)
    return not hidden and inside.suffix.lower() in EXTENSIONS


def files_under(root: Path) -> Iterator[tuple[PurePosixPath, Path]]:
    """Every file under `root`, as (path relative to it, path); nothing if `root` is no folder.

    Links are followed, to each folder once, so a loop ends. A link that leads nowhere counts as a
    file: it stands for one that cannot be read. Bytes of a name that are not UTF-8, and line
    breaks and other control characters, become U+FFFD in the relative path.

    Raises:
        UserError: a folder cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    try:
        for folder, inner, names in os.walk(root, followlinks=True, onerror=_refuse):
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                inner.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            inner.sort()  # which of two links to a folder is followed must not depend on the disk
            for name in sorted(names):
                path = Path(folder) / name
                # Not pipes and devices: to open one could wait for ever.
                if path.is_file() or not path.exists():
                    yield PurePosixPath(_decoded(path.relative_to(root))), path
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from None


def no_images(label: str, where: Path, root: Path) -> UserError:
    """The error for a class without images, with what there is instead."""
    folders = sorted(_decoded(path) for path in root.iterdir() if path.is_dir())
    there = ", ".join(repr(Path(folder).name) for folder in folders[:8]) or "no folders"
    return UserError(
        f"no images of class {label} in {where} ({', '.join(EXTENSIONS)}); {root} has {there}: "
        "see data.root and data.classes"
    )


def _refuse(error: OSError) -> None:
    """os.walk passes over what it cannot list; half a data set must not pass for a whole one."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _decoded(path: Path) -> str:
    return readable(os.fsencode(path.as_posix()).decode("utf-8", "replace"))


def readable(name: str) -> str:
    """`name` with U+FFFD for line breaks and control characters, which no table or page holds."""
    return "".join("\ufffd" if unicodedata.category(c) in _BREAKING else c for c in name)

"""Images out of a zip or tar archive that nobody vouches for.

Files are stored under names of our own, so nothing in the archive decides where bytes go. An
archive that tries is refused all the same: it is not the data set it claims to be.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from octrobust.errors import UserError

# Limits far above Kermany's set: both trees on Kaggle are 170,000 images of 12 GB together, doubled
# in number by macOS's files, and JPEGs hardly shrink in an archive.
MAX_MEMBERS = 1_000_000
MAX_BYTES = 64 << 30
MAX_FILE_BYTES = 64 << 20  # a 16-bit scan of 4096 x 4096 pixels is half of it
MAX_RATIO = 50
_PIECE = 1 << 20
RATIO_FROM = 1 << 30  # small archives may be anything: headers and padding shrink well

_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    struct.error,
    ValueError,  # names that do not decode, numbers that are none
    OSError,
    RecursionError,  # tar's headers of headers
)
# What tar is packed with, by its first bytes.
_PACKED = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))


@dataclass(frozen=True)
class _Member:
    """name: as in the archive; size: bytes unpacked; end: bytes of the archive read by then."""

    name: str
    size: int
    end: int
    is_folder: bool
    is_file: bool
    open: Callable[[], IO[bytes]]


def extract(
    archive: Path, target: Path, wanted: Callable[[PurePosixPath], bool]
) -> Iterator[tuple[PurePosixPath, Path]]:
    """Unpack the `wanted` files into the folder `target`, as (path in the archive, file).

    A file is named by its sha256, so contents that come twice are written once and listed twice.
    Order is the archive's. Zip, and tar plain or compressed, are told apart by content.

    Raises:
        UserError: the archive is damaged or encrypted, unpacks to more than the limits
            above, or has a member that is a link or device or would lie outside.
    """
    size = archive.stat().st_size
    total = 0
    try:
        with tqdm(total=size, desc="ingest: unpack", unit="B", unit_scale=True) as bar:
            for count, member in enumerate(_members(archive), 1):
                total += member.size
                _check_limits(archive, member, count, total, size)
                inside = _inside(archive, member)
                if not member.is_folder and wanted(inside):
                    with member.open() as source:
                        # In pieces: asked for all at once, zipfile unpacks whatever is there, not
                        # what the member says of its size.
                        content = b"".join(iter(partial(source.read, _PIECE), b""))
                    yield inside, _store(content, target)
                bar.update(max(member.end - bar.n, 0))
            bar.update(size - bar.n)
    except _DAMAGE as error:
        raise UserError(f"data.archive: {archive} cannot be unpacked ({error})") from None


def _store(content: bytes, target: Path) -> Path:
    path = target / hashlib.sha256(content).hexdigest()
    if not path.exists():
        path.write_bytes(content)
    return path


def _check_limits(archive: Path, member: _Member, count: int, total: int, size: int) -> None:
    if count > MAX_MEMBERS:
        problem = f"more than {MAX_MEMBERS} members"
    elif member.size > MAX_FILE_BYTES and not member.is_folder:
        problem = f"{member.name!r} of {member.size} bytes"
    elif member.size < 0:  # tarfile would come back to it for ever
        problem = f"{member.name!r} of a negative size"
    elif total > MAX_BYTES or total > max(RATIO_FROM, MAX_RATIO * size):
        problem = f"{total} bytes by {member.name!r}, from {size} bytes packed"
    else:
        return
    raise UserError(
        f"data.archive: {archive} has {problem}, too much for a set of scans: "
        "unpack it yourself if you trust it, and give data.root"
    )


def _inside(archive: Path, member: _Member) -> PurePosixPath:
    """The member's path, refused if it is not plainly inside."""
    path = PurePosixPath(member.name.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", member.name)
    if outside:
        problem = "lies outside the archive's folder"
    elif not (member.is_file or member.is_folder):
        problem = "is a link or a device"
    else:
        return path
    raise UserError(
        f"data.archive: {archive} is refused: its member {member.name!r} {problem}; "
        "get the archive from its publisher"
    )


def _members(archive: Path) -> Iterator[_Member]:
    # Tar first: a zip file within an uncompressed tar looks like a zip at its end.
    if _is_tar(archive):
        yield from _of_tar(archive)
    elif zipfile.is_zipfile(archive):
        yield from _of_zip(archive)
    else:
        raise UserError(
            f"data.archive: {archive} is neither a zip nor a tar archive, or was cut short: "
            "download it again"
        )


def _of_zip(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as source:
        for info in sorted(source.infolist(), key=lambda info: info.header_offset):
            if info.flag_bits & 1:
                raise UserError(f"data.archive: {archive} is encrypted: decrypt it first")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # zipfile unpacks others without a bound.
                raise UserError(
                    f"data.archive: {archive} is refused: {info.filename!r} is packed by another "
                    "method than deflate: unpack it yourself if you trust it, and give data.root"
                )
            # The upper half holds Unix's mode, or zeros from elsewhere.
            kind = stat.S_IFMT(info.external_attr >> 16)
            yield _Member(
                name=info.filename,
                size=info.file_size,
                end=info.header_offset + info.compress_size,
                is_folder=info.is_dir() and kind in (0, stat.S_IFDIR),
                is_file=not info.is_dir() and kind in (0, stat.S_IFREG),
                open=partial(source.open, info),
            )


class _Frugal(io.BufferedReader):
    """Refuses to be read in pieces larger than any file may be.

    Tar's long names and the like are read whole before a member is shown, so that a header's size
    must be checked here: gigabytes of zeros pack to a few megabytes.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size > MAX_FILE_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def _plain(packed: IO[bytes]) -> _Frugal:
    """A tar's own bytes."""
    start = packed.read(6)
    packed.seek(0)
    for magic, unpack in _PACKED:
        if start.startswith(magic):
            return _Frugal(unpack(packed))
    return _Frugal(packed)  # type: ignore[arg-type]


def _is_tar(archive: Path) -> bool:
    try:
        with archive.open("rb") as packed:
            tarfile.TarInfo.frombuf(_plain(packed).read(tarfile.BLOCKSIZE), "utf-8", "replace")
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError):
        return False
    return True


def _of_tar(archive: Path) -> Iterator[_Member]:
    # Not tarfile's stream mode: that one does not check gzip's length and checksum.
    with (
        archive.open("rb") as packed,
        tarfile.open(fileobj=_plain(packed), mode="r:", errors="replace") as source,
    ):
        for info in source:
            yield _Member(
                name=info.name,
                size=info.size,
                end=packed.tell(),
                is_folder=info.isdir(),
                is_file=info.isreg(),
                open=partial(_opened, source, info),
            )
        _check_end(source)


def _opened(source: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = source.extractfile(info)
    assert stream is not None  # only files are opened
    return stream


def _check_end(source: tarfile.TarFile) -> None:
    """Raise if the members stopped short.

    tarfile takes a damaged header for the end, and never reads as far as gzip's checksum.
    """
    assert source.fileobj is not None
    source.fileobj.seek(source.offset)
    if source.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("cut short or damaged")
    while source.fileobj.read(1 << 20):
        pass

"""Archives: Kermany's layouts unpacked, and what would write outside, swell or link away."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import pytest

from octrobust.data import archives
from octrobust.data.archives import extract
from octrobust.errors import UserError

Members = Sequence[tuple[str, bytes]]


def make_zip(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members:
            out.writestr(name, content)
    return path


def make_tar(path: Path, members: Members) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return path


MAKERS = pytest.mark.parametrize("make", [make_zip, make_tar])
Maker = Callable[[Path, Members], Path]


def is_jpeg(name: PurePosixPath) -> bool:
    return name.suffix == ".jpeg"


def contents(found: list[tuple[PurePosixPath, Path]]) -> list[tuple[str, bytes]]:
    return [(str(name), path.read_bytes()) for name, path in found]


def refused(archive: Path, folder: Path) -> str:
    """The error; nothing may have been written but the archive itself."""
    target = folder / "deep" / "target"
    target.mkdir(parents=True)
    with pytest.raises(UserError) as error:
        list(extract(archive, target, lambda name: True))
    assert sorted(folder.rglob("*")) == sorted([archive, target.parent, target])
    return str(error.value)


@MAKERS
def test_only_the_wanted_are_written_and_twins_once(tmp_path: Path, make: Maker) -> None:
    members = [("a /x.jpeg", b"one"), ("a /x.txt", b"two"), ("b/x.jpeg", b"one"), ("x.jpeg", b"3")]
    target = tmp_path / "target"
    target.mkdir()
    found = extract(make(tmp_path / "archive", members), target, is_jpeg)
    assert contents(found) == [("a /x.jpeg", b"one"), ("b/x.jpeg", b"one"), ("x.jpeg", b"3")]
    assert len(list(target.iterdir())) == 2


@MAKERS
@pytest.mark.parametrize(
    "name",
    ["../evil.jpeg", "a/../../evil.jpeg", "/tmp/evil.jpeg", "..\\evil.jpeg", "C:\\evil.jpeg"],
)
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, make: Maker, name: str) -> None:
    message = refused(make(tmp_path / "archive", [(name, b"evil")]), tmp_path)
    assert repr(name) in message


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = tmp_path / "archive"
    with tarfile.open(archive, "w:gz") as out:
        info = tarfile.TarInfo("CNV/x.jpeg")
        info.type, info.linkname = kind, "/etc/passwd"
        out.addfile(info)
    assert "'CNV/x.jpeg' is a link or a device" in refused(archive, tmp_path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, kind: int) -> None:
    info = zipfile.ZipInfo("CNV/x.jpeg")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    archive = tmp_path / "archive"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr(info, "/etc/passwd")
    assert "'CNV/x.jpeg' is a link or a device" in refused(archive, tmp_path)


@MAKERS
@pytest.mark.parametrize(
    ("limit", "value", "problem"),
    [
        ("MAX_MEMBERS", 2, "more than 2 members"),
        ("MAX_FILE_BYTES", 9_999, "'b' of 10000 bytes"),
        ("MAX_BYTES", 19_999, "20000 bytes by 'c'"),
        ("RATIO_FROM", 19_999, "20000 bytes by 'c', from"),
    ],
)
def test_a_bomb_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Maker,
    limit: str,
    value: int,
    problem: str,
) -> None:
    members = [("a", b""), ("b", bytes(10_000)), ("c", bytes(10_000))]
    archive = make(tmp_path / "archive", members)
    target = tmp_path / "target"
    target.mkdir()
    assert len(list(extract(archive, target, lambda name: True))) == 3
    monkeypatch.setattr(archives, limit, value)
    with pytest.raises(UserError, match=problem):
        list(extract(archive, target, lambda name: False))  # also where nothing is wanted


@MAKERS
def test_an_archive_cut_short_is_an_error_wherever_it_is_cut(tmp_path: Path, make: Maker) -> None:
    members = [(f"CNV/{i}.jpeg", os.urandom(700)) for i in range(6)]
    archive = make(tmp_path / "archive", members)
    whole = archive.read_bytes()
    target = tmp_path / "target"
    target.mkdir()
    for length in range(0, len(whole), 97):
        archive.write_bytes(whole[:length])
        with pytest.raises(UserError, match=str(archive)):
            list(extract(archive, target, lambda name: True))


@MAKERS
def test_a_flipped_bit_is_an_error(tmp_path: Path, make: Maker) -> None:
    random = os.urandom(700)
    archive = make(tmp_path / "archive", [("CNV/1.jpeg", random)])
    damaged = bytearray(archive.read_bytes())
    damaged[damaged.find(random[300:320])] ^= 1  # stored as it is: noise does not shrink
    archive.write_bytes(damaged)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(UserError, match="cannot be unpacked"):
        list(extract(archive, target, lambda name: True))


def test_a_damaged_header_is_not_the_end_of_a_plain_tar(tmp_path: Path) -> None:
    members = [(f"CNV/{i}.jpeg", b"x") for i in range(3)]
    archive = make_tar(tmp_path / "archive", members)
    plain = bytearray(gzip.decompress(archive.read_bytes()))
    plain[1024] ^= 1  # the first letter of the second member's name
    archive.write_bytes(plain)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(UserError, match="cut short or damaged"):
        list(extract(archive, target, lambda name: True))


def test_a_plain_tar_a_tar_holding_a_zip_and_an_encrypted_zip(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    inner = make_zip(tmp_path / "inner", [("y.jpeg", b"zip")]).read_bytes()
    packed = make_tar(tmp_path / "packed", [("x.jpeg", b"tar"), ("inner.zip", inner)])
    plain = tmp_path / "plain"
    plain.write_bytes(gzip.decompress(packed.read_bytes()))
    assert contents(extract(plain, target, is_jpeg)) == [("x.jpeg", b"tar")]

    encrypted = bytearray(inner)
    encrypted[encrypted.find(b"PK\1\2") + 8] |= 1  # the flag in the central directory
    plain.write_bytes(encrypted)
    with pytest.raises(UserError, match="encrypted"):
        list(extract(plain, target, is_jpeg))


def pax(size: int) -> bytes:
    """A header that says: `size` bytes of the next member's attributes follow."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("before", [0, 1], ids=["first", "second"])
def test_a_header_that_swells_is_refused_before_it_is_read(tmp_path: Path, before: int) -> None:
    archive = tmp_path / "archive"
    with gzip.open(archive, "wb") as out:
        folder = tarfile.TarInfo("CNV")
        folder.type = tarfile.DIRTYPE
        out.write(folder.tobuf() * before)
        out.write(pax(archives.MAX_FILE_BYTES + 1))
        out.write(bytes(1 << 20))  # the rest need not be there: it would be read to its end
    assert "a header of 671" in refused(archive, tmp_path)


def test_headers_of_headers_are_an_error(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(pax(0) * 3000 + bytes(1024))
    assert "cannot be unpacked" in refused(archive, tmp_path)


def test_a_zip_that_lies_about_a_size(tmp_path: Path) -> None:
    """Nor is what it really holds unpacked into memory."""
    archive = make_zip(tmp_path / "archive", [("x.jpeg", bytes(200 << 20))])
    data = bytearray(archive.read_bytes())
    for at, offset in ((data.find(b"PK\1\2"), 24), (data.find(b"PK\3\4"), 22)):
        data[at + offset : at + offset + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(data)
    tracemalloc.start()
    try:
        assert "cannot be unpacked" in refused(archive, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_a_bound_are_refused(tmp_path: Path, method: int) -> None:
    archive = tmp_path / "archive"
    with zipfile.ZipFile(archive, "w", method) as out:
        out.writestr("x.jpeg", bytes(1000))
    assert "another method than deflate" in refused(archive, tmp_path)


def test_a_tar_whose_member_has_a_negative_size(tmp_path: Path) -> None:
    """Which makes tarfile read the same header again and again."""
    info = tarfile.TarInfo("x.jpeg")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"  # -512, as GNU writes it
    header[148:156] = b"        "
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    archive = tmp_path / "archive"
    archive.write_bytes(header + bytes(20 * 512))
    assert "of a negative size" in refused(archive, tmp_path)


@pytest.mark.parametrize("content", [b"text", b"\x1f\x8b", b"\x89PNG\r\n\x1a\n", bytes(100)])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    assert "neither a zip nor a tar archive" in refused(archive, tmp_path)

"""Bad images and source folders: what ingest refuses, and what it takes in spite of its looks."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from octrobust.data.arrays import decode
from octrobust.files import read_csv
from tests.conftest import Refused, picture
from tests.unit.test_ingest import Case, two_classes


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def array(values: object, dtype: type = np.uint8) -> Image.Image:
    return Image.fromarray(np.asarray(values, dtype))


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def header(width: int, height: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)


def with_text() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * (2 << 20), zip=True)  # 2 MB in 2 kB
    return saved(NOISE, "PNG", pnginfo=info)


NOISE = array(np.random.default_rng(0).integers(0, 256, (64, 64)))
JPEG, PNG, BMP = saved(NOISE, "JPEG"), saved(NOISE, "PNG"), saved(NOISE, "BMP")
GREY = np.full((9, 12), 100)
SLOPE = np.arange(108).reshape(9, 12)
PIXELS = (b"IDAT", zlib.compress(bytes(9)))
END = (b"IEND", b"")
# Name: content, and what the error says.
BAD: dict[str, tuple[bytes, str]] = {
    "empty.jpeg": (b"", "empty file"),
    "one byte.jpeg": (b"\xff", "none of JPEG"),
    "zeros.png": (bytes(5000), "none of JPEG"),
    "text.png": (b"not found", "none of JPEG"),
    "page.jpg": (b"<!DOCTYPE html><html>404</html>", "none of JPEG"),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of JPEG"),
    "document.png": (b"%PDF-1.7\n1 0 obj\n", "none of JPEG"),
    "dicom.tif": (bytes(128) + b"DICM" + bytes(200), "none of JPEG"),
    "archive.jpeg": (b"PK\3\4" + bytes(60), "none of JPEG"),
    "array.png": (b"\x93NUMPY\1\0v\0{}", "none of JPEG"),
    "animation.png": (saved(NOISE, "GIF"), "none of JPEG"),
    "webp.jpg": (saved(NOISE, "WEBP"), "none of JPEG"),
    "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "none of JPEG"),
    "start.jpeg": (JPEG[:20], "none of JPEG"),
    "half.jpeg": (JPEG[: len(JPEG) // 2], "truncated"),
    "last byte missing.jpeg": (JPEG[:-1], "truncated"),
    "half progressive.jpeg": (saved(NOISE, "JPEG", progressive=True)[:2000], "truncated"),
    "padded with zeros.jpeg": (JPEG[:2000] + bytes(len(JPEG) - 2000), "truncated"),
    "half.png": (PNG[: len(PNG) // 2], "Truncated"),
    "end missing.png": (PNG[:-12], "truncated"),
    "pixel changed.png": (flipped(PNG, len(PNG) // 2), ""),
    "checksum changed.png": (flipped(PNG, len(PNG) - 14), ""),
    "no pixels.png": (png(header(5, 5), END), ""),
    "no width.png": (png(header(0, 5), PIXELS, END), ""),
    "bomb.png": (png(header(60_000, 60_000), PIXELS, END), "bomb"),
    "half a bomb.png": (png(header(10_000, 10_000), PIXELS, END), "bomb"),
    "text bomb.png": (with_text(), "too large"),
    "half.bmp": (BMP[: len(BMP) // 2], ""),
    "bomb.bmp": (BMP[:18] + struct.pack("<ii", 10_000, 10_000) + BMP[26:], "bomb"),
    "half.tiff": (saved(NOISE, "TIFF", compression="tiff_lzw")[:2000], ""),
    "no directory.tiff": (b"II*\0\xff\xff\xff\x7f" + bytes(50), ""),
    "volume.tiff": (
        saved(NOISE, "TIFF", save_all=True, append_images=[array(GREY), array(SLOPE)]),
        "3 images in one file",
    ),
    "beyond 16 bits.tiff": (saved(array(SLOPE * 1000, np.int32), "TIFF"), "outside 16 bits"),
    "below zero.tiff": (saved(array(SLOPE - 1, np.int32), "TIFF"), "outside 16 bits"),
    "black.png": (saved(array(GREY * 0), "PNG"), "one and the same grey"),
    "grey.jpeg": (saved(array(GREY), "JPEG"), "one and the same grey"),
    "white in colour.bmp": (saved(Image.new("RGB", (9, 9), "white"), "BMP"), "one and the same"),
    "one ink.jpeg": (saved(Image.new("CMYK", (9, 9), (9, 9, 9, 9)), "JPEG"), "one and the same"),
    "palette of one.png": (saved(Image.new("P", (9, 9), 3), "PNG"), "one and the same grey"),
    "shape in alpha.png": (
        saved(Image.merge("LA", (array(GREY), array(SLOPE))), "PNG"),
        "one and the same grey",
    ),
    "dark 16 bits.png": (saved(array(SLOPE, np.uint16), "PNG"), "one and the same grey"),
    "one pixel.png": (saved(array([[7]]), "PNG"), "one and the same grey"),
}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return two_classes(Case(tmp_path))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_stops_the_run_or_is_left_out(name: str, case: Case, refused: Refused) -> None:
    content, expected = BAD[name]
    good = case.run()
    before = case.written()
    case.add({f"CNV/{name}": content})
    message = refused(case.run)
    assert message.startswith("1 of 3 images cannot be read, where data.max_quarantined is 0")
    assert f"CNV/{name} (" in message
    assert case.written() == before
    assert case.run(max_quarantined=1) == good
    (listed,) = read_csv(case.quarantine)
    assert listed["path"] == f"CNV/{name}"
    assert expected in listed["error"]
    assert str(case.root) not in listed["error"]


GOOD = {
    "CMYK.jpeg": saved(array(SLOPE).convert("CMYK"), "JPEG"),
    "palette.png": saved(array(SLOPE).convert("P"), "PNG"),
    "alpha.png": saved(array(SLOPE).convert("RGBA"), "PNG"),
    "one bit.png": saved(array(SLOPE * 2).convert("1"), "PNG"),
    "16 bits.png": saved(array(SLOPE * 600, np.uint16), "PNG"),
    "16 bits.tiff": saved(array(SLOPE * 600, np.uint16), "TIFF"),
    "YCbCr.tiff": saved(array(SLOPE).convert("YCbCr"), "TIFF"),
    "progressive.JPG": saved(array(SLOPE), "JPEG", progressive=True),
    "another extension.png": saved(array(SLOPE), "JPEG", quality=60),
}


def test_other_modes_and_formats_are_taken(case: Case) -> None:
    case.add({f"CNV/{name}": content for name, content in GOOD.items()})
    assert len(case.run()) == 2 + len(GOOD)
    for name in GOOD:
        pixels = decode(case.out / "CNV" / name, 91)
        assert (pixels.shape, pixels.dtype) == ((91, 91), np.uint8)
        assert np.ptp(pixels) > 20


def test_floats_and_what_is_not_a_number_have_no_grey(case: Case, refused: Refused) -> None:
    """They are taken as they are; their mode is refused by the next stage, test_expectations.py
    has it, and by what would decode them."""
    values = np.full((40, 40), 0.5, np.float32)
    values[3, 4], values[5, 6] = np.nan, np.inf
    case.add({"CNV/nan.tif": saved(Image.fromarray(values), "TIFF")})
    assert {row.path: row.mode for row in case.run()}["CNV/nan.tif"] == "F"
    assert "nan.tif" in refused(lambda: decode(case.out / "CNV" / "nan.tif", 91))


def test_names_of_every_kind(case: Case) -> None:
    names = [
        "two  words.png",
        "été 網膜 \U0001f441.png",
        'a,b;"c".png',
        "-rf.png",
        "$(id) & `id`.png",
        "%41#?.png",
        "line\nbreak.png",
        "return\rtab\t.png",
        "\x1b[31mred.png",
        "paragraph\u2029.png",
        "n" * 250 + ".png",
        "UPPER.PNG",
    ]
    case.add({f"CNV/{name}": picture(10 + i, "PNG") for i, name in enumerate(names)})
    rows = case.run()
    assert len(rows) == 2 + len(names)
    for row in rows:
        assert (case.out / row.path).is_file()
        assert "".join(row.path.splitlines()) == row.path
        assert "\x1b" not in row.path


def test_litter_is_no_image(case: Case) -> None:
    litter = [".DS_Store", "Thumbs.db", "desktop.ini", "._CNV-2-1.jpeg", "__MACOSX/CNV-9-1.jpeg"]
    litter += [".hidden/CNV-9-1.jpeg", "notes.txt", "CNV-2-1.jpeg.part", "index.csv", ".jpeg"]
    case.add({f"CNV/{name}": b"litter" for name in litter})
    (case.root / "CNV" / "folder.png").mkdir()
    assert len(case.run()) == 2


@pytest.mark.parametrize("name", ["two words", "été 網膜 \U0001f441", "50 % #1 ?", "'\"quoted\"'"])
def test_paths_with_spaces_and_other_scripts(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    assert len(two_classes(Case(tmp_path / name)).run()) == 2


def no_cnv(case: Case) -> None:
    (case.root / "CNV" / "CNV-2-1.jpeg").unlink()


def lower_case(case: Case) -> None:
    (case.root / "CNV").rename(case.root / "cnv")


def a_file_for_a_class(case: Case) -> None:
    no_cnv(case)
    (case.root / "CNV").rmdir()
    (case.root / "CNV").write_bytes(picture(1))


def a_loop_for_a_class(case: Case) -> None:
    no_cnv(case)
    (case.root / "CNV").rmdir()
    (case.root / "CNV").symlink_to("CNV")


def only_litter(case: Case) -> None:
    no_cnv(case)
    case.add({"CNV/.DS_Store": b"x", "CNV/Thumbs.db": b"x", "CNV/scan.dcm": b"x"})


def in_both_classes(case: Case) -> None:
    case.add({"NORMAL/NORMAL-3-1.jpeg": picture(2)})


def a_loop_for_the_root(case: Case) -> None:
    case.root = case.root.parent / "loop"
    case.root.symlink_to("loop")


def a_file_for_the_root(case: Case) -> None:
    case.root = case.root / "CNV" / "CNV-2-1.jpeg"


def too_long(case: Case) -> None:
    case.root = case.root / ("n" * 300)


def nobody(case: Case) -> None:
    case.root = Path("~nobody-here/scans")


SOURCES: dict[Callable[[Case], None], str] = {
    no_cnv: "no images of class CNV",
    lower_case: "has 'NORMAL', 'cnv'",
    a_file_for_a_class: "no images of class CNV",
    a_loop_for_a_class: "CNV",
    only_litter: "no images of class CNV",
    in_both_classes: "CNV/CNV-2-1.jpeg = NORMAL/NORMAL-3-1.jpeg",
    a_loop_for_the_root: "is not a folder",
    a_file_for_the_root: "is not a folder",
    too_long: "too long",
    nobody: "no such home folder",
}


@pytest.mark.parametrize("damage", SOURCES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("source", ["folder", "kermany"])
def test_a_bad_source(
    source: str, damage: Callable[[Case], None], case: Case, refused: Refused
) -> None:
    case.run()
    before = case.written()
    damage(case)
    assert SOURCES[damage] in refused(lambda: case.run(source=source))
    assert case.written() == before
    assert not list(case.out.parent.glob(".*"))


@pytest.mark.parametrize("place", ["data", "reports", "metrics", "data/raw"])
def test_a_file_where_a_result_goes(place: str, case: Case, refused: Refused) -> None:
    path = case.out.parent.parent / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    assert str(path) in refused(case.run)
    assert path.read_text() == "mine"

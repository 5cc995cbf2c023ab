"""Ingest: every image read once to its last pixel, duplicates, quarantine, names."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from octrobust.data.catalogue import Catalogue, Picture
from octrobust.data.folder import Candidate
from octrobust.data.index import IndexRow, another_name, parse_name, read_index, write_index
from octrobust.data.ingest import ingest
from octrobust.errors import UserError
from octrobust.files import read_csv
from tests.conftest import data_section, picture


class Case:
    """A source folder, and ingest run on it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "source"
        self.out = folder / "data" / "raw"
        self.quarantine = folder / "reports" / "quarantine.csv"
        self.metrics = folder / "metrics" / "ingest.json"
        self.root.mkdir()

    def add(self, files: dict[str, bytes]) -> Case:
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return self

    def run(self, workers: int = 0, **changes: object) -> list[IndexRow]:
        phantom = {"patients_per_class": 2, "images_per_patient": 2, "seed": 1}
        values = {"source": "folder", "root": str(self.root), "phantom": phantom}
        data = data_section(**{**values, **changes})
        ingest(data, self.out, self.quarantine, self.metrics, workers)
        return read_index(self.out / "index.csv")

    def fails(self, **changes: object) -> str:
        """The error's text; `out` must be as before, and no unfinished work left."""
        before = self.written()
        with pytest.raises(UserError) as error:
            self.run(**changes)
        assert self.written() == before
        assert list(self.out.parent.glob(".*")) == []
        return str(error.value)

    def written(self) -> dict[str, bytes]:
        files = (path for path in self.out.rglob("*") if path.is_file())
        return {path.relative_to(self.out).as_posix(): path.read_bytes() for path in files}

    def numbers(self) -> dict[str, object]:
        return json.loads(self.metrics.read_text())


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def two_classes(case: Case) -> Case:
    return case.add({"NORMAL/NORMAL-1-1.jpeg": picture(1), "CNV/CNV-2-1.jpeg": picture(2)})


def test_bytes_are_copied_and_indexed(case: Case) -> None:
    files = {
        "NORMAL/NORMAL-12-3.jpeg": picture(1),
        "NORMAL/NORMAL-12-4.jpeg": picture(2),
        "CNV/deep/er/CNV-7-1.PNG": picture(3, "PNG", "RGBA", (20, 30)),
        "CNV/été no 5.tif": picture(4, "TIFF", "I;16"),
        "CNV/x.bmp": picture(5, "BMP", "RGB"),
        "CNV/y.png": picture(6, "PNG", "P"),
    }
    others = {"DME/DME-1-1.jpeg": b"", "index.csv": b"", "NORMAL/notes.txt": b"", "CNV/.h.png": b""}
    rows = case.add({**files, **others}).run()
    by_path = {row.path: row for row in rows}
    assert [row.path for row in rows] == sorted(by_path)
    written = case.written()
    del written["index.csv"]
    assert written == {name.replace("deep/er/", ""): content for name, content in files.items()}
    for path, row in by_path.items():
        assert row.sha256 == hashlib.sha256(written[path]).hexdigest()
    assert {path: row.mode for path, row in by_path.items() if row.label == "CNV"} == {
        "CNV/CNV-7-1.PNG": "RGBA",
        "CNV/été no 5.tif": "I;16",
        "CNV/x.bmp": "RGB",
        "CNV/y.png": "P",
    }
    first = by_path["CNV/CNV-7-1.PNG"]
    assert (first.patient, first.image, first.width, first.height) == ("7", "1", 20, 30)
    assert (by_path["CNV/x.bmp"].patient, by_path["CNV/x.bmp"].image) == ("", "")
    assert case.quarantine.read_text() == "path,error\n"
    assert case.numbers() == {
        "images": 6,
        "patients": 2,
        "classes": {
            "NORMAL": {"images": 2, "patients": 1},
            "CNV": {"images": 4, "patients": 1},
        },
        "duplicates": 0,
        "quarantined": 0,
        "widths": {"min": 12, "max": 20},
        "heights": {"min": 9, "max": 30},
    }


# In both classes, some with equal bytes; test_bad_images has the many ways of being none.
UNREADABLE = {"CNV/empty.jpeg": b"", "NORMAL/empty.jpeg": b"", "CNV/page.jpg": b"<html>"}


def test_unreadable_files_are_listed_and_left_out(case: Case) -> None:
    two_classes(case).add(UNREADABLE)
    for name in ("gone.png", "itself.png"):
        (case.root / "CNV" / name).symlink_to(name.replace("gone", "nowhere"))
    rows = case.run(max_quarantined=5)
    assert {row.path for row in rows} == {"CNV/CNV-2-1.jpeg", "NORMAL/NORMAL-1-1.jpeg"}
    listed = {row["path"]: row["error"] for row in read_csv(case.quarantine)}
    assert list(listed) == sorted([*UNREADABLE, "CNV/gone.png", "CNV/itself.png"])
    assert listed["CNV/empty.jpeg"] == listed["NORMAL/empty.jpeg"] == "empty file"
    assert listed["CNV/gone.png"] == "No such file or directory"
    assert "symbolic links" in listed["CNV/itself.png"]
    assert case.numbers()["quarantined"] == 5
    assert case.numbers()["duplicates"] == 0


def test_too_many_unreadable_files_stop_the_run(case: Case) -> None:
    two_classes(case).run()
    case.add(UNREADABLE)
    message = case.fails(max_quarantined=2)
    assert message.startswith("3 of 5 images cannot be read, where data.max_quarantined is 2")
    assert "CNV/empty.jpeg (empty file)" in message
    assert str(case.quarantine) in message
    assert len(read_csv(case.quarantine)) == 3


def test_a_class_of_unreadable_images_is_an_error_within_the_tolerance_too(case: Case) -> None:
    two_classes(case).add({"CNV/CNV-2-1.jpeg": b""})
    assert "no image of class CNV can be read" in case.fails(max_quarantined=1)


def test_identical_bytes_are_kept_once_under_the_first_path(case: Case) -> None:
    same = picture(3)
    two_classes(case).add({f"CNV/{name}.jpeg": same for name in ("b/a", "a/z", "c")})
    assert [row.path for row in case.run()] == [
        "CNV/CNV-2-1.jpeg",
        "CNV/z.jpeg",
        "NORMAL/NORMAL-1-1.jpeg",
    ]
    assert case.numbers()["duplicates"] == 2


def test_identical_bytes_under_two_labels_are_an_error_that_lists_them(case: Case) -> None:
    two_classes(case)
    for i in range(5):
        case.add({f"NORMAL/n{i}.png": picture(i, "PNG"), f"CNV/c{i}.png": picture(i, "PNG")})
    message = case.fails()
    assert message.startswith("5 images have the same bytes under two labels")
    assert "CNV/c0.png = NORMAL/n0.png" in message
    assert "c4" not in message


def test_different_images_of_one_name_are_all_kept(case: Case) -> None:
    names = ("a/s.png", "b/s.png", "c/S.png", "s~2.png", "a/CNV-2-1.jpeg", "CNV-2-1000001.jpeg")
    two_classes(case).add(
        {
            f"CNV/{name}": picture(10 + i, name[-3:].upper().replace("PEG", "JPEG"))
            for i, name in enumerate(names)
        }
    )
    rows = case.run()
    written = case.written()
    cnv = {row.path: row for row in rows if row.label == "CNV"}
    assert sorted(cnv) == [
        "CNV/CNV-2-1.jpeg",
        "CNV/CNV-2-1000001.jpeg",
        "CNV/CNV-2-2000001.jpeg",
        "CNV/S~4.png",
        "CNV/s.png",
        "CNV/s~2.png",
        "CNV/s~3.png",
    ]
    # "CNV-2-1.jpeg" itself comes before "a/CNV-2-1.jpeg", which gives way.
    assert written["CNV/CNV-2-2000001.jpeg"] == picture(14)
    assert written["CNV/s.png"] == picture(10, "PNG")
    assert written["CNV/s~3.png"] == picture(11, "PNG")
    assert cnv["CNV/CNV-2-2000001.jpeg"].patient == "2"
    assert len({row.sha256 for row in cnv.values()}) == 7


def test_many_of_one_name_are_not_tried_against_each_other(case: Case) -> None:
    """One folder a patient, the same names in each: the number of tries must not be a square."""
    tried = []

    class Counting(Catalogue):
        def _take(self, place: int, label: str, name: str) -> bool:
            tried.append(name)
            return super()._take(place, label, name)

    number = 200
    with closing(sqlite3.connect(":memory:")) as database:
        found = Counting(database)
        files = (Path(f"/{n}/scan.png") for n in range(number))
        found.offer(Candidate(path, str(path), "CNV", path.name) for path in files)
        found.group(str(n) for n in range(number))
        found.judge(Picture(8, 8, "L", "0" * 16) for _ in range(number))
        found.name()
        assert found.number("image") == number
    assert len(tried) <= 3 * number


def test_the_result_is_the_same_for_any_number_of_workers(case: Case) -> None:
    two_classes(case).add({f"CNV/{i}.png": picture(i % 9, "PNG") for i in range(40)})
    case.add({"CNV/bad.png": b"bad"}).run(max_quarantined=1)
    alone, listed, numbers = case.written(), case.quarantine.read_bytes(), case.numbers()
    case.run(workers=2, max_quarantined=1)
    assert (case.written(), case.quarantine.read_bytes(), case.numbers()) == (
        alone,
        listed,
        numbers,
    )


def test_links_are_followed_and_loops_end(case: Case, tmp_path: Path) -> None:
    two_classes(case)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "far.png").write_bytes(picture(7, "PNG"))
    (elsewhere / "back").symlink_to(case.root / "CNV")
    (case.root / "CNV" / "up").symlink_to(case.root / "CNV")
    (case.root / "CNV" / "out").symlink_to(elsewhere)
    os.mkfifo(case.root / "CNV" / "pipe.png")
    assert [row.path for row in case.run()] == [
        "CNV/CNV-2-1.jpeg",
        "CNV/far.png",
        "NORMAL/NORMAL-1-1.jpeg",
    ]
    assert case.numbers()["duplicates"] == 0


def test_a_name_that_is_not_utf8_still_fits_an_index(case: Case) -> None:
    two_classes(case)
    path = os.fsencode(case.root / "CNV") + b"/caf\xe9.png"
    with open(path, "wb") as out:  # noqa: PTH123 - a path of bytes
        out.write(picture(3, "PNG"))
    assert case.run()[1].path == "CNV/caf\ufffd.png"


def test_the_users_images_are_never_what_the_stage_replaces(case: Case) -> None:
    case.root = case.out
    two_classes(case)
    assert "which this stage replaces" in case.fails()


def test_a_checksum_without_an_archive_is_not_passed_over(case: Case) -> None:
    assert "data.sha256" in two_classes(case).fails(sha256="0" * 64)


def test_a_relative_root_is_the_checkouts_own(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    two_classes(case)
    copy = case.root.parent / ".dvc" / "tmp" / "exps" / "queued"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert len(case.run(root="source")) == 2


def test_phantom(case: Case) -> None:
    rows = case.run(source="phantom", root=None)
    assert len(rows) == 8
    assert rows[0].path == f"CNV/CNV-{rows[0].patient}-1.jpeg"
    assert case.numbers()["patients"] == 4


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("CNV-103044-1.jpeg", ("103044", "1")),
        ("CNV-0012-03.PNG", ("0012", "03")),
        ("CNV-P1_a-3.tif", ("P1_a", "3")),
        ("NORMAL-1-1.jpeg", ("", "")),
        ("CNV-scan-3.png", ("", "")),
        ("CNV-2024-01-3.png", ("", "")),
        ("CNV-1-1 (2).jpeg", ("", "")),
        ("CNV-1-1.tar.jpeg", ("", "")),
        ("XCNV-1-1.jpeg", ("", "")),
        ("CNV-1-.jpeg", ("", "")),
    ],
)
def test_patients_in_names(name: str, found: tuple[str, str]) -> None:
    assert parse_name(name, "CNV") == found


def test_another_name_keeps_the_patient_and_invents_none() -> None:
    assert parse_name(another_name("CNV-5-7.jpeg", "CNV", 2), "CNV") == ("5", "2000007")
    assert another_name("CNV-5.png", "CNV", 1) == "CNV-5~2.png"
    assert parse_name("CNV-5~2.png", "CNV") == ("", "")


def test_the_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    row = IndexRow('CNV/a, "b".png', "CNV", "007", "", "ab" * 32, 512, 496, "I;16")
    path = tmp_path / "index.csv"
    write_index(path, [row, replace(row, path="CNV/é.png")])
    assert read_index(path) == [row, replace(row, path="CNV/é.png")]
    assert path.read_text().splitlines()[0] == ",".join(asdict(row))

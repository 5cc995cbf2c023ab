"""Great Expectations over index and splits: each expectation fails on what it is for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from octrobust import config
from octrobust.data.expectations import validate
from octrobust.data.index import IndexRow, read_index, write_index
from octrobust.data.split import split
from octrobust.errors import UserError
from tests.conftest import data_section

DATA = data_section(phantom={"patients_per_class": 8, "images_per_patient": 2, "seed": 1})


def settings(by: str = "patient") -> config.Split:
    values = {"by": by, "seed": 1, "train": 6, "validation": 2, "test": 2, "extra": 0}
    return config.Split.model_validate(values)


def image(label: str, patient: int, number: int) -> IndexRow:
    path = f"{label}/{label}-{patient}-{number}.jpeg"
    sha256 = hashlib.sha256(path.encode()).hexdigest()
    return IndexRow(path, label, str(patient), str(number), sha256, 512, 496, "L")


class Project:
    """An index and its splits, to damage and validate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = folder / "index.csv"
        labels = ("CNV", "NORMAL")
        rows = [
            image(label, p + 50 * (label == "CNV"), n)
            for label in labels
            for p in range(10, 18)
            for n in (1, 2)
        ]
        write_index(self.index, sorted(rows, key=lambda row: row.path))
        split(self.index, settings(), DATA.classes, folder / "splits", folder / "split.json")

    def path(self, name: str) -> Path:
        return self.folder / "splits" / f"{name}.csv"

    def rows(self, name: str) -> list[IndexRow]:
        return read_index(self.path(name))

    def write(self, name: str, rows: Iterable[IndexRow]) -> None:
        write_index(self.path(name), rows)

    def validate(self, by: str = "patient") -> None:
        validate(
            self.index,
            self.folder / "splits",
            DATA,
            settings(by),
            self.folder / "docs",
            self.folder / "validation.json",
        )

    def failed(self) -> str:
        with pytest.raises(UserError) as error:
            self.validate()
        assert self.metrics()["success"] is False
        assert "expectations failed" in self.page("index")
        return str(error.value)

    def metrics(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.folder / "validation.json").read_text())
        return values

    def page(self, name: str) -> str:
        return (self.folder / "docs" / f"{name}.html").read_text()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_good_data_passes_and_is_documented(project: Project) -> None:
    project.validate()
    metrics = project.metrics()
    assert metrics["success"] is True
    assert metrics["failed"] == metrics["patients_in_two_splits"] == 0
    names = {"images", "splits", "counts", "contents", "patients"}
    assert set(metrics["suites"]) == names
    pages = {path.name: path.read_bytes() for path in (project.folder / "docs").iterdir()}
    assert set(pages) == {"index.html", "look_alikes.csv", *(f"{name}.html" for name in names)}
    project.validate()
    again = {path.name: path.read_bytes() for path in (project.folder / "docs").iterdir()}
    assert again == pages


def test_pages_need_no_network_and_link_to_each_other(project: Project) -> None:
    project.validate()
    for page in (project.folder / "docs").iterdir():
        text = page.read_text()
        assert not re.findall(r"https?://|<script|<link", text), page.name
        assert str(project.folder) not in text
        for link in re.findall(r'href="([^"#]+)', text):
            assert (page.parent / link).exists(), link


def test_patient_in_two_splits_is_named(project: Project) -> None:
    planted = project.rows("train")[0]
    moved = project.rows("test")
    moved[0] = replace(moved[0], patient=planted.patient)
    project.write("test", moved)
    message = project.failed()
    named = (
        rf"no patient in two splits \(1 of \d+: splits train \+ test, patient {planted.patient}\)"
    )
    assert re.search(named, message)
    assert project.metrics()["patients_in_two_splits"] == 1
    assert "no patient in two splits" in project.page("patients")


def test_patient_in_two_splits_is_only_counted_by_image(project: Project) -> None:
    for path in (project.index, *(project.path(name) for name in config.SPLITS)):
        write_index(path, [replace(row, patient="1") for row in read_index(path)])
    project.validate(by="image")
    assert project.metrics()["patients_in_two_splits"] == 1


def test_hash_in_two_splits_is_named(project: Project) -> None:
    rows = project.rows("test")
    rows[0] = replace(rows[0], sha256=project.rows("train")[0].sha256)
    project.write("test", rows)
    message = project.failed()
    assert "no hash in two splits (1 of 19: splits train + test" in message
    assert "no sha256 is listed twice" in message
    assert "every image of a split is in the index" in message
    assert project.metrics()["hashes_in_two_splits"] == 1


def test_wrong_count_is_named(project: Project) -> None:
    project.write("validation", project.rows("validation")[1:])
    message = project.failed()
    assert "1 of 48 expectations failed" in message
    assert "validation has 2 CNV images (found 1)" in message


def test_wrong_columns_stop_nothing_else_from_being_checked(project: Project) -> None:
    text = project.path("train").read_text()
    project.path("train").write_text(text.replace("sha256", "md5", 1))
    message = project.failed()
    assert "the columns are split, path, label" in message
    assert "[images]" not in message


def test_bad_values_in_the_index(project: Project) -> None:
    rows = read_index(project.index)
    rows[0] = replace(rows[0], label="DRUSEN", mode="F", width=3)
    rows[1] = replace(rows[1], patient="", sha256="ABC")
    write_index(project.index, rows)
    message = project.failed()
    for name in (
        "every label is NORMAL or CNV",
        "every mode is one that",
        "every width is between 32 and 16384 pixels",
        "every image has a patient",
        "every sha256 is 64 hexadecimal digits",
    ):
        assert f"[images] {name}" in message


def test_missing_split_is_one_line(project: Project) -> None:
    project.path("test").unlink()
    with pytest.raises(UserError, match=r"test\.csv does not exist"):
        project.validate()


def test_look_alikes_across_splits_are_counted_and_listed(project: Project) -> None:
    train, test = project.rows("train"), project.rows("test")
    hashes = {train[0].path: "0" * 16, test[0].path: "0" * 15 + "3"}
    for path in (project.index, project.path("train"), project.path("test")):
        rows = [replace(row, phash=hashes.get(row.path, "")) for row in read_index(path)]
        write_index(path, rows)
    project.validate()
    assert project.metrics()["look_alikes_in_two_splits"] == 1
    assert project.metrics()["look_alikes_of_two_patients"] == 1
    listed = (project.folder / "docs" / "look_alikes.csv").read_text().splitlines()
    assert listed[1:] == [f"train/{train[0].path},test/{test[0].path},2,True"]

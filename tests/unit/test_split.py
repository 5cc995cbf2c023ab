"""Splits: exact, seeded, patient-disjoint, and refused where they cannot be."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from octrobust import config
from octrobust.data.index import IndexRow, read_index, write_index
from octrobust.data.split import split
from octrobust.errors import UserError

CLASSES = ("NORMAL", "CNV")
# Images a patient in a small real set: few patients, very unequal.
REAL = {
    "NORMAL": [31, 17, 7, 5, 5, 4, 4, 3, 2, 2] + [1] * 23,
    "CNV": [16, 16, 13, 11, 10, 10, 5, 4, 2, 1],
}


def image(label: str, patient: str, number: int) -> IndexRow:
    path = f"{label}/{label}-{patient}-{number}.jpeg"
    sha256 = hashlib.sha256(path.encode()).hexdigest()
    return IndexRow(path, label, patient, str(number), sha256, 512, 496, "L")


def patients(label: str, sizes: Sequence[int], first: int = 0) -> list[IndexRow]:
    return [
        image(label, f"{first + number:05d}", i)
        for number, size in enumerate(sizes)
        for i in range(1, size + 1)
    ]


def settings(by: str = "patient", **counts: int) -> config.Split:
    values = {"seed": 1, "train": 40, "validation": 12, "test": 20, "extra": 0, **counts}
    return config.Split.model_validate({"by": by, **values})


class Run:
    """A split made in a folder, read back."""

    def __init__(self, folder: Path, rows: Sequence[IndexRow], wanted: config.Split) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_index(folder / "index.csv", sorted(rows, key=lambda row: row.path))
        self.out = folder / "splits"
        split(folder / "index.csv", wanted, CLASSES, self.out, folder / "split.json")
        self.rows = {name: read_index(self.out / f"{name}.csv") for name in config.SPLITS}
        self.metrics = json.loads((folder / "split.json").read_text())

    def counts(self) -> dict[str, dict[str, int]]:
        return {name: dict(Counter(row.label for row in rows)) for name, rows in self.rows.items()}

    def bytes(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.out.iterdir()}

    def shared(self) -> set[str]:
        homes = Counter(p for rows in self.rows.values() for p in {row.patient for row in rows})
        return {patient for patient, splits in homes.items() if splits > 1}


def real() -> list[IndexRow]:
    return patients("NORMAL", REAL["NORMAL"]) + patients("CNV", REAL["CNV"], first=100)


@pytest.mark.parametrize("seed", range(5))
def test_real_sizes_exact_disjoint_and_many_patients(tmp_path: Path, seed: int) -> None:
    run = Run(tmp_path, real(), settings(seed=seed))
    assert run.counts() == {
        "train": {"NORMAL": 40, "CNV": 40},
        "validation": {"NORMAL": 12, "CNV": 12},
        "test": {"NORMAL": 20, "CNV": 20},
        "extra": {},
    }
    assert not run.shared()
    # No split is filled by the one patient who has enough images for it.
    assert run.metrics["test"]["classes"]["NORMAL"]["patients"] >= 5
    for rows in run.rows.values():
        assert [row.path for row in rows] == sorted({row.path for row in rows})


def test_tight_case_that_only_the_solver_finds(tmp_path: Path) -> None:
    # All 88 CNV images are needed: sums of whole patients must hit 60, 20 and 8 exactly.
    run = Run(tmp_path, real(), settings(train=60, validation=20, test=8))
    assert run.counts()["test"] == {"NORMAL": 8, "CNV": 8}
    assert not run.shared()


def test_both_labels_of_a_patient_stay_together(tmp_path: Path) -> None:
    both = [row for n in range(12) for row in patients("NORMAL", [2], n) + patients("CNV", [3], n)]
    rows = both + patients("NORMAL", [2] * 20, 50) + patients("CNV", [2] * 20, 80)
    run = Run(tmp_path, rows, settings(train=30, validation=6, test=8))
    assert not run.shared()
    seen = {(row.patient, row.label) for rows in run.rows.values() for row in rows}
    assert any((patient, "CNV") in seen for patient, label in seen if label == "NORMAL")
    assert run.metrics["patients_in_two_splits"] == 0


def test_surplus_is_taken_evenly_and_spread(tmp_path: Path) -> None:
    rows = patients("NORMAL", [40] * 6) + patients("CNV", [40] * 6, 100)
    run = Run(tmp_path, rows, settings(train=22, validation=5, test=5))
    taken = Counter(row.patient for row in run.rows["train"])
    assert max(taken.values()) - min(taken.values()) <= 1
    for patient in taken:
        numbers = sorted(int(r.image) for r in run.rows["train"] if r.patient == patient)
        gaps = [b - a for a, b in pairwise(numbers)]
        assert min(gaps) >= 40 // len(numbers)  # neighbouring scans are near duplicates


def test_same_seed_same_bytes_other_seed_other_split(tmp_path: Path) -> None:
    one = Run(tmp_path / "a", real(), settings(seed=1))
    again = Run(tmp_path / "b", list(reversed(real())), settings(seed=1))
    other = Run(tmp_path / "c", real(), settings(seed=2))
    assert one.bytes() == again.bytes()
    assert one.bytes() != other.bytes()


def test_the_order_of_the_index_does_not_count(tmp_path: Path) -> None:
    run = Run(tmp_path, real(), settings())
    write_index(tmp_path / "index.csv", list(reversed(read_index(tmp_path / "index.csv"))))
    split(tmp_path / "index.csv", settings(), CLASSES, tmp_path / "again", tmp_path / "again.json")
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == run.bytes()


def test_by_image_is_exact_and_reports_shared_patients(tmp_path: Path) -> None:
    run = Run(tmp_path, real(), settings(by="image", extra=10))
    assert run.counts()["extra"] == {"NORMAL": 10, "CNV": 10}
    paths = [row.path for rows in run.rows.values() for row in rows]
    assert len(paths) == len(set(paths)) == 2 * 82
    assert run.metrics["patients_in_two_splits"] == len(run.shared()) > 0


def test_metrics_count_images_and_patients(tmp_path: Path) -> None:
    run = Run(tmp_path, real(), settings())
    assert run.metrics["train"]["images"] == 80
    assert run.metrics["train"]["patients"] == len({r.patient for r in run.rows["train"]})
    assert run.metrics["unused"] == {"images": 191 - 144, "patients": 0}


def test_too_few_images_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"CNV 88 images of 10 patients.*232 images \(train 200"):
        Run(tmp_path, real(), settings(train=200))
    assert not (tmp_path / "splits").exists()


def test_too_few_patients(tmp_path: Path) -> None:
    rows = patients("NORMAL", [50, 50]) + patients("CNV", [50, 50], 100)
    with pytest.raises(UserError, match=r"too few patients: .*CNV 100 images of 2 patients"):
        Run(tmp_path, rows, settings())


def test_patients_that_cannot_be_divided(tmp_path: Path) -> None:
    rows = patients("NORMAL", [80] * 6) + patients("CNV", [80, 1, 1], 100)
    with pytest.raises(UserError, match="whole patients cannot be given"):
        Run(tmp_path, rows, settings())


def test_images_without_patient_are_refused_by_patient_only(tmp_path: Path) -> None:
    rows = [replace(row, patient="", image="") for row in real()]
    with pytest.raises(
        UserError, match=r"191 of 191 .*CLASS-PATIENT-N\.ext or set split.by: image"
    ):
        Run(tmp_path, rows, settings())
    assert Run(tmp_path, rows, settings(by="image")).counts()["test"] == {"NORMAL": 20, "CNV": 20}

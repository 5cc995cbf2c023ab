"""The phantom: repeatable, varied, and too hard for a linear model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from octrobust.data.phantom import LABELS, scan, write_phantom
from octrobust.errors import UserError

PATIENTS = 80
SCANS = 2


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom")
    write_phantom(out, LABELS, 4, 2, seed=11, progress=False)
    return out


def test_names_labels_and_patients(written: Path) -> None:
    names = list(_digests(written))
    assert len(names) == 2 * 4 * 2
    patients: dict[str, set[str]] = {label: set() for label in LABELS}
    for name in names:
        folder, file = name.split("/")
        label, patient, number = file.removesuffix(".jpeg").split("-")
        assert label == folder
        assert number in ("1", "2")
        patients[label].add(patient)
    assert {len(found) for found in patients.values()} == {4}
    assert not patients["NORMAL"] & patients["CNV"]
    with Image.open(written / names[0]) as image:
        assert (image.format, image.mode) == ("JPEG", "L")


def test_bytes_do_not_depend_on_workers_or_order(written: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path, ("CNV", "NORMAL"), 4, 2, seed=11, workers=2, progress=False)
    assert _digests(tmp_path) == _digests(written)


def test_more_patients_leave_the_others_as_they_were(written: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path, LABELS, 5, 3, seed=11, progress=False)
    assert _digests(written).items() < _digests(tmp_path).items()


def test_all_images_differ(written: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path, LABELS, 1, 2, seed=12, progress=False)
    digests = [*_digests(written).values(), *_digests(tmp_path).values()]
    assert len(set(digests)) == len(digests)


def test_a_scan_depends_on_each_of_its_arguments() -> None:
    first = scan("CNV", 5, 1, 7)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, scan("CNV", 5, 1, 7))
    for other in (("NORMAL", 5, 1, 7), ("CNV", 6, 1, 7), ("CNV", 5, 2, 7), ("CNV", 5, 1, 8)):
        assert not np.array_equal(first, scan(*other)), other


def test_progress_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_phantom(tmp_path, ["CNV"], 1, 2, seed=0)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "phantom" in captured.err


def test_unknown_class_is_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="DRUSEN"):
        write_phantom(tmp_path / "out", ("NORMAL", "DRUSEN"), 1, 1, seed=0, progress=False)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="DME"):
        scan("DME", 1, 1, 0)


@pytest.fixture(scope="module")
def cohort() -> dict[str, list[NDArray[np.uint8]]]:
    """`PATIENTS` patients a class with `SCANS` scans each, in that order."""
    return {
        label: [
            scan(label, patient, number, 7)
            for patient in range(PATIENTS)
            for number in range(SCANS)
        ]
        for label in LABELS
    }


def test_sizes_are_those_of_the_real_set(cohort: dict[str, list[NDArray[np.uint8]]]) -> None:
    for scans in cohort.values():
        assert {image.shape for image in scans} == {(496, 512), (496, 768), (496, 1536)}


def test_white_wedges_in_some_scans_of_both_classes(
    cohort: dict[str, list[NDArray[np.uint8]]],
) -> None:
    for scans in cohort.values():
        # A turned scan leaves one corner white and its neighbour not.
        wedged = sum(
            (image[0, 5] == 255) != (image[0, -6] == 255)
            or (image[-1, 5] == 255) != (image[-1, -6] == 255)
            for image in scans
        )
        assert 0.15 < wedged / len(scans) < 0.75


def _statistics(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    histogram = np.bincount(image.ravel() // 8, minlength=32) / image.size
    return np.concatenate([[image.mean(), image.std()], histogram])


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    small = Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.float64).ravel()


def _central_thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Of the centre square, where every lesion lies, as a network sees it."""
    start = (image.shape[1] - image.shape[0]) // 2
    return _thumbnail(image[:, start : start + image.shape[0]])


@pytest.mark.parametrize(
    ("features", "ceiling"),
    [(_statistics, 0.70), (_thumbnail, 0.85), (_central_thumbnail, 0.85)],
)
def test_a_linear_model_is_not_enough(features, ceiling, cohort) -> None:  # type: ignore[no-untyped-def]
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.array([features(image) for label in LABELS for image in cohort[label]])
    y = np.repeat([0, 1], PATIENTS * SCANS)
    patient = np.tile(np.repeat(np.arange(PATIENTS), SCANS), 2)
    scores = []
    for fold in range(4):
        test = patient % 4 == fold
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
        scores.append(model.fit(x[~test], y[~test]).score(x[test], y[test]))
    assert np.mean(scores) < ceiling


def test_disease_shows_where_a_network_looks() -> None:
    """The same eye with and without its disease differs in the centre square."""
    from octrobust.data.phantom_anatomy import Layer, draw_eye, draw_section
    from octrobust.data.phantom_lesions import add_lesions, draw_disease

    for seed in range(60):
        rng = np.random.default_rng(seed)
        section = draw_section(rng, draw_eye(rng))
        before = section.tops()[Layer.NERVE_FIBRES : Layer.EPITHELIUM + 1].copy()
        add_lesions(rng, section, draw_disease(rng))
        moved = np.abs(section.tops()[Layer.NERVE_FIBRES : Layer.EPITHELIUM + 1] - before)
        central = np.abs(section.x) < 150
        # 16 of 496 rows are three of the 91 that the demo's network is given.
        assert moved[:, central].max() > 16, seed

"""Decoded arrays: the same pixels by any way, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from octrobust.data.arrays import decode, open_split, prepare, stored_side
from octrobust.data.index import IndexRow, write_index
from octrobust.errors import UserError
from tests.conftest import data_section

SIZES = [(512, 496), (768, 496), (384, 496), (1024, 512), (101, 300), (91, 91), (97, 640)]
SIDE = 80


def scan(width: int, height: int, seed: int) -> Image.Image:
    """Speckle of two scales: the worst case for a resize that does not antialias."""
    noise = np.random.default_rng(seed).random((height, width))
    both = noise + 4 * gaussian_filter(noise, 6)
    return Image.fromarray(np.uint8(255 * (both - both.min()) / np.ptp(both)))


SETTINGS = data_section(image_size=SIDE)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several sizes under raw/, and splits of which `extra` is empty."""
    root = tmp_path_factory.mktemp("data")
    rows = []
    for number, (width, height) in enumerate(SIZES):
        label = ("NORMAL", "CNV")[number % 2]
        path = f"{label}/{label}-{number}-1.jpeg"
        target = root / "raw" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        scan(width, height, number).save(target, quality=90)
        rows.append(IndexRow(path, label, str(number), "1", "0" * 64, width, height, "L"))
    (root / "splits").mkdir()
    parts = {"train": rows[:4], "validation": rows[4:5], "test": rows[5:], "extra": []}
    for name, part in parts.items():
        write_index(root / "splits" / f"{name}.csv", part)
    return root


@pytest.fixture(scope="module")
def arrays(raw: Path) -> Path:
    out = raw / "arrays"
    prepare(raw / "raw", raw / "splits", SETTINGS, out, raw / "prepare.json")
    return out


def test_centre_view_is_torchvisions(raw: Path, arrays: Path) -> None:
    from torchvision.transforms import v2

    side = stored_side(SIDE)
    chain = v2.Compose([v2.Resize(side), v2.CenterCrop(side), v2.CenterCrop(SIDE)])
    for name in ("train", "validation", "test"):
        images = open_split(arrays, name, SIDE)
        views = images.views(range(len(images)))
        for view, path in zip(views, images.paths, strict=True):
            with Image.open(raw / "raw" / path) as image:
                expected = np.asarray(chain(image.convert("L")), dtype=np.float32) / 255
            np.testing.assert_array_equal(view[0], expected, err_msg=path)


def test_papers_geometry() -> None:
    assert [stored_side(size) for size in (224, 80, 128)] == [256, 91, 146]


def test_rows_targets_and_metrics(raw: Path, arrays: Path) -> None:
    images = open_split(arrays, "train", SIDE)
    assert len(images) == 4
    assert images.targets.tolist() == [0, 1, 0, 1]
    assert images.labels == ("NORMAL", "CNV", "NORMAL", "CNV")
    assert images.patients == ("0", "1", "2", "3")
    header = (arrays / "train.csv").read_text().splitlines()[:2]
    assert header == ["row,path,label,patient,target", "0,NORMAL/NORMAL-0-1.jpeg,NORMAL,0,0"]
    metrics = json.loads((raw / "prepare.json").read_text())
    assert metrics["images"] == {"train": 4, "validation": 1, "test": 2, "extra": 0, "total": 7}
    assert metrics["bytes"] == 7 * 91 * 91


def test_views_of_any_rows(arrays: Path) -> None:
    images = open_split(arrays, "train", SIDE)
    views = images.views(slice(None))
    assert views.shape == (4, 1, SIDE, SIDE)
    assert views.dtype == np.float32
    assert views.min() >= 0
    assert 0.5 < views.max() <= 1
    np.testing.assert_array_equal(images.views([3, 0]), views[[3, 0]])
    np.testing.assert_array_equal(images.views(np.array([2])), views[2:3])
    assert images.views([]).shape == (0, 1, SIDE, SIDE)


def test_empty_split(arrays: Path) -> None:
    images = open_split(arrays, "extra", SIDE)
    assert len(images) == 0
    assert images.pixels.shape == (0, 91, 91)
    assert images.views(slice(None)).shape == (0, 1, SIDE, SIDE)


def test_same_bytes_for_any_threads(raw: Path, arrays: Path, tmp_path: Path) -> None:
    prepare(raw / "raw", raw / "splits", SETTINGS, tmp_path / "out", tmp_path / "m.json", 3)
    for path in arrays.iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "I;16", "1"])
def test_modes_become_the_same_grey(tmp_path: Path, mode: str) -> None:
    grey = scan(200, 160, 0)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    elif mode == "1":
        grey = grey.convert("1")
        image = grey
    else:
        image = grey.convert(mode)
    image.save(tmp_path / "image.png")
    grey.convert("L").save(tmp_path / "grey.png")
    found, expected = decode(tmp_path / "image.png", 91), decode(tmp_path / "grey.png", 91)
    np.testing.assert_array_equal(found, expected)


def test_float_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((99, 99), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(UserError, match=r"f\.tif .*mode F: convert"):
        decode(tmp_path / "f.tif", 91)


def test_open_refuses_another_size(arrays: Path) -> None:
    with pytest.raises(UserError, match=r"data.image_size 96 need uint8 \(4, 110, 110\)"):
        open_split(arrays, "train", 96)

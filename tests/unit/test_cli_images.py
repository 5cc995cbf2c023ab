"""`predict` and `attack` on a small project: a stored model, validation arrays, a few scans."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from octrobust.cli import app
from octrobust.config import Model
from octrobust.data.arrays import COLUMNS, decode, stored_side
from octrobust.data.given import read_views
from octrobust.files import write_csv, write_json
from octrobust.inspection import attack
from octrobust.model import predict
from octrobust.model.build import build, calibrate_batch_norm
from octrobust.model.store import load_model, save_model
from tests.conftest import blobs, one_error, picture

ROOT = Path(__file__).resolve().parents[2]
SIDE = 75  # the smallest that Inception-ResNet takes
CLASSES = ("NORMAL", "CNV")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after a `dvc repro`, as far as these commands look."""
    root = tmp_path_factory.mktemp("project")
    (root / "dvc.yaml").write_text("stages: {}\n")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["data"]["image_size"] = SIDE
    values["attack"] |= {"binary_search_steps": 2, "max_iter": 3}
    values["compute"]["threads"] = 1
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    side = stored_side(SIDE)
    images, targets = blobs(8, side, seed=0)
    network = build(Model(weights="none", standardisation="none", dropout=0.6), None, seed=3)
    with torch.no_grad():
        calibrate_batch_norm(network, lambda: [torch.from_numpy(images)])
    save_model(
        root / "models" / "hardened_online",
        network,
        {"classes": list(CLASSES), "image_size": SIDE},
    )
    arrays = root / "data" / "arrays"
    arrays.mkdir(parents=True)
    np.save(arrays / "validation.npy", (images[:, 0] * 255).astype(np.uint8))
    rows = [
        {"row": i, "path": str(i), "label": CLASSES[t], "patient": str(i), "target": t}
        for i, t in enumerate(targets.tolist())
    ]
    write_csv(arrays / "validation.csv", rows, COLUMNS)
    best = {"name": "hardened_online", "robust_accuracy": 0.875, "measured": "validation, PGD"}
    write_json(root / "reports" / "cards" / "best.json", best)
    for number in range(2):
        pixels = (images[number, 0] * 255).astype(np.uint8)
        Image.fromarray(pixels).resize((120, 100)).save(root / f"scan{number}.png")
    return root


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    monkeypatch.setitem(predict.CHUNK, "cpu", 2)  # two images at once, not sixteen
    return made


def octrobust(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def told(*arguments: str) -> Any:
    done = octrobust(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_predict_says_what_the_network_says_of_the_pipelines_own_view(here: Path) -> None:
    found = told("predict", "scan0.png", "scan1.png")
    assert found["model"] == "hardened_online"
    assert "clinical" in found["use"]
    network = load_model(here / "models" / "hardened_online")
    for number, one in enumerate(found["images"]):
        stored = decode(here / f"scan{number}.png", stored_side(SIDE))
        start = round((stored.shape[0] - SIDE) / 2)
        view = stored[start : start + SIDE, start : start + SIDE].astype(np.float32) / 255
        wanted = predict.probabilities(network, torch.from_numpy(view[None, None]))[0]
        assert list(one["uncalibrated"].values()) == pytest.approx(wanted.tolist(), abs=1e-5)
        logit = np.log(wanted[1] / wanted[0]) / found["calibration"]["temperature"]
        assert one["probabilities"]["CNV"] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-4)
        assert one["predicted"] == CLASSES[int(wanted.argmax())]
    assert found["calibration"]["validation_images"] == 8


def test_predict_without_arrays_says_that_it_is_not_calibrated(here: Path) -> None:
    arrays = here / "data" / "arrays"
    moved = arrays.rename(here / "elsewhere")
    try:
        done = octrobust("predict", "scan0.png")
    finally:
        moved.rename(arrays)
    assert done.exit_code == 0
    assert "Not calibrated" in done.stdout
    assert "Not for clinical use" in done.stdout


def test_nearest_is_as_far_as_the_attack_went(here: Path) -> None:
    one = told("predict", "scan0.png", "--nearest")["images"][0]["nearest"]
    again = told("attack", "scan0.png", "--out", "nearest")["images"][0]
    assert one["l2"] == pytest.approx(again["l2"])
    assert one["grey_levels_largest"] == pytest.approx(255 * again["linf"])
    rms = 255 * again["l2"] / SIDE
    assert one["grey_levels_root_mean_square"] == pytest.approx(rms)
    assert one["predicted"] == again["after"]


def test_attack_writes_what_it_says(here: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    further = ("--confidence", "3", "--const", "1", "--steps", "15")
    found = told("attack", "scan0.png", "--out", str(out), *further)["images"][0]
    assert (found["success"], found["success_png"]) == (True, True)
    assert found["before"] != found["after"]
    pixels = {what: pixels_of(Path(path)) for what, path in found["files"].items()}
    assert sorted(path.name for path in out.iterdir()) == [
        *("scan0-after.png", "scan0-before.png", "scan0-difference.png"),
    ]
    # On the PNG: asked here once more, of the file itself.
    network = load_model(here / "models" / "hardened_online")
    after = torch.from_numpy(pixels["after"][None, None].astype(np.float32) / 255)
    says = CLASSES[int(predict.predict(network, after)[0])]
    assert found["success_png"] == (says != found["before"])
    change = pixels["after"].astype(int) - pixels["before"]
    assert np.abs(change).max() == pytest.approx(255 * found["linf"], abs=1)
    assert change.any()
    # Middle grey where nothing changed, lighter where it became brighter.
    seen = pixels["difference"].astype(int) - 128
    assert (np.sign(seen) == np.sign(change))[change != 0].all()


def pixels_of(path: Path) -> Any:
    with Image.open(path) as image:
        assert (image.mode, image.size) == ("L", (SIDE, SIDE))
        return np.asarray(image)


def test_attack_leaves_other_files_alone_and_names_apart_what_has_one_name(
    here: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "scan0.png").write_bytes((here / "scan1.png").read_bytes())
    other = str(tmp_path / "scan0.png")
    done = octrobust("attack", "scan0.png", other, "--out", str(tmp_path), "--steps", "1")
    assert done.exit_code == 0, done.output
    names = {path.name for path in tmp_path.iterdir()}
    assert {"mine.txt", "scan0.png", "scan0-before.png", "scan0-2-before.png"} <= names
    assert "Not for clinical use" in done.stdout


def test_attack_of_an_image_that_is_wrong_already_attacks_nothing(here: Path) -> None:
    says = told("predict", "scan0.png")["images"][0]["predicted"]
    other = next(name for name in CLASSES if name != says)
    one = told("attack", "scan0.png", "--label", other, "--out", "wrong")["images"][0]
    assert one["already_misclassified"]
    assert not one["success"]
    assert list(one["files"]) == ["before"]


def test_any_format_gives_the_same_view(tmp_path: Path) -> None:
    pixels = Image.open(io.BytesIO(picture(40, "PNG", size=(90, 80))))
    for name in ("a.png", "a.tif", "a.bmp", "a.gif"):
        pixels.save(tmp_path / name)
    views = read_views([tmp_path / f"a.{end}" for end in ("png", "tif", "bmp", "gif")], SIDE)
    assert (views == views[0]).all()


def bad_images(folder: Path) -> dict[str, tuple[str, str]]:
    whole = picture(40, "PNG", size=(90, 80))
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no image")
    (folder / "evil.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    Image.new("L", (90, 80), 7).save(folder / "grey.png")
    frames = [Image.open(io.BytesIO(picture(k, "PNG"))) for k in (1, 9)]
    frames[0].save(folder / "stack.tif", save_all=True, append_images=frames[1:])
    return {
        "missing": ("none.png", "does not exist"),
        "folder": (".", "is a folder"),
        "truncated": (str(folder / "cut.png"), "cannot be read"),
        "empty": (str(folder / "empty.png"), "no image that Pillow reads"),
        "text": (str(folder / "text.png"), "no image that Pillow reads"),
        "PostScript": (str(folder / "evil.png"), "no image that Pillow reads"),
        "one grey": (str(folder / "grey.png"), "one and the same grey"),
        "several scans": (str(folder / "stack.tif"), "holds 2 images"),
    }


def test_bad_images_are_one_line_and_nothing_is_written(here: Path, tmp_path: Path) -> None:
    before = sorted(here.rglob("*"))
    for command in ("predict", "attack"):
        for path, reason in bad_images(tmp_path).values():
            done = octrobust(command, "scan0.png", path)
            assert done.exit_code == 2, (command, path, done.output)
            assert reason in one_error(done.stderr)
            assert done.stdout == ""
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("predict", "scan0.png", "--model", "nobody"), "is none of: hardened_online"),
        (("predict", "scan0.png", "--model", "../../etc"), "is none of: hardened_online"),
        (("attack", "scan0.png", "--label", "DME"), "is none of: NORMAL, CNV"),
        (("attack", "scan0.png", "--rule", "L7"), "attack.decision_rule"),
        (("attack", "scan0.png", "--beta", "-1"), "attack.beta"),
        (("attack", "scan0.png", "--beta", "nan"), "attack.beta"),
        (("attack", "scan0.png", "--out", "scan1.png"), "is a file"),
    ],
)
def test_bad_options_are_one_line(here: Path, arguments: tuple[str, ...], reason: str) -> None:
    done = octrobust(*arguments)
    assert done.exit_code == 2, done.output
    assert reason in one_error(done.stderr)


def test_a_model_may_be_named_as_the_shell_completes_its_folder(here: Path) -> None:
    assert (
        told("predict", "scan0.png", "--model", "models/hardened_online/")["chosen"] == "as asked"
    )


def test_outside_a_project_it_says_where_to_go(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["predict"], ["attack"]):
        done = octrobust(*command, str(made / "scan0.png"))
        assert done.exit_code == 2
        assert "cd into your clone" in one_error(done.stderr)


def test_before_a_run_it_says_what_makes_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    assert "dvc pull" in one_error(octrobust("predict", "a.png").stderr)


def test_pictures_of_one_stem_do_not_replace_each_other() -> None:
    paths = [Path("a.png"), Path("a-2.png"), Path("other/a.png")]
    assert attack._stems(paths) == ["a", "a-2", "a-3"]

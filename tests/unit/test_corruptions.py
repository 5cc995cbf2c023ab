"""Corruptions: each does what its name says, more of it with severity."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from octrobust import config
from octrobust.data.arrays import ImageSet, stored_side
from octrobust.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from octrobust.evaluation.intervals import accuracy_interval
from octrobust.report.results import Results
from octrobust.report.robustness import corruption_table
from octrobust.report.wording import NBSP
from octrobust.stages import evaluate

SIDE = 80
IMAGES = 8
PATIENTS = tuple(f"patient {i // 2}" for i in range(IMAGES))


@pytest.fixture(scope="module")
def scans() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(3, 1, SIDE, SIDE, generator=generator) * 0.6 + 0.1


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_damage_grows_with_severity_and_repeats(scans: Tensor, kind: str) -> None:
    damage = []
    for severity in SEVERITIES:
        found = corrupt(scans, kind, severity)
        assert found.shape == scans.shape
        assert found.min() >= 0
        assert found.max() <= 1
        assert torch.equal(found, corrupt(scans, kind, severity))
        damage.append((found - scans).square().mean().item())
    assert damage == sorted(damage)
    assert damage[0] > 0


def test_blur_is_scipys_away_from_the_edges(scans: Tensor) -> None:
    ours = corrupt(scans, "blur", 2)[0, 0, 20:-20, 20:-20].numpy()
    theirs = gaussian_filter(scans[0, 0].numpy(), 2.0, truncate=3.0)[20:-20, 20:-20]
    assert abs(ours - theirs).max() < 2e-4


def test_contrast_keeps_the_mean_and_speckle_the_black(scans: Tensor) -> None:
    pale = corrupt(scans, "contrast", 3)
    torch.testing.assert_close(pale.mean((1, 2, 3)), scans.mean((1, 2, 3)))
    torch.testing.assert_close(pale.std(), 0.2 * scans.std(), rtol=0.02, atol=0.0)
    assert not corrupt(torch.zeros(1, 1, 8, 8), "speckle", 5).any()


@pytest.mark.parametrize(("kind", "severity"), [("fog", 1), ("blur", 0), ("blur", 6)])
def test_others_are_refused(scans: Tensor, kind: str, severity: int) -> None:
    with pytest.raises(ValueError, match="no corruption"):
        corrupt(scans, kind, severity)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_an_image_gets_the_same_whatever_stands_beside_it(
    scans: Tensor, kind: str, channels: int
) -> None:
    some = scans.expand(-1, channels, -1, -1)
    together = corrupt(some, kind, 3, first_row=7)
    alone = [corrupt(some[i : i + 1], kind, 3, first_row=7 + i) for i in range(len(some))]
    assert torch.equal(together, torch.cat(alone))


def test_noise_is_the_rows_and_the_seeds_own() -> None:
    same = torch.full((2, 1, 64, 64), 0.5)
    noise = corrupt(same, "speckle", 1) - same
    other = corrupt(same, "speckle", 1, seed=1) - same
    for one, two in ((noise[0], noise[1]), (noise[0], other[0]), (noise[0], other[1])):
        assert abs(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1]) < 0.06
    assert noise.std().item() == pytest.approx(0.5 * 0.15, rel=0.03)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """All of one content."""
    side = stored_side(SIDE)
    one = np.random.default_rng(0).integers(0, 200, (side, side), dtype=np.uint8)
    targets = np.arange(IMAGES) % 2
    labels, paths = ("A",) * IMAGES, tuple(str(i) for i in range(IMAGES))
    pixels = np.repeat(one[None], IMAGES, axis=0)
    return ImageSet("test", pixels, targets, labels, PATIENTS, paths, SIDE)


def measured(params: config.Params, images: ImageSet, size: int) -> evaluate.Corrupted:
    """As the stage does, so many images at a time, each corruption at severities 1 and 3."""
    compute = params.compute.model_copy(update={"predict_batch_size": size})
    chosen = params.evaluate.model_copy(update={"corruption_severities": [1, 3]})
    told = params.model_copy(update={"compute": compute, "evaluate": chosen})
    return evaluate.corrupted_accuracies(told, nn.Identity(), images)


def test_the_stages_batches_do_not_change_a_pixel(
    params: config.Params, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def predict(_: nn.Module, x: Tensor) -> NDArray[np.int64]:
        seen.append(x)
        return np.zeros(len(x), dtype=np.int64)

    monkeypatch.setattr(evaluate, "predict", predict)
    found = []
    for size in (IMAGES, 3, 1):
        seen.clear()
        measured(params, images, size)
        found.append(torch.cat(seen))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    speckle = found[0][CORRUPTIONS.index("speckle") * 2 * IMAGES :][:IMAGES]
    assert len(torch.unique(speckle, dim=0)) == IMAGES


def test_accuracies_have_their_interval_over_patients(
    params: config.Params, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "predict", lambda _, x: np.zeros(len(x), dtype=np.int64))
    found = measured(params, images, IMAGES)
    right = images.targets == 0
    low, high = accuracy_interval(right, PATIENTS, params.evaluate.confidence_level)
    score = {"accuracy": 0.5, "accuracy_low": low, "accuracy_high": high}
    assert found == {kind: {"1": score, "3": score} for kind in CORRUPTIONS}


def test_the_table_shows_intervals() -> None:
    score = {"accuracy": 0.9, "accuracy_low": 0.84, "accuracy_high": 0.95}
    models = ("config_1", "hardened_online")
    found = {name: {"blur": {"1": score, "3": score}, "jpeg": {"1": score}} for name in models}
    results = SimpleNamespace(models=models, evaluation={"corruptions": found})
    table = corruption_table(cast(Results, results))
    assert table.columns == ("Corruption", *models)
    shown = f"90.0{NBSP}% (84.0{NBSP}to{NBSP}95.0)"
    assert table.rows == [(name, shown, shown) for name in ("blur 1", "blur 3", "jpeg 1")]

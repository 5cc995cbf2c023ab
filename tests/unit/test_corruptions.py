"""Corruptions: each does what its name says, more of it with severity."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from octrobust.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt


@pytest.fixture(scope="module")
def scans() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(3, 1, 80, 80, generator=generator) * 0.6 + 0.1


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

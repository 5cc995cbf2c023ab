"""Attacks that have no shards work in blocks: what they find must not depend on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from octrobust import config
from octrobust.data.arrays import ImageSet, stored_side
from octrobust.model.build import OCTClassifier
from octrobust.stages import common
from octrobust.stages.battery import _put
from octrobust.stages.compare import pgd_accuracies

SIZE = 75


@pytest.mark.parametrize("count", [1, 16, 256, 257, 1000])
def test_blocks_take_every_row_once_and_of_both_classes(count: int) -> None:
    rows = np.arange(count)
    parts = [rows[block] for block in common.blocks(count)]
    assert sorted(np.concatenate(parts)) == rows.tolist()
    assert max(map(len, parts)) <= common.BLOCK
    if len(parts) > 1:  # a split has one class after the other
        assert all((part < count // 2).any() and (part >= count // 2).any() for part in parts)


def test_records_of_blocks_are_put_back_in_order() -> None:
    whole: dict[str, dict[str, np.ndarray]] = {"pgd": {}}
    values = np.arange(5.0)
    for block in (slice(0, None, 2), slice(1, None, 2)):
        _put(whole, {"pgd": {"l2": values[block], "success": values[block] > 1}}, block, 5)
    assert whole["pgd"]["l2"].tolist() == values.tolist()
    assert whole["pgd"]["success"].dtype == bool


def test_accuracy_under_pgd_does_not_depend_on_the_blocks(
    params: config.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = stored_side(SIZE)
    rng = np.random.default_rng(0)
    targets = np.array([0, 0, 0, 1, 1, 1])
    pixels = rng.integers(0, 256, (6, side, side), dtype=np.uint8)
    images = ImageSet("test", pixels, targets, ("A",) * 6, ("1",) * 6, ("p",) * 6, SIZE)
    torch.manual_seed(0)
    network = OCTClassifier().eval()
    monkeypatch.setattr(common, "BLOCK", 4)
    some = pgd_accuracies(params, network, images, [0.25, 5.0])
    monkeypatch.setattr(common, "BLOCK", 100)
    assert some == pgd_accuracies(params, network, images, [0.25, 5.0])

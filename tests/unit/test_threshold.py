"""The line between the classes is placed where most attacked images are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from torch import Tensor, nn

from octrobust.data.arrays import Batches
from octrobust.training.objectives import Clean
from octrobust.training.threshold import best_threshold, place_threshold


@pytest.mark.parametrize("seed", range(20))
def test_no_other_threshold_is_right_more_often(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = np.r_[np.zeros(9, np.int64), np.ones(7, np.int64)]
    scores = np.round(rng.normal(targets * 1.5 - 4, 1.0), 1)  # rounded: some are equal
    found = best_threshold(scores, targets)
    grid = np.linspace(scores.min(), scores.max(), 2000)[1:-1]
    accuracies = [accuracy_score(targets, scores > line) for line in grid]
    assert accuracy_score(targets, scores > found) >= max(accuracies)


def test_of_equally_good_lines_it_is_the_middle_of_the_widest_gap() -> None:
    targets = np.array([0, 0, 1, 0, 1, 1])
    scores = np.array([-5.0, -4.0, -3.5, -3.0, 1.0, 2.0])  # one wrong at -3.75 and at -1
    assert best_threshold(scores, targets) == pytest.approx(-1.0)
    assert best_threshold(np.full(6, 3.0), targets) == 0.0


class Brightness(nn.Module):
    """Class 1's logit over class 0's is twice the mean pixel, less `bias`."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Module()
        self.network.logits = nn.Linear(1, 2)
        with torch.no_grad():
            self.network.logits.weight.copy_(torch.tensor([[-1.0], [1.0]]))
            self.network.logits.bias.copy_(torch.tensor([1.5, -1.5]))

    def forward(self, x: Tensor) -> Tensor:
        return self.network.logits(x.mean((1, 2, 3))[:, None])  # type: ignore[no-any-return,operator]


class Dimmer(Clean):
    """Its worst image is a tenth darker or brighter, away from its class."""

    def challenge(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return x + torch.where(y == 1, -0.1, 0.1)[:, None, None, None]


def greys(*values: float) -> Batches:
    """Images of one value each, the first half of class 0, in two batches."""
    grey, targets = np.array(values, np.float32), np.repeat([0, 1], len(values) // 2)
    images = np.broadcast_to(grey[:, None, None, None], (len(grey), 1, 4, 4)).copy()
    return [(images[:-2], targets[:-2]), (images[-2:], targets[-2:])]


def line_of(*images: Batches) -> float:
    """The grey at which the placed line lies."""
    model: Any = Brightness().eval()
    moved = place_threshold(model, Dimmer(), *images)
    found = (moved + 3) / 2
    logits = model(torch.full((1, 1, 4, 4), found)).detach()
    assert float(logits[0, 1] - logits[0, 0]) == pytest.approx(0.0, abs=1e-5)
    assert not any(p.grad is not None for p in model.parameters())
    return found


def test_the_line_moves_to_where_attacked_images_are_told_apart() -> None:
    # Attacked, the classes end at 0.4 and begin at 0.5.
    assert line_of(greys(0.1, 0.2, 0.3, 0.6, 0.7, 0.8)) == pytest.approx(0.45, abs=1e-5)


def test_a_few_patients_do_not_draw_the_line_against_all_the_others() -> None:
    few = greys(0.0, 0.05, 0.22, 0.28)  # attacked, class 0 ends at 0.15 and class 1 begins at 0.12
    many = greys(0.1, 0.2, 0.3, 0.4, 0.7, 0.8, 0.85, 0.9)  # at 0.5 and 0.6
    assert line_of(few) < 0.2
    assert line_of(few, many) == pytest.approx(0.55, abs=1e-5)


def test_where_training_images_are_far_apart_validation_images_place_the_line() -> None:
    training = greys(-3.0, -2.0, 3.0, 4.0)
    assert line_of(greys(0.1, 0.2, 0.3, 0.6, 0.7, 0.8), training) == pytest.approx(0.45, abs=1e-5)

"""A second trained network, with more classes than two."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from tests.conftest import learn
from tests.parity.oracles import Trained


def corners(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Three classes: a bright square in one of three corners, with noise.

    Returns (N, 1, 12, 12) float32 in [0, 1] and (N,) int64.
    """
    rng = np.random.default_rng(seed)
    targets = np.arange(count, dtype=np.int64) % 3
    images = rng.uniform(0.2, 0.5, (count, 1, 12, 12)).astype(np.float32)
    for image, target in zip(images, targets, strict=True):
        top, left = 6 * (target // 2) + 1, 6 * (target % 2) + 1
        image[0, top : top + 4, left : left + 4] += 0.4
    return images, targets


@pytest.fixture(scope="session")
def three_classes() -> Trained:
    """A small convolutional network trained on `corners`, and 32 images it gets right."""
    torch.manual_seed(0)
    x, y = (torch.from_numpy(values) for values in corners(240, seed=0))
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(144, 3),
    )
    learn(network, x, y, steps=80)
    x, y = (torch.from_numpy(values) for values in corners(32, seed=1))
    with torch.no_grad():
        assert (network(x).argmax(1) == y).all()
    return network, x, y


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Trained:
    """The trained network whose fixture the test's parameter names, as a frozen copy: the oracles
    would spend a third of their time on gradients of its parameters."""
    model, x, y = request.getfixturevalue(request.param)
    return copy.deepcopy(model).requires_grad_(False), x, y

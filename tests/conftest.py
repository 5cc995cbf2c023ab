"""Fixtures that several test files use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from octrobust import config

# Tests run small networks: threads would cost more than they bring.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def params() -> config.Params:
    """The committed demo's parameters."""
    return config.load(ROOT / "params.yaml")


def data_section(**changes: object) -> config.Data:
    """A whole `data` section, the phantom at its smallest but for `changes`."""
    values: dict[str, object] = {
        "source": "phantom",
        "root": None,
        "archive": None,
        "sha256": None,
        "classes": ["NORMAL", "CNV"],
        "image_size": 80,
        "max_quarantined": 0,
        "phantom": {"patients_per_class": 1, "images_per_patient": 1, "seed": 1},
    }
    return config.Data.model_validate({**values, **changes})


def blobs(count: int, side: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """An easy two-class set: a bright square left (0) or right (1) of the middle, with noise.

    Returns (N, 1, side, side) float32 in [0, 1] and (N,) int64.
    """
    rng = np.random.default_rng(seed)
    targets = np.arange(count, dtype=np.int64) % 2
    images = rng.uniform(0.2, 0.5, (count, 1, side, side)).astype(np.float32)
    quarter = side // 4
    for image, target in zip(images, targets, strict=True):
        left = quarter // 2 + target * 2 * quarter
        image[0, quarter : 3 * quarter, left : left + quarter] += 0.4
    return images, targets


def learn(network: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> None:
    """Train on all of x and y at once; leaves the network in eval mode."""
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    network.eval()


@pytest.fixture(scope="session")
def small_network() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A small convolutional network trained to the end on `blobs`, and 24 images it gets right."""
    torch.manual_seed(0)
    images, targets = blobs(256, 16, seed=0)
    x, y = torch.from_numpy(images), torch.from_numpy(targets)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(256, 2),
    )
    learn(network, x, y, steps=60)
    held_out, labels = blobs(24, 16, seed=1)
    x, y = torch.from_numpy(held_out), torch.from_numpy(labels)
    with torch.no_grad():
        assert (network(x).argmax(1) == y).all()
    return network, x, y

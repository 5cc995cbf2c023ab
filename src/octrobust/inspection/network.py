"""A stored model at work: its outputs, and probabilities made true by the validation images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from octrobust.config import Params
from octrobust.data.arrays import open_split
from octrobust.errors import UserError
from octrobust.evaluation.calibration import temperature
from octrobust.inspection.models import Stored
from octrobust.model.build import OCTClassifier
from octrobust.model.device import select_device
from octrobust.model.predict import batch_of, float32, logits
from octrobust.model.store import load_model
from octrobust.stages.attack import spread_rows

# Of a class. One number is fitted: more images would cost time and change little.
MOST_IMAGES = 250


@dataclass(frozen=True)
class Calibration:
    """`temperature` fitted on so many validation images; none where there are no such images, and
    `missing` says why."""

    temperature: float
    images: int
    missing: str | None = None


def load(stored: Stored, params: Params) -> OCTClassifier:
    """The network on the device of compute.device."""
    return load_model(stored.folder, select_device(params.compute))


def outputs(network: OCTClassifier, x: NDArray[np.float32], label: str) -> NDArray[np.float32]:
    """Logits (N, 2) of x (N, C, S, S), with a progress bar where that takes its time."""
    device = next(network.parameters()).device
    size = batch_of(device)
    starts = range(0, len(x), size)
    short = True if len(starts) < 3 else None  # None: on a terminal alone
    found: list[Any] = []
    with torch.inference_mode(), float32():
        for start in tqdm(starts, label, unit="batch", leave=False, disable=short):
            part = torch.from_numpy(x[start : start + size]).to(device)
            found.append(logits(network, part).float().cpu().numpy())
    return np.concatenate(found)


def calibrate(network: OCTClassifier, stored: Stored, arrays: Path) -> Calibration:
    """By the validation images in `arrays`, a share of each class where they are many."""
    try:
        images = open_split(arrays, "validation", stored.image_size)
    except UserError as error:
        return Calibration(1.0, 0, str(error))
    rows = spread_rows(images, MOST_IMAGES)
    found = outputs(network, images.views(rows), "calibrate")
    return Calibration(temperature(found, images.targets[rows]), len(rows))

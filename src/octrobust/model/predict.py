"""Predictions in batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def probabilities(model: nn.Module, x: Tensor, batch_size: int) -> NDArray[np.float32]:
    """Softmax outputs (N, K) float32 of x (N, C, H, W) float32 in [0, 1]; model in eval mode."""
    device = next(model.parameters(), x).device
    with torch.inference_mode():
        parts = [
            model(x[i : i + batch_size].to(device)).softmax(1).cpu()
            for i in range(0, len(x), batch_size)
        ]
    result: NDArray[Any] = torch.cat(parts).numpy()
    return result


def predict(model: nn.Module, x: Tensor, batch_size: int) -> NDArray[np.int64]:
    """Predicted classes (N,) int64 of x (N, C, H, W) float32 in [0, 1]; model in eval mode."""
    classes: NDArray[np.int64] = probabilities(model, x, batch_size).argmax(1)
    return classes

"""Network outputs, the same for an image whatever stands beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# Convolution and matrix libraries choose their kernels, and so their rounding, by batch size. A
# network therefore always sees batches of one size, the last filled up: what an image gets does
# not depend on how many others are asked about.
CHUNK = {"cpu": 16, "cuda": 64}


def logits(model: nn.Module, x: Tensor) -> Tensor:
    """Outputs (N, K) of x (N, C, H, W), on x's device, in batches of one size; differentiable."""
    size = CHUNK.get(x.device.type, 16)
    parts: list[Tensor] = []
    for start in range(0, len(x), size):
        part = x[start : start + size]
        missing = size - len(part)
        if missing:
            part = torch.cat([part, part[-1:].detach().expand(missing, -1, -1, -1)])
        parts.append(model(part)[: size - missing])
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def probabilities(model: nn.Module, x: Tensor) -> NDArray[np.float32]:
    """Softmax outputs (N, K) float32 of x (N, C, H, W) float32 in [0, 1]; model in eval mode."""
    device = next(model.parameters(), x).device
    with torch.inference_mode():
        result: NDArray[Any] = logits(model, x.to(device)).softmax(1).cpu().numpy()
    return result


def predict(model: nn.Module, x: Tensor) -> NDArray[np.int64]:
    """Predicted classes (N,) int64 of x (N, C, H, W) float32 in [0, 1]; model in eval mode."""
    classes: NDArray[np.int64] = probabilities(model, x).argmax(1)
    return classes

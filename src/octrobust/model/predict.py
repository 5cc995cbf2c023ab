"""Network outputs, the same for an image whatever stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# Convolution and matrix libraries choose their kernels, and so their rounding, by batch size. A
# network therefore always sees batches of one size, the last filled up: what an image gets does
# not depend on how many others are asked about.
CHUNK = {"cpu": 16, "cuda": 64}


def batch_of(device: torch.device) -> int:
    """The one batch size that networks see on a device."""
    return CHUNK.get(device.type, 16)


def chunks(x: Tensor) -> Iterator[tuple[Tensor, int]]:
    """x (N, ...) in batches of one size, each with the number of its rows that are real."""
    size = batch_of(x.device)
    for start in range(0, len(x), size):
        part = x[start : start + size]
        real = len(part)
        if real < size:
            part = torch.cat([part, part[-1:].expand(size - real, *part.shape[1:])])
        yield part, real


@contextmanager
def float32() -> Iterator[None]:
    """Float32 as such: by default torch lets CUDA's convolutions round to TF32 on the way."""
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = False
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before


def logits(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Outputs (N, K) of x (N, C, H, W), on x's device, in batches of one size."""
    return torch.cat([model(part)[:real] for part, real in chunks(x)])


def probabilities(model: nn.Module, x: Tensor) -> NDArray[np.float32]:
    """Softmax outputs (N, K) float32 of x (N, C, H, W) float32 in [0, 1]; model in eval mode."""
    device = next(model.parameters(), x).device
    with torch.inference_mode(), float32():
        result: NDArray[Any] = logits(model, x.to(device)).softmax(1).cpu().numpy()
    return result


def predict(model: nn.Module, x: Tensor) -> NDArray[np.int64]:
    """Predicted classes (N,) int64 of x (N, C, H, W) float32 in [0, 1]; model in eval mode."""
    classes: NDArray[np.int64] = probabilities(model, x).argmax(1)
    return classes

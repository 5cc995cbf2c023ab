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


def filling(count: int, device: torch.device) -> int:
    """What fills up the last batch of `count` images."""
    return -count % batch_of(device)


def chunks(x: Tensor) -> Iterator[tuple[Tensor, int]]:
    """x (N, ...) in batches of one size, each with the number of its rows that are real."""
    for start in range(0, len(x), batch_of(x.device)):
        part = x[start : start + batch_of(x.device)]
        missing = filling(len(part), x.device)
        again = part[-1:].expand(missing, *part.shape[1:])
        yield torch.cat([part, again]) if missing else part, len(part)


@contextmanager
def float32(*, tf32: bool = False) -> Iterator[None]:
    """Float32 as such, or rounded to TF32 on the way in CUDA's convolutions and products: torch's
    default is neither everywhere. A surrounding autocast does not reach in."""
    parts: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    name, value = "allow_tf32", tf32
    if hasattr(parts[1], "fp32_precision"):  # torch 2.9: the two names must not be mixed
        parts, name = (parts[0].conv, parts[0].rnn, parts[1]), "fp32_precision"
        value = "tf32" if tf32 else "ieee"  # type: ignore[assignment]
    before = [getattr(part, name) for part in parts]
    plain = [torch.autocast(device, enabled=False) for device in ("cpu", "cuda")]
    try:
        for part in parts:
            setattr(part, name, value)
        with plain[0], plain[1]:
            yield
    finally:
        for part, old in zip(parts, before, strict=True):
            setattr(part, name, old)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode; every part's own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def logits(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Outputs (N, K) of x (N, C, H, W), on x's device, in batches of one size."""
    return torch.cat([model(part)[:real] for part, real in chunks(x)])


def probabilities(model: nn.Module, x: Tensor) -> NDArray[np.float32]:
    """Softmax outputs (N, K) float32 of x (N, C, H, W) float32 in [0, 1]; model in eval mode."""
    result: NDArray[Any] = _outputs(model, x).softmax(1).cpu().numpy()
    return result


def predict(model: nn.Module, x: Tensor) -> NDArray[np.int64]:
    """Predicted classes (N,) int64 of x (N, C, H, W) float32 in [0, 1]; model in eval mode. Of the
    logits: a softmax rounds the smallest margins to a tie."""
    classes: NDArray[np.int64] = _outputs(model, x).argmax(1).cpu().numpy()
    return classes


def _outputs(model: nn.Module, x: Tensor) -> Tensor:
    device = next(model.parameters(), x).device
    with torch.inference_mode(), float32():
        return logits(model, x.to(device))

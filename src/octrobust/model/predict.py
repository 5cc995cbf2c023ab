"""Network outputs, the same for an image whatever stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

T = TypeVar("T")
# Convolution and matrix libraries choose their kernels, and so their rounding, by batch size. A
# network therefore always sees batches of one size, the last filled up: what an image gets does
# not depend on how many others are asked about.
CHUNK = {"cpu": 16, "cuda": 64}


def batch_of(device: torch.device) -> int:
    """The one batch size that networks see on a device."""
    return CHUNK.get(device.type, 16)


def filling(count: int, device: torch.device, *, fill: bool) -> int:
    """What fills up the last batch of `count` images, if `fill`."""
    return -count % batch_of(device) if fill else 0


def chunks(x: Tensor, *, fill: bool = True) -> Iterator[tuple[Tensor, int]]:
    """x (N, ...) in batches of one size, the last filled up if `fill`, each with the number of its
    rows that are real."""
    for start in range(0, len(x), batch_of(x.device)):
        part = x[start : start + batch_of(x.device)]
        missing = filling(len(part), x.device, fill=fill)
        again = part[-1:].expand(missing, *part.shape[1:])
        yield torch.cat([part, again]) if missing else part, len(part)


@contextmanager
def float32(*, tf32: bool = False) -> Iterator[None]:
    """Float32 as such, or rounded to TF32 on the way in CUDA's convolutions and products: torch's
    default is neither everywhere, and a program may allow bf16 inside on a CPU as well. A
    surrounding autocast does not reach in."""
    on_cuda, on_cpu = _parts()
    parts = [*on_cuda, *on_cpu]
    before = [part.fp32_precision for part in parts]
    cudnn = _unless_mixed(lambda: torch.backends.cudnn.allow_tf32)
    products = _unless_mixed(torch.get_float32_matmul_precision)
    plain = [torch.autocast(device, enabled=False) for device in ("cpu", "cuda")]
    try:
        # The older names too: who reads those inside must not find them contradicted. Where the
        # caller's own settings do so already, they stay.
        if cudnn is not None:
            torch.backends.cudnn.allow_tf32 = tf32
        if products is not None:
            torch.set_float32_matmul_precision("high" if tf32 else "highest")
        for part in parts:
            part.fp32_precision = "tf32" if tf32 and part in on_cuda else "ieee"
        with plain[0], plain[1]:
            yield
    finally:
        if cudnn is not None:
            torch.backends.cudnn.allow_tf32 = cudnn
        if products is not None:
            torch.set_float32_matmul_precision(products)
        for part, old in zip(parts, before, strict=True):
            part.fp32_precision = "none"  # as the library's own, which may be what it was
            if part.fp32_precision != old:
                part.fp32_precision = old


def _parts() -> tuple[list[Any], list[Any]]:
    """Where torch 2.9 and later keep what float32 is, by operation: on CUDA, and on a CPU."""
    cudnn, mkldnn = torch.backends.cudnn, torch.backends.mkldnn
    on_cuda = [torch.backends.cuda.matmul, *(getattr(cudnn, n, None) for n in ("conv", "rnn"))]
    on_cpu = [getattr(mkldnn, name, None) for name in ("matmul", "conv", "rnn")]
    cuda, cpu = ([p for p in some if hasattr(p, "fp32_precision")] for some in (on_cuda, on_cpu))
    return cuda, cpu


def _unless_mixed(read: Callable[[], T]) -> T | None:
    """None where a program has set older and newer names to different things: torch refuses."""
    try:
        return read()
    except RuntimeError:
        return None


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


def logits(model: Callable[[Tensor], Tensor], x: Tensor, *, fill: bool = True) -> Tensor:
    """Outputs (N, K) of x (N, C, H, W), on x's device, in batches of one size; without `fill` the
    last is as short as it is, and what an image gets depends on that in its last digits."""
    outputs = []
    for part, real in chunks(x, fill=fill):
        output = model(part)
        if not isinstance(output, Tensor):
            raise ValueError(f"the model must give logits, a tensor, not {type(output).__name__}")
        outputs.append(output[:real])
    return torch.cat(outputs)


def probabilities(model: nn.Module, x: Tensor) -> NDArray[np.float32]:
    """Softmax outputs (N, K) float32 of x (N, C, H, W) float32 in [0, 1]; model in eval mode."""
    result: NDArray[Any] = outputs(model, x).softmax(1).cpu().numpy()
    return result


def predict(model: nn.Module, x: Tensor) -> NDArray[np.int64]:
    """Predicted classes (N,) int64 of x (N, C, H, W) float32 in [0, 1]; model in eval mode. Of the
    logits: a softmax rounds the smallest margins to a tie."""
    classes: NDArray[np.int64] = outputs(model, x).argmax(1).cpu().numpy()
    return classes


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    """Logits (N, K) float32 of x (N, C, H, W) float32 in [0, 1], in float32 throughout; model in
    eval mode."""
    device = next(model.parameters(), x).device
    with torch.inference_mode(), float32():
        return logits(model, x.to(device))

"""The arithmetic floor: no iteration costs less than the network's convolutions alone.

Every convolution of the network, at its real shape, channels-last, is timed alone: forward, and
the gradient of its input. Exact FLOPs over the sum of the best times is the rate that the machine
sustains; the network's FLOPs, counted by torch, over that rate is the floor.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from bench.machine import has_bf16
from octrobust.model.build import OCTClassifier
from octrobust.model.store import load_model

METHOD = """\
Method: each convolution of the network, at its real shape for this batch and size, channels-last,
alone: forward, and the gradient of its input (`aten.convolution_backward`, output mask input only);
best of {best_of}, and of the turns. Their FLOPs over their summed times is the sustained rate.
FLOPs of one image's forward and input gradient: torch's `FlopCounterMode` on the whole network with
frozen parameters. Floor of one iteration of one image = FLOPs / rate. *Whole attack*: its seconds
over (images x gradient passes), so that verdicts, screens, updates and set-up all count as
overhead. *Search loop*: without the seconds that the original network takes, in float32, to judge
clean images and successes; the convolutions of its screens (forwards of the search's own view,
counted by image, padding left out) count as arithmetic, at the rate of a forward. A share above 100
% means that the search computes less than the network as trained (merged or folded layers), or
convolves at a better shape."""


@dataclass(frozen=True)
class Convolution:
    """A distinct shape: `image` (C, H, W) in, `weight` (out, in, kh, kw)."""

    image: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]


def measure_floor(spec: dict[str, Any]) -> dict[str, Any]:
    """FLOPs an image and, for each precision of the device, seconds an image and GFLOP/s.

    spec: model, device, batch, size, channels, best_of.
    """
    device = torch.device(spec["device"])
    network = load_model(Path(spec["model"]), device).requires_grad_(False)
    x = torch.rand(1, 1 if spec["channels"] == "grey" else 3, spec["size"], spec["size"])
    x = x.to(device)
    shapes = convolutions(network, x)
    return {
        "gflop": flops(network, x) / 1e9,
        "convolutions": shapes.total(),
        "rates": {
            name: _time_all(shapes, spec["batch"], dtype, device, spec["best_of"], tf32)
            for name, dtype, tf32 in _precisions(device)
        },
    }


def quicker(one: dict[str, Any] | None, other: dict[str, Any]) -> dict[str, Any]:
    """Of two measurements, at each precision that with the higher rate: what the machine can."""
    if one is None or "error" in one:
        return other
    if "error" in other:
        return one
    rates = {
        name: max(rate, one["rates"][name], key=lambda found: found["gflops"])
        for name, rate in other["rates"].items()
    }
    return other | {"rates": rates}


def flops(network: nn.Module, x: Tensor) -> int:
    """Of the forward and the input's gradient at x (N, C, H, W), parameters frozen."""
    with FlopCounterMode(display=False) as counter:
        at = x.clone().requires_grad_(True)
        network(at).sum().backward()
    return int(counter.get_total_flops())


def convolutions(network: OCTClassifier, x: Tensor) -> Counter[Convolution]:
    """Each shape, and how often it occurs in one forward of x (1, C, H, W)."""
    found: Counter[Convolution] = Counter()

    def see(layer: nn.Conv2d, inputs: tuple[Tensor], _: Tensor) -> None:
        image, weight = tuple(inputs[0].shape[1:]), tuple(layer.weight.shape)
        found[Convolution(image, weight, tuple(layer.stride), tuple(layer.padding))] += 1  # type: ignore[arg-type]

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(see) for layer in layers]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return found


def _precisions(device: torch.device) -> list[tuple[str, torch.dtype, bool]]:
    some = [("fp32", torch.float32, False)]
    some += [("bf16", torch.bfloat16, False)] if has_bf16(device.type) else []
    return [*some, ("TF32", torch.float32, True)] if device.type == "cuda" else some


def _time_all(
    shapes: Counter[Convolution],
    batch: int,
    dtype: torch.dtype,
    device: torch.device,
    best_of: int,
    tf32: bool,
) -> dict[str, float]:
    torch.backends.cudnn.allow_tf32 = tf32
    forward = backward = work = 0.0
    for shape, times in shapes.items():
        there, back, count = _time_one(shape, batch, dtype, device, best_of)
        forward, backward = forward + times * there, backward + times * back
        work += times * count
    return {
        "forward_ms": 1e3 * forward / batch,
        "backward_ms": 1e3 * backward / batch,
        "gflops": work / (forward + backward) / 1e9,
    }


def _time_one(
    shape: Convolution, batch: int, dtype: torch.dtype, device: torch.device, best_of: int
) -> tuple[float, float, float]:
    """Seconds forward, seconds of the input's gradient, FLOPs of both."""

    def tensor(*size: int) -> Tensor:
        return torch.rand(size, device=device).to(dtype, memory_format=torch.channels_last)

    x, weight = tensor(batch, *shape.image), tensor(*shape.weight)
    stride, padding = list(shape.stride), list(shape.padding)
    gradient = torch.rand_like(conv2d(x, weight, None, stride, padding))

    def back() -> Any:
        return torch.ops.aten.convolution_backward(
            *(gradient, x, weight, None, stride, padding, [1, 1]),
            *(False, [0, 0], 1, [True, False, False]),
        )

    work = 2 * 2 * gradient.numel() * weight[0].numel()
    with torch.no_grad():
        there = best(lambda: conv2d(x, weight, None, stride, padding), device, best_of)
        return there, best(back, device, best_of), float(work)


def best(run: Callable[[], Any], device: torch.device, best_of: int) -> float:
    """Shortest of `best_of` runs after a first one; on CUDA a run is ten calls on end."""
    calls = 10 if device.type == "cuda" else 1
    times = []
    for _ in range(best_of + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(calls):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - started) / calls)
    return min(times[1:])

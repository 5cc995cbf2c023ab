"""What one pass costs, forward and the images' gradient, as the speed-ups come on one by one.

In one process, interleaved, so that a machine's moods meet all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from octrobust.model.build import OCTClassifier
from octrobust.model.fold import FoldedInceptionResnet
from octrobust.model.store import load_model

REPEATS = 15
Pass = Callable[[Tensor], Tensor]  # images (n, C, S, S) to the margins' gradients, same shape


def measure_passes(spec: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds an image of every way, REPEATS times in turns.

    spec: model, device, batch, size, channels.
    """
    device = torch.device(spec["device"])
    x = torch.rand(
        spec["batch"], 1 if spec["channels"] == "grey" else 3, spec["size"], spec["size"]
    )
    x = x.to(device)
    ways: dict[str, Pass] = {}
    errors: dict[str, str] = {}
    for name, build in BUILDERS.items():
        try:
            ways[name] = build(Path(spec["model"]), x)
            ways[name](x)  # compiles, and warms up
        except Exception as error:  # a row of the table, not the end of the run
            ways.pop(name, None)
            errors[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            times[name].append(_milliseconds(way, x) / len(x))
    return {"milliseconds": times, "errors": errors}


def _milliseconds(way: Pass, x: Tensor) -> float:
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    started = time.perf_counter()
    way(x).sum().item()
    return 1e3 * (time.perf_counter() - started)


def _network(model: Path, device: torch.device, *, frozen: bool, last: bool) -> OCTClassifier:
    layout = torch.channels_last if last else torch.contiguous_format
    network = load_model(model, device).to(memory_format=layout)
    return network.requires_grad_(not frozen)


def _autograd(network: Callable[[Tensor], Tensor], *, parameters: bool = False) -> Pass:
    def run(x: Tensor) -> Tensor:
        with torch.enable_grad():
            at = x.clone().requires_grad_(True)
            outputs = network(at)
            total = (outputs[:, 1] - outputs[:, 0]).sum()
            if parameters:  # as a peer that calls backward()
                total.backward()
                assert at.grad is not None
                return at.grad
            return torch.autograd.grad(total, at)[0]

    return run


def _as_shipped(model: Path, x: Tensor) -> Pass:
    return _autograd(_network(model, x.device, frozen=False, last=False), parameters=True)


def _frozen(model: Path, x: Tensor) -> Pass:
    return _autograd(_network(model, x.device, frozen=True, last=False))


def _channels_last(model: Path, x: Tensor) -> Pass:
    return _autograd(_network(model, x.device, frozen=True, last=True))


def _in_bf16(way: Callable[[Path, Tensor], Pass]) -> Callable[[Path, Tensor], Pass]:
    """Under torch's autocast, as one would without a folded copy."""

    def build(model: Path, x: Tensor) -> Pass:
        run = way(model, x)

        def cast(x: Tensor) -> Tensor:
            with torch.autocast(x.device.type, torch.bfloat16):
                return run(x)

        return cast

    return build


def _folded(model: Path, x: Tensor, dtype: torch.dtype = torch.float32) -> Pass:
    network = _network(model, x.device, frozen=True, last=True)
    folded = FoldedInceptionResnet(network, x.shape[1], dtype)

    def run(x: Tensor) -> Tensor:
        outputs, tape = folded.logits_and_tape(x)
        slope = torch.tensor([-1.0, 1.0], device=x.device).expand_as(outputs).contiguous()
        return folded.input_gradient(slope, tape)

    return run


def _compiled(model: Path, x: Tensor) -> Pass:
    return _autograd(torch.compile(_network(model, x.device, frozen=True, last=True)))


def _graphed(model: Path, x: Tensor) -> Pass:
    if x.device.type != "cuda":
        raise RuntimeError("CUDA graphs need CUDA")
    network = _network(model, x.device, frozen=True, last=True)
    return _autograd(torch.compile(network, mode="reduce-overhead"))


BUILDERS: dict[str, Callable[[Path, Tensor], Pass]] = {
    "the network as given, gradients of parameters too": _as_shipped,
    "parameters frozen": _frozen,
    "frozen, channels-last": _channels_last,
    "frozen, channels-last, torch.compile": _compiled,
    "frozen, channels-last, torch.compile with CUDA graphs": _graphed,
    "folded copy, way back written out (ours)": _folded,
    "folded copy, torch.compile": lambda model, x: torch.compile(_folded(model, x)),
    "frozen, channels-last, bf16 by autocast": _in_bf16(_channels_last),
    "frozen, channels-last, bf16 by autocast, torch.compile": _in_bf16(_compiled),
    "folded copy, bf16 (ours)": partial(_folded, dtype=torch.bfloat16),
    "folded copy, bf16, torch.compile": lambda model, x: torch.compile(
        _folded(model, x, torch.bfloat16)
    ),
}

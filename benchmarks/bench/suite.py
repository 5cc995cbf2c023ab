"""What `make bench` runs, and how long it will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bench import implementations, parts, passes, readme
from bench.implementations import (
    OURS,
    OURS_FP32,
    OURS_SHORT,
    PEER_ROWS,
    PROJECTION,
    Implementation,
    Parameters,
    pick,
)
from bench.machine import has_bf16
from bench.network import trained
from bench.runs import Setting, turns
from octrobust.model.build import OCTClassifier
from octrobust.model.predict import batch_of

START = 8.0  # seconds for a worker to import, load and judge
BUDGETS = (10, 25)
QUALITY_ROWS = [
    "ART, batch N",
    "foolbox",
    "foolbox, early abort",
    "torchattacks, early abort",
    "advertorch",
    "advertorch, early abort",
]
FEW_ROWS = [
    *("foolbox", "foolbox, channels-last network"),
    *("advertorch", "advertorch, channels-last network"),
    *(OURS, OURS_FP32, OURS_SHORT, PROJECTION),
]
LARGE_ROWS = ["ART, batch 1 (as shipped)", "ART, batch N", *FEW_ROWS]
# From where the allocator has settled: 64 images end before it has.
MEMORY_COUNTS, LINEAR_COUNTS = (256, 1024, 4096), (1024, 15000)


@dataclass(frozen=True)
class Part:
    name: str
    setting: Setting
    run: Callable[[], Path]
    work: float  # forwards of one image, all rows and turns together
    workers: int


def plan(device: str, threads: int, out: Path) -> list[Part]:
    """The parts, in order: what answers the first number of the issue comes first."""
    cuda = device == "cuda"

    def setting(size: int, images: int, steps: int, iterations: int, const: float) -> Setting:
        # A network of ours always sees batches of one size: fewer images would be filled up.
        images = max(images, batch_of(torch.device(device)))
        parameters = Parameters(binary_search_steps=steps, max_iter=iterations, initial_const=const)
        return Setting(size, images, images, "grey", parameters, device, threads, repeats=2)

    def every() -> tuple[Implementation, ...]:
        return (*PEER_ROWS, *implementations.our_rows("auto", cuda))

    # At 224 px a short search too, from a c that succeeds: it is all fixed costs, the other has
    # the steps that ours skips.
    large = replace(setting(224, 16, 9, 10, 0.001), repeats=1)
    short = replace(setting(224, 16, 1, 10, 1.0), repeats=1)
    small = replace(setting(80, 16, 9, 10, 0.001), repeats=3)
    rgb = replace(small, channels="rgb", repeats=2)
    curve = replace(setting(80, 16, 9, max(BUDGETS), 0.001), repeats=2)
    # More images than fit the batch: otherwise refilling it has nothing to do.
    batch = batch_of(torch.device(device))
    ablated = replace(setting(80, batch + batch // 2, 9, 5, 0.001), batch=batch, repeats=3)
    curves = (
        *(*pick(PEER_ROWS, QUALITY_ROWS), implementations.TUNED_PEER),
        *implementations.quality_rows("auto"),
    )
    found = [
        _compare(small, every(), out),
        _ablation(ablated, implementations.ablation_rows(5, "auto", has_bf16(device)), out),
        _quality(curve, curves, out),
        _floor(replace(short, repeats=3), out),
        _passes(small, out),
        _profile(short, out),
        _memory(replace(small, batch=32, images=32), out),
        _compare(rgb, pick(every(), FEW_ROWS), out),
        _compare(short, every(), out),
        _compare(large, pick(every(), LARGE_ROWS), out),
    ]
    return [*found, _throughput(setting(224, 192, 9, 10, 0.001), out)] if cuda else found


def run(device: str, threads: int, out: Path) -> None:
    """Run all parts, telling in advance how long they take."""
    planned = plan(device, threads, out)
    forward = seconds_a_forward(device, threads)
    expected = [part.work * forward(part.setting.size) + START * part.workers for part in planned]
    _say(f"About {sum(expected) / 60:.0f} minutes on {device}, {threads} threads:")
    for part, seconds in zip(planned, expected, strict=True):
        _say(f"  {part.name}: {seconds / 60:.1f} min")
    for size in sorted({part.setting.size for part in planned}):
        trained(size)  # before the first clock starts; kept for the next time
    for part, seconds in zip(planned, expected, strict=True):
        _say(f"{part.name}, about {seconds / 60:.1f} min")
        started = time.perf_counter()
        part.run()
        _say(f"{part.name}: took {(time.perf_counter() - started) / 60:.1f} min")
        readme.write(out)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def seconds_a_forward(device: str, threads: int) -> Callable[[int], float]:
    """Seconds of one image's forward by its size, from a short measurement at 96 px."""
    torch.set_num_threads(threads)
    network = OCTClassifier().eval().to(device, memory_format=torch.channels_last)
    x = torch.rand(8, 1, 96, 96, device=device)
    times = []
    for _ in range(4):
        started = time.perf_counter()
        with torch.no_grad():
            network(x).sum().item()
        times.append((time.perf_counter() - started) / len(x))
    return lambda size: min(times) * (size / 96) ** 2


def _forwards(setting: Setting, rows: tuple[Implementation, ...]) -> float:
    return setting.work * sum(row.cost * turns(row, setting.repeats) for row in rows)


def _compare(setting: Setting, rows: tuple[Implementation, ...], out: Path) -> Part:
    return Part(
        f"compare, {setting.size} px, {setting.channels}",
        setting,
        lambda: parts.compare(setting, trained(setting.size), rows, out),
        _forwards(setting, rows),
        sum(turns(row, setting.repeats) for row in rows),
    )


def _ablation(setting: Setting, rows: tuple[Implementation, ...], out: Path) -> Part:
    return replace(
        _compare(setting, rows, out),
        name="ablation",
        run=lambda: parts.ablation(setting, trained(setting.size), rows, out),
    )


def _quality(setting: Setting, rows: tuple[Implementation, ...], out: Path) -> Part:
    each = setting.images * setting.parameters.binary_search_steps
    number = sum(turns(row, setting.repeats) * row.cost for row in rows)
    workers = sum(turns(row, setting.repeats) for row in rows) * len(BUDGETS)
    return Part(
        "quality",
        setting,
        lambda: parts.quality(setting, trained(setting.size), rows, BUDGETS, {}, out),
        each * number * sum(BUDGETS),
        workers,
    )


def _floor(setting: Setting, out: Path) -> Part:
    peers = pick(PEER_ROWS, ["foolbox"])
    iterations = parts.FLOOR_PARAMETERS.binary_search_steps * parts.FLOOR_PARAMETERS.max_iter
    return Part(
        "floor",
        setting,
        lambda: parts.floor(setting, trained(setting.size), 3, peers, out),
        setting.repeats * setting.batch * (iterations * (2 * 2.5 + 4.0) + 4 * 2 * 2),
        4 * setting.repeats,
    )


def _passes(setting: Setting, out: Path) -> Part:
    return Part(
        "passes",
        setting,
        lambda: parts.passes(setting, trained(setting.size), out),
        setting.batch * passes.REPEATS * len(passes.BUILDERS) * 3.0,
        20,  # five of them compile
    )


def _profile(setting: Setting, out: Path) -> Part:
    rows = implementations.our_rows("auto", cuda=False)
    return Part(
        "profile",
        setting,
        lambda: parts.profile(setting, trained(setting.size), rows, out),
        _forwards(setting, rows),
        len(rows),
    )


def _memory(setting: Setting, out: Path) -> Part:
    tiny = replace(
        setting, parameters=Parameters(binary_search_steps=1, max_iter=2, initial_const=1.0)
    )
    return Part(
        "memory",
        tiny,
        lambda: parts.memory(tiny, trained(tiny.size), MEMORY_COUNTS, LINEAR_COUNTS, out),
        sum(MEMORY_COUNTS) * (2 * 2.5 + 4),
        len(MEMORY_COUNTS) + len(LINEAR_COUNTS),
    )


def _throughput(setting: Setting, out: Path) -> Part:
    setting = replace(setting, batch=64)
    peers = pick(PEER_ROWS, ["foolbox", "advertorch"])
    fp32 = (replace(peer, name=f"{peer.name}, fp32", tf32=False) for peer in peers)
    rows = (*implementations.precision_rows(), *peers, *fp32)
    return replace(
        _compare(setting, rows, out),
        name="throughput",
        run=lambda: parts.throughput(setting, trained(setting.size), rows, out),
    )

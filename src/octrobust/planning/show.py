"""The plan as a table on a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from octrobust.config import Compute
from octrobust.machine import processor
from octrobust.planning import devices
from octrobust.planning.devices import Device
from octrobust.planning.estimate import Planned, total
from octrobust.planning.work import MIB, TYPICAL


def as_json(
    lines: Sequence[Planned], measured: dict[str, Any], gpu: Device | None
) -> dict[str, Any]:
    """Everything in the units of `Planned`: bytes, seconds, FLOPs."""
    return {
        "machine": processor(),
        "calibration": measured,
        "gpu": asdict(gpu) if gpu else None,
        "assumed": {
            **asdict(TYPICAL),
            "share_of_peak": devices.SHARE_OF_PEAK,
            "share_of_bandwidth": devices.SHARE_OF_BANDWIDTH,
        },
        "stages": [asdict(line) for line in lines],
        "total": total(lines),
    }


def write(
    lines: Sequence[Planned],
    measured: dict[str, Any],
    gpu: Device | None,
    compute: Compute,
    console: Console,
) -> None:
    """Print the table."""
    console.print(_table(lines, gpu))
    for line in notes(measured, gpu, compute):
        console.print(line, style="dim", highlight=False)


def notes(measured: dict[str, Any], gpu: Device | None, compute: Compute) -> list[str]:
    """What the figures rest on."""
    found = [
        f"Times here: from a calibration of {measured['seconds']:.0f} s. Passes of an attack until "
        "it has settled are typical ones; see docs/explanation/scale.md.",
        "Disk: once more in DVC's cache where the disk cannot link files; checkpoints come and go.",
    ]
    if compute.launcher != "none":
        found.append(
            f"All is of one process: compute.launcher {compute.launcher} starts "
            f"{compute.processes} on each of {compute.nodes} machines. Each takes about that "
            "memory, for its share of a batch; what time they save depends on cores and network."
        )
    if gpu:
        found.append(
            f"{gpu.name}: {gpu.source}; assumed: {devices.SHARE_OF_PEAK:.0%} of the rated peak in "
            f"convolutions, {devices.SHARE_OF_BANDWIDTH:.0%} of the bandwidth around them. Files "
            "and augmentation stay with this machine's processor."
        )
    return found


def _table(lines: Sequence[Planned], gpu: Device | None) -> Table:
    table = Table(title="What dvc repro will take", title_justify="left")
    table.add_column("stage")
    columns = ("images", "TFLOP", "memory", "disk", "time here", *([gpu.name] if gpu else []))
    for column in columns:
        table.add_column(column, justify="right")
    for line in lines:
        seconds = [line.start_seconds + line.seconds]
        if line.gpu_seconds is not None:
            seconds.append(line.start_seconds + line.gpu_seconds)
        table.add_row(
            *(line.stage, f"{line.images:,}", _tera(line.flops)),
            *(_bytes(line.memory), _bytes(line.disk), *map(duration, seconds)),
        )
    whole = total(lines)
    times = [whole["seconds"], whole["gpu_seconds"]]
    table.add_section()
    table.add_row(
        *("total", "", _tera(whole["flops"] or 0.0)),
        *(_bytes(whole["memory"] or 0), _bytes(whole["disk"] or 0)),
        *(duration(seconds) for seconds in times if seconds is not None),
    )
    return table


def duration(seconds: float) -> str:
    """In the two largest units that count."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 99.5:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _tera(flops: float) -> str:
    return f"{flops / 1e12:,.1f}" if flops else ""


def _bytes(count: float) -> str:
    if not count:
        return ""
    mib = count / MIB
    return f"{mib:,.0f} MiB" if mib < 10_000 else f"{mib / 1024:,.0f} GiB"

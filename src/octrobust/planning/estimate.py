"""The plan: what stages take, by the machine's calibration and a GPU's rated rates."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from octrobust.config import Params
from octrobust.planning import devices, work
from octrobust.planning.devices import Device
from octrobust.planning.work import MIB, Pass, Stage

if TYPE_CHECKING:
    from octrobust.planning.calibrate import Rates

# Seconds of a stage beside its images, as multiples of what importing torch and the library takes
# here, as seen on the demo (docs/explanation/scale.md): a process's start, DVC's part of it
# included, and what it loads or draws once it has begun (Great Expectations, facenet-pytorch, ART,
# figures).
_STARTS = {"files": 0.6, "validation": 0.7, "torch": 1.3, "art": 1.3, "report": 1.3}
_LOADS = {"files": 0.0, "validation": 2.5, "torch": 0.5, "art": 1.5, "report": 3.0}
# The tracker imports MLflow in a process of its own: after the report, and after stages of 10 s, at
# most once in three minutes; see octrobust.tracking.attempt.
_FLUSH, _SHORT_STAGE, _FLUSH_EVERY = 2.5, 10.0, 180.0
# Of a process without torch, bytes, as seen.
_LIGHT = {"files": 60 * MIB, "validation": 250 * MIB}
_ROW_BYTES = 600  # of a table's row, while one is held as a whole
TRACKER = "tracker"
_ROW_SECONDS = 4e-5  # of a table's row, read or written


@dataclass(frozen=True)
class Planned:
    """One line of the plan: bytes and seconds.

    Attributes:
        start_seconds: of the process, before its work.
        seconds, gpu_seconds: of its work; None where no GPU was named.
    """

    stage: str
    images: int
    flops: float
    memory: int
    disk: int
    start_seconds: float
    seconds: float
    gpu_seconds: float | None


def plan(params: Params, gpu: Device | None = None) -> tuple[list[Planned], dict[str, Any]]:
    """Calibrate and estimate every stage, and the calibration itself as JSON-able numbers."""
    started = time.perf_counter()
    from octrobust.planning import calibrate

    imported = time.perf_counter() - started
    stages = work.stages(params)
    passes = [one for stage in stages for one in stage.passes]
    rates = calibrate.calibrate(params, passes)
    lines = [_line(params, stage, rates, imported, gpu) for stage in stages]
    lines.append(_tracker(lines, imported))
    measured = {**asdict(rates), "import": imported, "seconds": time.perf_counter() - started}
    return lines, measured


def total(lines: Sequence[Planned]) -> dict[str, float | None]:
    """Sums, and of memory the largest."""
    gpu = [line.gpu_seconds for line in lines if line.gpu_seconds is not None]
    return {
        "flops": sum(line.flops for line in lines),
        "memory": max(line.memory for line in lines),
        "disk": sum(line.disk for line in lines),
        "seconds": sum(line.start_seconds + line.seconds for line in lines),
        "gpu_seconds": sum(gpu) + sum(line.start_seconds for line in lines) if gpu else None,
    }


def _line(
    params: Params, stage: Stage, rates: Rates, imported: float, gpu: Device | None
) -> Planned:
    size, loads = params.data.image_size, _LOADS[stage.needs] * imported
    return Planned(
        stage=stage.name,
        images=stage.images,
        flops=stage.flops(size),
        memory=stage.memory
        + _LIGHT.get(stage.needs, rates.memory)
        + (stage.rows * _ROW_BYTES if stage.needs in _LIGHT else 0),
        disk=stage.disk,
        start_seconds=_STARTS[stage.needs] * imported,
        seconds=loads + here(stage, rates),
        gpu_seconds=(
            loads + there(stage, rates, gpu, size, params.compute.workers) if gpu else None
        ),
    )


def _tracker(lines: Sequence[Planned], imported: float) -> Planned:
    """What logging to MLflow holds up the stages for."""
    now, last, flushes = 0.0, -_FLUSH_EVERY, 1
    for line in lines[:-1]:
        now += line.start_seconds + line.seconds
        if line.seconds >= _SHORT_STAGE and now - last >= _FLUSH_EVERY:
            flushes, last = flushes + 1, now
    seconds = flushes * _FLUSH * imported
    gpu = None if lines[0].gpu_seconds is None else 0.0
    return Planned(TRACKER, 0, 0.0, 0, 0, seconds, 0.0, gpu)


def here(stage: Stage, rates: Rates) -> float:
    """Seconds of the stage's own work on this machine."""
    from octrobust.planning.calibrate import key

    passed = sum(one.images * rates.passes[key(one)] for one in stage.passes)
    # A step's time has its augmentation in it.
    return passed + _beside(stage, rates)


def there(stage: Stage, rates: Rates, gpu: Device, size: int, workers: int) -> float:
    """The same on the GPU; images are handled by this machine's processor. Steps wait for images
    where augmenting them takes longer."""

    def seconds(passes: list[Pass]) -> float:
        return sum(devices.seconds(gpu, one, size) for one in passes)

    steps = [one for one in stage.passes if one.kind in ("train", "fold", "gradient")]
    rest = [one for one in stage.passes if one not in steps]
    augment = stage.handled.get("augment", 0) * rates.handled.get("augment", 0.0)
    fed = max(seconds(steps), augment / max(workers, 1))
    return fed + seconds(rest) + _beside(stage, rates)


def _beside(stage: Stage, rates: Rates) -> float:
    handled = sum(
        count * rates.handled[kind] for kind, count in stage.handled.items() if kind != "augment"
    )
    return handled + stage.epochs * rates.epoch + stage.rows * _ROW_SECONDS

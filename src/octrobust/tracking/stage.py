"""The frame of a pipeline stage: timed, and recorded if it ends well."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octrobust.distributed.place import is_first
from octrobust.tracking import kept
from octrobust.tracking.log import record
from octrobust.tracking.records import Kind


@dataclass
class StageRun:
    """What a stage wants remembered; it fills this in while it runs."""

    metrics: Path | None = None
    curves: list[Path] = field(default_factory=list)
    artifacts: list[Path] = field(default_factory=list)
    kind: Kind = "stage"
    unfinished: Path | None = None  # scratch, kept until dvc.lock has the result


@contextmanager
def stage_run(name: str, *, params: dict[str, Any]) -> Iterator[StageRun]:
    """Run a stage's body and record it afterwards.

    An exception in the body passes through, and nothing is recorded. Of several ranks of a stage,
    the first records it.

    Args:
        name: the stage's name in DVC (``train@config_1``): data-set versions are found by it.
        params: the parameters the stage reads, nested as in params.yaml.
    """
    run, started = StageRun(), time.time()
    if is_first():
        kept.prune(Path.cwd())
    yield run
    if not is_first():
        return
    record(
        name,
        params=params,
        metrics=run.metrics,
        curves=run.curves,
        artifacts=run.artifacts,
        started=started,
        finished=time.time(),
        kind=run.kind,
        scratch=run.unfinished,
    )

"""A finished stage's scratch, kept until dvc.lock has its result.

DVC hashes and stores a result after the stage has ended, which may take minutes, and removes it
before a stage that it has to run. Killed in between, the stage finds all of its work here again.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from filelock import FileLock, Timeout

from octrobust import files
from octrobust.checkout import md5_of, stages_made
from octrobust.errors import UserError

MARK = "recorded.json"
# Of an experiment in a folder of its own, whose dvc.lock is not seen again.
_LONGEST = 3 * 24 * 3600.0


def is_recorded(scratch: Path, experiment: str) -> bool:
    """Whether the stage that left its work in `scratch` has ended, and has its record in the
    experiment of this key; another one may have been at the same work."""
    try:
        return bool(files.read_json(scratch / MARK)["experiment"] == experiment)
    except (UserError, KeyError, TypeError):
        return False


def mark(scratch: Path, metrics: Path | None, experiment: str) -> None:
    """Say so; metrics: the stage's numbers, by which dvc.lock will know its result."""
    digest = md5_of(metrics) if metrics else None
    told = {"path": str(metrics), "md5": digest, "experiment": experiment}
    files.write_json(scratch / MARK, told)


def prune(project: Path) -> None:
    """Remove what dvc.lock of `project` has the result of, and what nobody came back for."""
    stages = stages_made(project).values()
    made = {(out.get("path"), out.get("md5")) for stage in stages for out in stage.get("outs", ())}
    for path in files.scratch("").glob(f"*/{MARK}"):
        try:
            told = files.read_json(path)
            old = time.time() - path.stat().st_mtime > _LONGEST
        except (OSError, UserError):  # another process has just removed it
            continue
        if old or (told.get("path"), told.get("md5")) in made:
            _remove(path.parent)


def _remove(scratch: Path) -> None:
    """Unless a process is at the same work again."""
    try:
        with FileLock(scratch.with_suffix(".lock"), timeout=0):
            shutil.rmtree(scratch, ignore_errors=True)
    except Timeout:
        return

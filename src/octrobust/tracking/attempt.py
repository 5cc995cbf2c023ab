"""When a stage tries to log, for how long at most, and how often it may say that it failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from pydantic import BaseModel, ValidationError

import octrobust
from octrobust import files
from octrobust.tracking.address import readable, tracking_uri

# Not failures. Whoever logs for this checkout takes along what waits; the other two leave it to the
# next stage.
BUSY = "another process is logging"
BUSY_DATABASE = "another checkout is logging to this database"
WAITING = "runs wait to be logged"
# Importing MLflow takes seconds, so only a stage that took longer pays for it, at most once
# in three minutes. The summary always does. After a failure the wait is longer.
_SHORT_STAGE = 10.0
_EVERY, _EVERY_AFTER_FAILURE = 180.0, 600.0
_REMIND_AFTER = 24 * 3600.0
# Whatever a tracker does, it holds up a stage for no longer than this (the last one: twice that),
# and a slow one no more than a twentieth of the time that the pipeline runs.
_LONGEST = 60.0
_SHARE = 1 / 20


class _Attempt(BaseModel):
    """The last attempt in this project: where, when (seconds since the epoch), and how it went."""

    uri: str
    tried: float = 0.0
    took: float = 0.0
    failed: bool = False
    told: float = 0.0


def flush_if_due(home: Path, *, seconds: float, final: bool) -> None:
    """Try to log what waits, after a stage that took `seconds`; at once if it was the `final` one.

    A failure is said once in a run of the pipeline.
    """
    path, now = home / ".octrobust" / "tracking.json", time.time()
    uri = readable(tracking_uri(home))
    last = _last(path, uri)
    pause = max(_EVERY_AFTER_FAILURE if last.failed else _EVERY, last.took / _SHARE)
    if not final and (seconds < _SHORT_STAGE or now - last.tried < pause):
        return
    # Written before the attempt, so that processes beside this one need not try as well.
    files.write_json(path, last.model_copy(update={"tried": now}).model_dump())
    # The last stage waits for whoever is logging; what is left when time is up, that one says.
    wait, longest = (_LONGEST + 10, 2 * _LONGEST) if final else (5.0, _LONGEST)
    reason = _flush_in_child(home, wait=wait, longest=longest)
    took = time.time() - now
    told = last.told if reason else 0.0  # what is not said now does not unsay what was
    if reason and (reason == BUSY or (not final and reason.endswith((BUSY_DATABASE, WAITING)))):
        reason = None
    if reason and now - told > _REMIND_AFTER:
        say(f"{reason}: recorded locally, `octrobust track` logs it later")
        told = now
    told = 0.0 if final else told
    after = _Attempt(uri=uri, tried=now, took=took, failed=bool(reason), told=told)
    files.write_json(path, after.model_dump())


def say(line: str) -> None:
    print(" ".join(line.split()), file=sys.stderr, flush=True)


def _last(path: Path, uri: str) -> _Attempt:
    try:
        last = _Attempt.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError):
        return _Attempt(uri=uri)
    return last if last.uri == uri else _Attempt(uri=uri)


def _flush_in_child(home: Path, wait: float, longest: float) -> str | None:
    """Flush in a process of its own, which can be stopped; the reason if something is left.

    MLflow's threads, settings and log lines thereby stay out of the stage as well.
    """
    source = str(Path(octrobust.__file__).parents[1])
    path = os.pathsep.join(part for part in (source, os.environ.get("PYTHONPATH")) if part)
    try:
        done = subprocess.run(
            # The last quarter is for the record that is then on its way.
            [sys.executable, "-m", "octrobust.tracking", str(wait), str(0.75 * longest)],
            cwd=home,  # MLflow makes folders there, and an experiment's own folder may vanish
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=longest,
        )
    except subprocess.TimeoutExpired:
        return f"tracking was not done in {longest:.0f} s"
    if done.returncode == 0:
        return None
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return lines[-1] if lines else f"tracking ended with exit code {done.returncode}"

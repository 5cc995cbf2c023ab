"""Other machines take part in whatever stage the first one starts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from octrobust import config
from octrobust.errors import UserError, to_stderr
from octrobust.files import project_home, write_json
from octrobust.launch.elastic import hosts_rendezvous

_LOOKS_EVERY = 0.5  # seconds
PATIENCE = 30.0  # seconds for a stage to end politely


@contextmanager
def announced(command: list[str]) -> Iterator[None]:
    """Let the machines that have joined know what this one, the first, is at."""
    path = _place()
    write_json(path, {"command": command, "folder": str(Path.cwd()), "number": time.time_ns()})
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def join() -> None:
    """Start the same command as the first machine, whenever it starts one, until interrupted.

    Raises:
        UserError: `compute` names no other machine, or this one is the first.
    """
    compute = config.load().compute
    if compute.nodes == 1 or compute.rendezvous is None:
        raise UserError("compute.nodes: there is no other machine; set nodes and rendezvous")
    if hosts_rendezvous(compute):
        raise UserError("compute.rendezvous names this machine: run `dvc repro` here")
    to_stderr("waiting for the first machine")
    last = None
    while True:
        now = _announced()
        if now and now["number"] != last:
            last = now["number"]
            _take_part(now)
        time.sleep(_LOOKS_EVERY)


def _take_part(now: dict[str, Any]) -> None:
    """Run the command to its end, or until the first machine is at something else."""
    to_stderr(f"joining: {' '.join(now['command'][1:])}")
    # A queued experiment has a folder of its own.
    process = subprocess.Popen([sys.executable, *now["command"]], cwd=now["folder"])
    try:
        while process.poll() is None and (_announced() or now)["number"] == now["number"]:
            time.sleep(_LOOKS_EVERY)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:  # where torch waits for a machine, no signal gets through
            process.kill()
            process.wait()


def _announced() -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(_place().read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found


def _place() -> Path:
    return project_home() / ".octrobust" / "launched.json"

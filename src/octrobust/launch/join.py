"""Other machines take part in whatever stage the first one starts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from octrobust import config
from octrobust.errors import UserError, to_stderr
from octrobust.files import project_home, write_json
from octrobust.launch.elastic import hosts_rendezvous, run_elastic

_LOOKS_EVERY = 0.5  # seconds


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
    """Take part in every stage that the first machine starts, until interrupted.

    Raises:
        UserError: `compute` names no other machine, or this one is the first.
    """
    if config.load().compute.nodes == 1:
        raise UserError("compute.nodes: there is no other machine to join; set it and rendezvous")
    if hosts_rendezvous(config.load().compute):
        raise UserError("compute.rendezvous names this machine: run `dvc repro` here")
    last = None
    to_stderr("waiting for the first machine")
    while True:
        now = _announced()
        if now and now["number"] != last:
            last = now["number"]
            _take_part(now["command"], Path(now["folder"]))
        time.sleep(_LOOKS_EVERY)


def _take_part(command: list[str], folder: Path) -> None:
    to_stderr(f"joining: {' '.join(command[1:])}")
    os.chdir(folder)  # a queued experiment has one of its own
    try:
        line, code = run_elastic(command, config.load().compute)
    except UserError as error:
        line, code = f"error: {error}", 2
    if code in (130, 143):
        raise KeyboardInterrupt
    if line:
        to_stderr(line)


def _announced() -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(_place().read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found


def _place() -> Path:
    return project_home() / ".octrobust" / "launched.json"

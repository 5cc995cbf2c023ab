"""DVC as a command: the interface that it documents and keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from octrobust.errors import UserError


class NoAnswerError(UserError):
    """DVC was ended, having said nothing for too long."""


def dvc(project: Path, *arguments: str, seconds: float | None = None) -> str:
    """What `dvc ARGUMENTS` prints, run in `project` by this Python.

    Args:
        seconds: after so many it is ended.

    Raises:
        UserError: it failed; with DVC's own reason.
        NoAnswerError: it was ended.
    """
    name = f"dvc {' '.join(arguments[:2])}"
    try:
        done = subprocess.run(
            command(*arguments),
            cwd=project,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoAnswerError(f"{name}: no answer within {seconds:g} seconds") from None
    if done.returncode:
        raise UserError(f"{name}: {_reason(done.stderr or done.stdout)}")
    return done.stdout


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def environment() -> dict[str, str]:
    """This one, with `python` being this Python: DVC's stages are started by that name."""
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([here, os.environ.get("PATH", os.defpath)])}


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.partition("ERROR: ")[2] for line in lines if "ERROR: " in line]
    return (errors or lines or ["it failed without a word"])[0]

"""One line of the doctor's."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """What was found, and how to mend it where it is not ok."""

    name: str
    level: Level
    what: str
    mend: str = ""


Check = Callable[[], Iterable[Finding]]


def examined(name: str, check: Check) -> Iterator[Finding]:
    """A check's findings; one that breaks is a finding too."""
    try:
        yield from check()
    except Exception as error:  # whatever is broken here, the other checks are worth their lines
        what = " ".join(str(error).split()) or type(error).__name__
        yield Finding(name, "problem", f"could not be checked ({type(error).__name__}: {what})")


def said(*command: str, where: Path, seconds: float = 20) -> str | None:
    """What a command prints; None if it fails."""
    try:
        done = subprocess.run(
            command, cwd=where, capture_output=True, text=True, timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

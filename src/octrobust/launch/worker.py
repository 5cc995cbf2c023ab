"""One rank of a stage: it joins the others, works, and leaves word if it cannot."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from octrobust import config
from octrobust.distributed import group, place
from octrobust.errors import one_line_errors, to_stderr
from octrobust.files import write_text

# Set by our launcher: its process.
LAUNCHER = "OCTROBUST_LAUNCHER"
# How a rank ends that found another one gone; that one has said why.
LOST = 75
_LOOKS_EVERY = 0.5  # seconds


def run_rank(main: Callable[..., None], arguments: Sequence[str]) -> None:
    """Run `main` in step with the other ranks; the first of them alone is heard."""
    room = os.environ.get(group.ROOM)
    if not place.is_first():
        sys.excepthook = _to_the_real_stderr
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    if LAUNCHER in os.environ:
        threading.Thread(target=_end_with, args=(int(os.environ[LAUNCHER]),), daemon=True).start()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM's warning is for the job's own process
    say = partial(_leave_word, Path(room)) if room else to_stderr
    try:
        with one_line_errors(say), group.joined(config.load().compute):
            main(*arguments)
    except SystemExit as end:
        _leave(end.code if isinstance(end.code, int) else 1)
    except RuntimeError as error:
        if not group.lost_another(error):
            raise
        _leave(LOST)


def _leave(code: int) -> None:
    """At once: the group's threads might wait for the others, which may not come."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _leave_word(room: Path, line: str) -> None:
    write_text(said_by(room, place.rank()), line)


def said_by(room: Path, rank: int) -> Path:
    """Where the launcher finds the line that a rank has left."""
    return room / f"said-{rank:05d}.txt"


def _end_with(launcher: int) -> None:
    """A launcher that was killed leaves no rank at work."""
    while os.getppid() == launcher:
        time.sleep(_LOOKS_EVERY)
    os._exit(LOST)


def _to_the_real_stderr(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    traceback.print_exception(kind, error, trace, file=sys.__stderr__)

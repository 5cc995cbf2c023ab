"""Errors a person can mend: shown as one line on stderr, exit code 2, never a traceback."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A bad input, parameter or environment.

    The message is one line that says what is wrong, where, and how to mend it.
    """


INTERRUPTED = "interrupted: run the same command again to go on from here"
# What a full, read-only or failing disk says; other system errors are faults of the program.
_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)
}


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def one_line_errors(say: Callable[[str], None] = to_stderr) -> Iterator[None]:
    """A `UserError`, or a disk that takes no more, becomes one line on stderr and exit code 2;
    SIGINT 130, SIGTERM 143.

    Args:
        say: where the line goes instead.
    """
    # Terminated politely, a stage unwinds, so that nothing half-written stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    except UserError as error:
        say("error: " + " ".join(str(error).split()))
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        say(
            f"error: {where}{error.strerror}: mend that and run the same command again, what is "
            "finished is kept"
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        say(INTERRUPTED)
        raise SystemExit(130) from None

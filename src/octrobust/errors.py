"""Errors a person can mend: shown as one line on stderr, exit code 2, never a traceback."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class UserError(Exception):
    """A bad input, parameter or environment.

    The message says what is wrong, where, and how to mend it. It is made one line, and characters
    that a terminal would act on are escaped: file names come from others.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(part.strip() for part in message.splitlines())
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))


INTERRUPTED = "interrupted: run the same command again to go on from here"
# What a disk that is full, read-only or failing says, and a path that is something else than what
# belongs there; other system errors are faults of the program.
_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG),
    *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
}


def to_stderr(line: str) -> None:
    with suppress(OSError, ValueError):  # a full disk or a closed pipe must not hide the line
        sys.stdout.flush()  # into one file, the last word is the last line
    print(line, file=sys.stderr, flush=True)


def interruptible_imports() -> None:
    """SIGINT ends this process with its one line while a stage's libraries are still loaded, some
    seconds; from `one_line_errors` on it is a KeyboardInterrupt again. Of ranks, their launcher
    says it."""

    def leave(*_: object) -> None:
        try:
            if "TORCHELASTIC_RUN_ID" not in os.environ:  # as distributed.place knows a rank
                # Not by print, which may be what was interrupted.
                os.write(sys.stderr.fileno(), f"{INTERRUPTED}\n".encode())
        finally:
            os._exit(130)

    # Not where it is ignored, as in the background of a script.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


@contextmanager
def one_line_errors(say: Callable[[str], None] = to_stderr) -> Iterator[None]:
    """A `UserError`, or a disk that takes no more, becomes one line on stderr and exit code 2;
    SIGINT 130, SIGTERM 143.

    Args:
        say: where the line goes instead.
    """
    # Terminated politely, a stage unwinds, so that nothing half-written stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except UserError as error:
        say(f"error: {error}")
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        line = UserError(
            f"{where}{error.strerror}: mend that and run the same command again, what is finished "
            "is kept"
        )
        say(f"error: {line}")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        say(INTERRUPTED)
        raise SystemExit(130) from None

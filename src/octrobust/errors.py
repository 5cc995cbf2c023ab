"""Errors a person can mend: shown as one line on stderr, exit code 2, never a traceback."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A bad input, parameter or environment.

    The message is one line that says what is wrong, where, and how to mend it.
    """


# What a full, read-only or failing disk says; other system errors are faults of the program.
_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)
}


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A `UserError`, or a disk that takes no more, becomes one line on stderr and exit code 2;
    SIGINT 130, SIGTERM 143."""
    # Terminated politely, a stage unwinds, so that nothing half-written stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"error: {where}{error.strerror}: mend that and run the same command again, what is "
            "finished is kept",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on from here", file=sys.stderr)
        raise SystemExit(130) from None

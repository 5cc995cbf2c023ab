"""What a person is told when a stage is stopped, and with which exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from octrobust.errors import INTERRUPTED


def in_a_process(code: str, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )


@pytest.mark.parametrize(("rank", "said"), [(False, f"{INTERRUPTED}\n"), (True, "")])
def test_an_interrupt_during_imports(
    rank: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rank:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    process = in_a_process(
        "import octrobust.errors as e, time\n"
        "e.interruptible_imports(); print('loading', flush=True)\n"
        "try: time.sleep(60)\n"
        "except BaseException: print('unwound', flush=True)\n"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("", said, 130)


def test_an_interrupt_that_is_ignored_stays_so() -> None:
    process = in_a_process(
        "import octrobust.errors as e, signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN); e.interruptible_imports()\n"
        "assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
    )
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_stdout_hides_no_error() -> None:
    with Path("/dev/full").open("w") as full:
        process = in_a_process(
            "import octrobust.errors as e\n"
            "with e.one_line_errors():\n"
            "    print('half', end=''); raise e.UserError('the reason')\n",
            stdout=full,
        )
        err = process.communicate(timeout=60)[1]
    assert err.splitlines()[0] == "error: the reason"

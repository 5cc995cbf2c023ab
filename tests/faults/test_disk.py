"""A disk that is full or read-only, an interrupt, and two at once: one line, and on from there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.kills import SCRATCH, Victim
from tests.pipeline.conftest import Checkout

pytestmark = pytest.mark.faults


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small file system at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def refused(victim: Victim) -> str:
    """The last line that the stage says, which must be an error of one line with exit code 2."""
    victim.logfile.unlink(missing_ok=True)
    assert victim.start().wait(300) == 2, victim.log()
    said = victim.log()
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


CASES = [
    ("prepare", "data", "full"),
    ("train@config_1", "models", "full"),
    ("train@config_1", str(SCRATCH), "full"),
    ("attack@train", str(SCRATCH), "full"),
    ("train@config_1", "models", "read-only"),
    ("attack@train", str(SCRATCH), "read-only"),
]
ROOM = {"data": 60_000, "models": 10_000_000, str(SCRATCH): 8_192}  # bytes beside the input


@pytest.mark.parametrize(("stage", "place", "how"), CASES)
def test_a_disk_that_takes_no_more(stage: str, place: str, how: str, finished: Checkout) -> None:
    victim = Victim(finished, stage)
    victim.forget()
    folder, aside = finished.root / place, finished.root / "aside"
    folder.rename(aside)
    inputs = [aside / "raw", aside / "splits"] if place == "data" else []
    files = [file for part in inputs for file in part.rglob("*")]
    room = ROOM[place] + sum(-(-file.stat().st_size // 4096) * 4096 for file in files)
    with mounted(folder, "ro" if how == "read-only" else f"size={room}"):
        for part in inputs:
            shutil.copytree(part, folder / part.name)
        line = refused(victim)
    folder.rmdir()
    aside.rename(folder)
    assert line.startswith("error: ")
    assert "run the same command again" in line
    victim.run()
    assert victim.contents() == victim.reference
    assert not victim.leftovers()


def test_an_interrupt_says_how_to_go_on(finished: Checkout) -> None:
    victim = Victim(finished, "train@config_1")
    victim.forget()
    process = victim.start()
    while not victim.steps():
        assert process.poll() is None, victim.log()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert victim.log().strip().splitlines()[-1].startswith("interrupted: run the same command")
    victim.assert_nothing_half_written()
    victim.run()
    assert "resuming after epoch" in victim.log()
    assert victim.contents() == victim.reference


def test_two_repros_at_once(finished: Checkout) -> None:
    """DVC lets one of them run; what it makes is what it would have made alone."""
    victim = Victim(finished, "train@config_1")
    command = ["dvc", "repro", "--force", "--single-item", "train@config_1"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "PYTHON"))}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    both = []
    for _ in range(2):
        log = (finished.root / f"repro-{len(both)}.log").open("w")
        both.append(
            subprocess.Popen(
                command, cwd=finished.root, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        )
        time.sleep(4)
    codes = [process.wait(300) for process in both]
    said = [(finished.root / f"repro-{number}.log").read_text() for number in range(2)]
    assert codes[0] == 0, said[0]
    assert codes[1] == 0 or "lock" in said[1], said[1]
    assert victim.contents() == victim.reference

"""A disk that is full or read-only, an interrupt, and two at once: one line, and on from there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

import psutil
import pytest

from tests.faults.conftest import mounted
from tests.faults.kills import SCRATCH, Victim
from tests.pipeline.conftest import Checkout

pytestmark = pytest.mark.faults


def refused(victim: Victim) -> str:
    """The last line that the stage says, which must be an error of one line with exit code 2."""
    victim.listen()
    assert victim.start().wait(300) == 2, victim.log()
    said = victim.log()
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


# What a stage reads from the place itself.
READ = {
    ("prepare", "data"): ("raw", "splits"),
    ("attack@train", "data"): ("arrays",),
    ("harden@static", "models"): ("config_1",),
}
CASES = [
    ("prepare", "data", "full"),
    ("prepare", "data", "read-only"),
    ("train@config_1", "models", "full"),
    ("train@config_1", "models", "read-only"),
    ("train@config_1", str(SCRATCH), "full"),
    ("attack@train", "data", "full"),
    ("attack@train", str(SCRATCH), "full"),
    ("attack@train", str(SCRATCH), "read-only"),
    ("harden@static", "models", "full"),
    ("harden@static", str(SCRATCH), "full"),
]
ROOM = {"data": 60_000, "models": 10_000_000, str(SCRATCH): 8_192}  # bytes beside the input


@pytest.mark.parametrize(("stage", "place", "how"), CASES)
@pytest.mark.usefixtures("may_mount")
def test_a_disk_that_takes_no_more(stage: str, place: str, how: str, finished: Checkout) -> None:
    victim = Victim(finished, stage)
    victim.forget()
    folder, aside = finished.root / place, finished.root / "aside"
    folder.rename(aside)
    inputs = [aside / name for name in READ.get((stage, place), ())]
    files = [file for part in inputs for file in part.rglob("*")]
    room = ROOM[place] + sum(-(-file.stat().st_size // 4096) * 4096 for file in files)
    try:
        with mounted(folder, f"size={room}" if how == "full" else "size=50%"):
            for part in inputs:
                shutil.copytree(part, folder / part.name)
            if how == "read-only":
                subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
            line = refused(victim)
    finally:
        aside.rename(folder)
    assert line.startswith("error: ")
    assert "run the same command again" in line
    victim.run()
    assert victim.contents() == victim.reference
    assert not victim.leftovers()


@pytest.mark.parametrize("stage", ["train@config_1", "attack@train", "prepare"])
def test_an_interrupt_says_how_to_go_on(stage: str, finished: Checkout) -> None:
    victim = Victim(finished, stage)
    under_way = {"train": victim.epochs, "attack": victim.shards, "prepare": victim.leftovers}
    victim.forget()
    process = victim.start()
    while not under_way[stage.partition("@")[0]]():
        assert process.poll() is None, victim.log()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert victim.log().strip().splitlines()[-1].startswith("interrupted: run the same command")
    victim.assert_nothing_half_written()
    victim.run()
    assert "resuming after epoch" in victim.log() or not stage.startswith("train")
    assert victim.contents() == victim.reference
    assert not victim.leftovers()


def test_an_interrupt_while_libraries_are_loaded(finished: Checkout) -> None:
    victim = Victim(finished, "train@config_1")
    victim.forget()
    process = victim.start()
    loading = psutil.Process(process.pid)
    while not any("libtorch" in part.path for part in loading.memory_maps()):
        assert process.poll() is None, victim.log()
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert victim.log() == "interrupted: run the same command again to go on from here\n"
    victim.run()
    assert victim.contents() == victim.reference


def test_two_repros_at_once(finished: Checkout) -> None:
    """DVC lets one of them run at a time; what they make is what one would have made alone."""
    victim = Victim(finished, "train@config_1")
    command = ["dvc", "repro", "--force", "--single-item", "train@config_1"]
    both, logs = [], [finished.root / f"repro-{number}.log" for number in range(2)]
    for log in logs:
        with log.open("w") as output:
            both.append(
                subprocess.Popen(
                    command,
                    cwd=finished.root,
                    env=finished.environment(),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )
        while "Running stage" not in logs[0].read_text():
            assert both[0].poll() is None, logs[0].read_text()
            time.sleep(0.2)
    assert both[0].poll() is None, "the first was over before the second began"
    codes = [process.wait(300) for process in both]
    said = [log.read_text() for log in logs]
    finished.run("git", "checkout", "--", "dvc.lock", "metrics", check=False)
    assert codes[0] == 0, said[0]
    assert codes[1] == 0 or "lock" in said[1], said[1]
    assert victim.contents() == victim.reference

"""What kill -9 leaves: nothing half-written, nothing finished lost, the same bytes in the end."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time

import pytest

from tests.faults.conftest import Note
from tests.faults.kills import Victim, kill_often
from tests.pipeline.conftest import Checkout

pytestmark = pytest.mark.faults

DVC = (sys.executable, "-m", "dvc")
KILLS = {
    "prepare": 20,
    "train@config_1": 25,
    "attack@train": 25,
    "harden@static": 15,
    "harden@online": 15,
}


@pytest.mark.parametrize("stage", KILLS)
def test_a_killed_stage_goes_on_and_ends_the_same(
    stage: str, finished: Checkout, note: Note
) -> None:
    tally = kill_often(Victim(finished, stage), KILLS[stage], random.Random(stage))
    assert tally.writing > 0, "no kill came while something was written"
    assert stage == "prepare" or tally.amid >= KILLS[stage] / 5, "too few came amid the work"
    steps = {"prepare": ""}.get(stage, f"{tally.amid} after the first epoch or shard, ")
    note(
        f"{tally.sent} kills survived, {steps}{tally.writing} while something was written; "
        f"{tally.finished_first} runs were done first"
    )


@pytest.mark.parametrize("stage", ["train@config_1", "attack@train"])
def test_dvc_killed_before_it_has_the_result(stage: str, finished: Checkout, note: Note) -> None:
    """A stage has ended, and DVC is hashing and storing: nothing is made a second time, in the
    tracker neither."""
    victim = Victim(finished, stage)
    victim.command = [*DVC, "repro", "--single-item", "--force", stage]
    rng, done = random.Random(stage), 0
    lock = finished.root / "dvc.lock"
    for _ in range(4):
        victim.forget()
        before = lock.read_bytes()
        process = victim.start()
        while not victim.has_ended():
            assert process.poll() is None, victim.log()
            time.sleep(0.005)
        kept = victim.shards(), victim.epochs()
        runs = _recorded(finished, stage)
        time.sleep(rng.uniform(0, 1))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if lock.read_bytes() == before:
            done += 1
            victim.listen()
            victim.run()
            assert (victim.shards(), victim.epochs()) == kept, "finished work was made again"
        assert victim.contents() == victim.reference
        assert _recorded(finished, stage) == runs
        finished.run("git", "checkout", "--", "dvc.lock")
    assert done > 0, "DVC was always quicker"
    note(f"{done} kills between a stage's end and dvc.lock")


def _recorded(checkout: Checkout, stage: str) -> int:
    """How often this stage is in the tracker, or waits to be."""
    waiting = (checkout.root / ".octrobust" / "records").glob("[!.]*/record.json")
    names = [json.loads(path.read_text())["stage"] for path in waiting]
    names += [run.data.tags.get("octrobust.stage", "") for run in checkout.runs()]
    return names.count(stage)

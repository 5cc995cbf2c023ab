"""A stage on several ranks: one killed, some added, interrupted, on two hosts, under submitit."""

from __future__ import annotations

import contextlib
import copy
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.faults.conftest import Note, commit, mounted
from tests.faults.kills import SCRATCH, Victim, kill_often
from tests.faults.ranks import compute, ended, ranks_of, two_hosts, wait_until
from tests.faults.test_disk import refused
from tests.pipeline.conftest import Checkout

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("count", [2, 4])
def test_a_rank_killed_in_the_attack(count: int, finished: Checkout) -> None:
    """All start again, what is finished is kept, and the set is that of one process."""
    victim = Victim(finished, "attack@train")
    victim.forget()
    with compute(finished, launcher="torchrun", processes=count):
        process = victim.start()
        wait_until(victim.shards, process, victim)
        before, ranks = victim.shards(), ranks_of(process.pid)
        assert sorted(ranks) == list(range(count))
        ranks[count - 1].kill()
        while process.poll() is None:
            for path, when in victim.shards().items():
                assert before.get(path, when) == when, "a finished shard was made again"
            time.sleep(0.05)
        assert ended(process, victim) == 0
    assert f"rank {count - 1} ended by SIGKILL: all ranks start again" in victim.log()
    assert victim.contents() == victim.reference
    assert not victim.leftovers()


def test_ranks_are_added_to_an_attack_that_was_killed(finished: Checkout) -> None:
    victim = Victim(finished, "attack@train")
    victim.forget()
    with compute(finished, launcher="torchrun", processes=2):
        process = victim.start()
        wait_until(victim.shards, process, victim)
        ranks = ranks_of(process.pid)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    _, alive = psutil.wait_procs(ranks.values(), timeout=10)
    assert not alive, "ranks outlive their launcher"
    before = victim.shards()
    with compute(finished, launcher="torchrun", processes=4):
        process = victim.start()
        while process.poll() is None:
            for path, when in victim.shards().items():
                assert before.get(path, when) == when, "a finished shard was made again"
            time.sleep(0.05)
        assert ended(process, victim) == 0
    assert victim.contents() == victim.reference
    assert not victim.leftovers()


@pytest.fixture(scope="module", params=["train@config_1", "harden@online"])
def left_alone_on_two(request: pytest.FixtureRequest, finished: Checkout) -> Iterator[Victim]:
    """A fit whose reference is what two ranks give that are left alone."""
    victim = Victim(finished, request.param)
    alone = copy.copy(victim)
    victim.forget()
    with compute(finished, launcher="torchrun", processes=2):
        victim.run()
        victim.reference = victim.contents()
    yield victim
    alone.forget()
    alone.run()
    assert alone.contents() == alone.reference, "one process gives other bytes than before"


@pytest.fixture
def on_two_ranks(left_alone_on_two: Victim) -> Iterator[Victim]:
    with compute(left_alone_on_two.checkout, launcher="torchrun", processes=2):
        yield left_alone_on_two


def test_a_rank_killed_in_a_fit(on_two_ranks: Victim) -> None:
    victim = on_two_ranks
    victim.forget()
    process = victim.start()
    wait_until(victim.epochs, process, victim)
    ranks_of(process.pid)[1].kill()
    assert ended(process, victim) == 0
    assert "rank 1 ended by SIGKILL: all ranks start again" in victim.log()
    assert "resuming after epoch" in victim.log()
    assert victim.contents() == victim.reference
    assert not victim.leftovers()


def test_a_launcher_killed_at_random(on_two_ranks: Victim, note: Note) -> None:
    tally = kill_often(on_two_ranks, 4, random.Random(3))
    note(f"{tally.sent} kills survived, {tally.finished_first} runs were done first")


def test_an_interrupt_is_said_once(on_two_ranks: Victim) -> None:
    victim = on_two_ranks
    victim.forget()
    process = victim.start()
    wait_until(victim.epochs, process, victim)
    ranks = ranks_of(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process, victim, 60) == 130
    assert not psutil.wait_procs(ranks.values(), timeout=10)[1]
    said = victim.log()
    assert said.strip().splitlines()[-1].startswith("interrupted: run the same command")
    assert said.count("interrupted") == 1
    assert "Traceback" not in said
    victim.assert_nothing_half_written()
    victim.run()
    assert victim.contents() == victim.reference


def test_what_a_person_must_mend_is_one_line(finished: Checkout) -> None:
    """Every rank meets the fault; one line, no restart."""
    victim = Victim(finished, "attack@train")
    victim.forget()
    model = finished.root / "models" / "config_1"
    with compute(finished, launcher="torchrun", processes=2):
        model.rename(model.with_name("aside"))
        try:
            line = refused(victim)
        finally:
            model.with_name("aside").rename(model)
        assert line.startswith("error: ")
        assert victim.log().count("error:") == 1
        assert "start again" not in victim.log()
        victim.run()
    assert victim.contents() == victim.reference


@pytest.mark.usefixtures("may_mount")
def test_a_full_disk_that_the_first_rank_alone_meets(finished: Checkout) -> None:
    victim = Victim(finished, "train@config_1")
    victim.forget()
    scratch, aside = finished.root / SCRATCH, finished.root / "aside"
    scratch.rename(aside)
    try:
        with (
            compute(finished, launcher="torchrun", processes=2),
            mounted(scratch, "size=1m"),
        ):
            line = refused(victim)
    finally:
        aside.rename(scratch)
    assert line.startswith("error: ")
    assert "run the same command again" in line
    assert victim.log().count("error:") == 1
    victim.run()
    assert victim.contents() == victim.reference


@pytest.fixture(scope="module")
def evaluated(finished: Checkout) -> Checkout:
    finished.run("dvc", "repro", "evaluate")
    commit(finished)
    return finished


def test_evaluation_on_ranks_is_that_of_one_process(evaluated: Checkout) -> None:
    stages = [Victim(evaluated, stage) for stage in ("battery@config_1", "evaluate")]
    for victim in stages:
        victim.forget()
        with compute(evaluated, launcher="torchrun", processes=3):
            victim.run()
        assert victim.contents() == victim.reference
        assert not victim.leftovers()


def test_a_rank_killed_in_an_evaluation(evaluated: Checkout) -> None:
    """The battery: no attack that was finished is run again, and the records are one process's."""
    victim = Victim(evaluated, "battery@config_1")
    victim.forget()
    with compute(evaluated, launcher="torchrun", processes=2):
        process = victim.start()
        wait_until(lambda: _attacks(evaluated), process, victim)
        before = _attacks(evaluated)
        ranks_of(process.pid)[1].kill()
        while process.poll() is None:
            now = _attacks(evaluated)
            if not victim.contents():  # then scratch may be on its way out
                assert before.items() <= now.items(), "a finished attack was run again"
            time.sleep(0.05)
        assert ended(process, victim) == 0
    assert "rank 1 ended by SIGKILL: all ranks start again" in victim.log()
    assert victim.contents() == victim.reference
    assert not victim.leftovers()


def _attacks(checkout: Checkout) -> dict[str, int]:
    """Finished attacks of an unfinished battery, and when each was written."""
    found = {}
    for path in (checkout.root / SCRATCH).glob("battery-*/*/*/*.csv"):
        with contextlib.suppress(FileNotFoundError):  # on its way out
            found[str(path)] = path.stat().st_mtime_ns
    return found


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    try:
        with two_hosts() as names:
            yield names
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"network namespaces are not allowed here: {error}")


def test_a_machine_that_has_joined_takes_part(hosts: tuple[str, str], finished: Checkout) -> None:
    """The first runs stage after stage; the second was told once to help."""
    code = "import pipeline; from octrobust.cli import app; app(['join'])"
    settings = {"launcher": "torchrun", "nodes": 2, "rendezvous": "10.77.0.1:29512"}
    helper = Victim(finished, "attack@test")
    helper.command = ["ip", "netns", "exec", hosts[1], sys.executable, "-c", code]
    with compute(finished, **settings):
        second = helper.start()
        for stage in ("attack@train", "attack@test"):
            victim = Victim(finished, stage)
            victim.forget()
            victim.command = ["ip", "netns", "exec", hosts[0], *victim.command]
            first = victim.start()
            wait_until(lambda at=first: ranks_of(at.pid) and ranks_of(second.pid), first, victim)
            assert ended(first, victim) == 0
            assert victim.contents() == victim.reference
        os.killpg(second.pid, signal.SIGINT)
        assert ended(second, helper, 60) == 130


@pytest.mark.parametrize("stage", ["attack@train", "train@config_1"])
def test_two_hosts_of_which_one_goes_and_comes_back(
    stage: str, hosts: tuple[str, str], finished: Checkout
) -> None:
    """Two ranks each. One rank is killed; then the second host, which comes back."""
    victim = Victim(finished, stage)
    command = victim.command
    settings = {"launcher": "torchrun", "processes": 2, "nodes": 2}
    done = victim.shards if stage.startswith("attack") else victim.epochs

    def start(host: str) -> subprocess.Popen[bytes]:
        victim.command = ["ip", "netns", "exec", host, *command]
        return victim.start()

    with compute(finished, rendezvous="10.77.0.1:29511", **settings):
        if not stage.startswith("attack"):
            victim.forget()
            both = [start(host) for host in hosts]
            assert [ended(process, victim) for process in both] == [0, 0], victim.log()
            victim.reference = victim.contents()  # four ranks that were left alone
        victim.forget()
        both = [start(host) for host in hosts]
        wait_until(lambda: len(ranks_of(both[1].pid)) == 2, both[0], victim)
        wait_until(done, both[0], victim)
        min(ranks_of(both[1].pid).items())[1].kill()
        wait_until(lambda: "start again (2 restarts left)" in victim.log(), both[0], victim)
        wait_until(lambda: len(ranks_of(both[1].pid)) == 2, both[0], victim)
        os.killpg(both[1].pid, signal.SIGKILL)
        both[1].wait()
        both[1] = start(hosts[1])
        assert [ended(process, victim) for process in both] == [0, 0], victim.log()
    assert victim.contents() == victim.reference
    assert not victim.leftovers()


def test_a_job_that_is_preempted_is_queued_again(finished: Checkout) -> None:
    """By submitit's local executor, with the signal that SLURM sends to the job's task."""
    pytest.importorskip("submitit")
    victim = Victim(finished, "attack@train")
    victim.forget()
    slurm = {"cluster": "local"}
    with compute(finished, launcher="submitit", processes=2, slurm=slurm):
        process = victim.start()
        wait_until(victim.shards, process, victim)
        before = victim.shards()
        (task,) = (
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if "submitit.core._submit" in child.cmdline()
        )
        task.send_signal(signal.SIGUSR2)
        while process.poll() is None:
            for path, when in victim.shards().items():
                assert before.get(path, when) == when, "a finished shard was made again"
            time.sleep(0.05)
        assert ended(process, victim) == 0
    logs = "".join(p.read_text() for p in (finished.root / ".octrobust/jobs").rglob("*.err"))
    logs += "".join(p.read_text() for p in (finished.root / ".octrobust/jobs").rglob("*.out"))
    assert "Requeued job" in logs
    assert victim.contents() == victim.reference
    assert not victim.leftovers()


def test_a_job_says_what_a_person_must_mend(finished: Checkout) -> None:
    pytest.importorskip("submitit")
    victim = Victim(finished, "train@config_1")
    victim.forget()
    slurm = {"cluster": "local"}
    with compute(finished, launcher="submitit", processes=5, slurm=slurm):
        line = refused(victim)  # batches of four images
    assert "batch_size: 4" in line
    victim.run()
    assert victim.contents() == victim.reference

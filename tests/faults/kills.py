"""SIGKILL at random moments: run a stage, kill it, look at what it left, run it again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from octrobust.files import PARTIAL
from octrobust.tracking.kept import MARK
from octrobust.training.checkpoint import load_checkpoint
from tests.pipeline.conftest import Checkout

SCRATCH = Path(".octrobust/scratch")
# Of the JSON files, what depends on the clock.
CLOCK = ("seconds", "images_per_second")
STARTED: list[subprocess.Popen[bytes]] = []  # stages, each with a session of its own


def kill(process: subprocess.Popen[bytes]) -> None:
    """A stage with all that it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_all() -> None:
    """A test that failed may have left its stage running."""
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            kill(process)


@dataclass
class Tally:
    """What a series of kills showed.

    Attributes:
        sent: kills that met a living process.
        finished_first: runs that were done before their kill.
        steps: epochs and shards found finished after each kill.
        amid: kills that found some finished and left some to do.
        writing: kills that met a file or folder being written.
    """

    sent: int = 0
    finished_first: int = 0
    steps: list[int] = field(default_factory=list)
    amid: int = 0
    writing: int = 0


class Victim:
    """One stage of a finished checkout.

    Args:
        checkout: finished; its results of this stage are the reference.
        stage: the name in DVC.
    """

    def __init__(self, checkout: Checkout, stage: str) -> None:
        self.checkout, self.root = checkout, checkout.root
        self.logfile, self.read = self.root.with_name(f"{self.root.name}.log"), 0
        entry = yaml.safe_load((self.root / "dvc.lock").read_text())["stages"][stage]
        self.command = [sys.executable, *entry["cmd"].split()[1:]]
        self.outs = [self.root / out["path"] for out in entry["outs"]]
        self.reference = self.contents()

    def contents(self) -> dict[str, str]:
        """A digest of every file among the results, timings apart."""
        files = [f for out in self.outs for f in ([out] if out.is_file() else out.rglob("*"))]
        return {str(f.relative_to(self.root)): _digest(f) for f in files if f.is_file()}

    def forget(self) -> None:
        """Remove the results, and finished work: the stage is to be run again from nothing; and
        what was said."""
        for out in self.outs:
            shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
        self.forget_work()
        self.listen()

    def has_ended(self) -> bool:
        """The stage; DVC, where that runs it, may not."""
        return any((self.root / SCRATCH).glob(f"*/{MARK}"))

    def forget_work(self) -> None:
        """As if dvc.lock had the result, by which finished work goes."""
        for path in (self.root / SCRATCH).glob(f"*/{MARK}"):
            shutil.rmtree(path.parent)

    def listen(self) -> None:
        """From here on: other tests write to the same log."""
        self.read = self.logfile.stat().st_size if self.logfile.exists() else 0

    def start(self) -> subprocess.Popen[bytes]:
        with self.logfile.open("ab") as log:
            process = subprocess.Popen(
                self.command,
                cwd=self.root,
                env=self.checkout.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        STARTED.append(process)
        return process

    def kill_after(self, seconds: float) -> bool:
        """Whether it was still alive then."""
        process = self.start()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            kill(process)
            return True
        assert process.returncode == 0, self.log()
        return False

    def kill_at_a_write(self) -> bool:
        """As soon as something is seen that is being written."""
        before, process = {*self.leftovers()}, self.start()
        while process.poll() is None:
            if {*self.leftovers()} - before:
                kill(process)
                return True
        assert process.returncode == 0, self.log()
        return False

    def run(self) -> None:
        """To the end."""
        assert self.start().wait(300) == 0, self.log()

    def times(self) -> tuple[float, float]:
        """Seconds from nothing until something is being written, and to the end."""
        self.forget()
        before, started, begun = {*self.leftovers()}, time.monotonic(), 0.0
        process = self.start()
        while process.poll() is None:
            if not begun and ({*self.leftovers()} - before or self.shards()):
                begun = time.monotonic() - started
            time.sleep(0.002)
        assert process.returncode == 0, self.log()
        return begun, time.monotonic() - started

    def log(self) -> str:
        """What was said since it was listened to."""
        return self.logfile.read_bytes()[self.read :].decode() if self.logfile.exists() else ""

    def assert_nothing_half_written(self) -> None:
        """A result is there as it must be, or it is not there."""
        found = self.contents()
        assert found.items() <= self.reference.items(), found.keys()
        for out in self.outs:
            if out.is_dir():
                inside = {name for name in self.reference if (self.root / name).is_relative_to(out)}
                assert inside <= found.keys(), f"{out}: a folder that is not whole"

    def epochs(self) -> int:
        """Epochs in the checkpoint in scratch."""
        checkpoints = (self.root / SCRATCH).rglob("checkpoint.pt")
        states = (load_checkpoint(path) for path in checkpoints)
        return sum(len(state["history"]) for state in states if state)

    def shards(self) -> dict[str, tuple[int, int]]:
        """Finished shards in scratch: which file, and when it was written."""
        found = (self.root / SCRATCH).rglob("shard-*.json")
        return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}

    def leftovers(self) -> list[Path]:
        """Unfinished files and folders beside the results, in them, and in scratch."""
        rooms = [out for out in self.outs if out.is_dir()] + [self.root / SCRATCH]
        found = {path for room in rooms for path in room.rglob(f"{PARTIAL}*")}
        return sorted(found | {p for out in self.outs for p in out.parent.glob(f"{PARTIAL}*")})


def _digest(path: Path) -> str:
    if path.suffix == ".json":
        text = json.dumps(_timeless(json.loads(path.read_text())), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not any(c in k for c in CLOCK)}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def kill_often(victim: Victim, kills: int, rng: random.Random) -> Tally:
    """Kill the stage so many times, letting it finish now and then, and look after each."""
    begun, whole = victim.times()
    assert victim.contents() == victim.reference
    tally = Tally()
    while tally.sent < kills:
        # DVC removes the results before a stage; who types its command does not.
        victim.forget() if rng.random() < 0.7 else victim.listen()
        victim.forget_work()
        epochs, shards = 0, victim.shards()
        for _ in range(5):  # then it may finish
            victim.listen()
            before = {*victim.leftovers()}
            # Not while libraries are loaded; a little after the end as well; and one in five aimed.
            moment = rng.uniform(0.9 * begun, 1.02 * whole)
            aimed = tally.sent % 5 == 4
            if not (victim.kill_at_a_write() if aimed else victim.kill_after(moment)):
                tally.finished_first += 1
                break
            tally.sent += 1
            tally.writing += bool({*victim.leftovers()} - before)
            victim.assert_nothing_half_written()
            # Once all results are there, scratch may be on its way out.
            if victim.contents().keys() != victim.reference.keys():
                trained = [int(n) for n in re.findall(r"epoch (\d+)/\d+: loss", victim.log())]
                assert victim.epochs() >= epochs, "a finished epoch was lost"
                assert victim.epochs() >= max(trained, default=0) - 1, "epochs are made again"
                assert not trained or min(trained) == epochs + 1, "it did not go on where it was"
                now = victim.shards()
                assert shards.items() <= now.items(), "a finished shard was lost or made again"
                epochs, shards = victim.epochs(), now
                tally.amid += epochs + len(shards) > 0
            tally.steps.append(epochs + len(shards))
            if tally.sent == kills:
                break
        victim.run()
        assert victim.contents() == victim.reference
        assert not victim.leftovers()
    return tally

"""DVC's queue: filling it, starting it, and where it stands."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octrobust.errors import UserError
from octrobust.experiments.command import command, dvc, environment
from octrobust.experiments.grid import Point, differing, leaves
from octrobust.experiments.read import Experiment, read_experiments

OPEN = ("queued", "running")


def taken(project: Path, named: Mapping[str, Point], values: Mapping[str, Any]) -> set[str]:
    """The names of those that need not be queued again: finished, running, or waiting.

    Args:
        values: params.yaml as it is.

    Raises:
        UserError: an experiment of other parameters has one of the names.
    """
    there = {
        one.name: one
        for one in read_experiments(project)
        if one.kind == "experiment" and one.state != "failed" and one.name in named
    }
    for name, one in there.items():
        differ = differing(one.params, dict(leaves(named[name].applied(values))))
        if differ:
            raise UserError(
                f"{name} is there already, of another {', '.join(differ[:3])}"
                f"{' and more' if len(differ) > 3 else ''}: give these a name with --name, or "
                f"remove it with `dvc exp remove {name}`"
            )
    return set(there)


def queue(project: Path, point: Point, name: str, stage: str | None = None) -> None:
    """Put one experiment at the end of the queue: of the whole pipeline, or of one stage and what
    it needs."""
    changes = [part for change in point.overrides() for part in ("-S", change)]
    stages = [] if stage is None else [stage]
    dvc(project, "exp", "run", "--queue", "--name", name, *changes, *stages)


def start(project: Path, workers: int) -> None:
    """See to it that so many workers are at it; they end with the queue, not with this process."""
    done = subprocess.run(
        command("queue", "start", "--jobs", str(workers)),
        cwd=project,
        env=environment(),
        stdin=subprocess.DEVNULL,
        # No pipe: a worker holds it until the queue is empty.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        check=False,
    )
    if done.returncode:
        raise UserError("the queue's worker does not start: `dvc queue start` says why")


def workers(project: Path) -> int:
    """Those that are alive, at work or waiting for more."""
    found = re.search(r"(\d+) active, (\d+) idle", dvc(project, "queue", "status"))
    return int(found[1]) + int(found[2]) if found else 0


@dataclass
class Watched:
    """What was queued or running when watching began, by task.

    Attributes:
        states: by task.
        names: by task.
        doing: what those at work are at, by name.
        alone: since when something waits and nothing is at work, on the monotonic clock.
    """

    states: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)
    doing: dict[str, str] = field(default_factory=dict)
    alone: float | None = None

    def look(self, experiments: Sequence[Experiment]) -> list[tuple[str, str]]:
        """Take note of how things stand; returns (name, state) of those that ended since."""
        ended = []
        for one in experiments:
            if one.task is None or not (one.state in OPEN or one.task in self.states):
                continue
            if self.states.get(one.task, "") in ("success", "failed"):
                continue
            self.states[one.task], self.names[one.task] = one.state, one.name
            if one.log:
                self.logs[one.task] = one.log
            if one.state not in OPEN:
                ended.append((one.name, one.state))
        self.read_logs()
        if "running" in self.states.values() or not self.open():
            self.alone = None
        elif self.alone is None:
            self.alone = time.monotonic()
        return ended

    def read_logs(self) -> None:
        """What those at work are at by now; cheap, where asking DVC takes seconds."""
        running = [task for task, state in self.states.items() if state == "running"]
        self.doing = {self.names[t]: at_work(self.logs[t]) for t in running if t in self.logs}

    def open(self) -> int:
        return sum(state in OPEN for state in self.states.values())

    def by_name(self) -> dict[str, str]:
        """How each stands; a name that failed and was queued again while watched has failed."""
        failed_last = sorted(self.states, key=lambda task: self.states[task] == "failed")
        return {self.names[task]: self.states[task] for task in failed_last}

    def why(self, name: str) -> str:
        """The last word of a failed one."""
        log = next(
            (self.logs[t] for t, n in self.names.items() if n == name and t in self.logs), None
        )
        errors = (
            [line for line in _lines(log) if line.startswith(("error:", "ERROR:"))] if log else []
        )
        return errors[0] if errors else f"dvc queue logs {name} says why"


def watch(
    project: Path,
    said: Callable[[Watched, list[tuple[str, str]]], None],
    every: float,
    patience: float = 30,
) -> Watched:
    """Ask DVC every so many seconds until nothing is queued or running; read logs in between.

    Args:
        said: called after each look, with those that ended since the last.
        patience: seconds in which something may wait and nothing work, before it is given up.

    Raises:
        UserError: something waits, and no worker is there.
    """
    seen = Watched()
    while True:
        said(seen, seen.look(read_experiments(project)))
        if not seen.open():
            return seen
        alone = 0.0 if seen.alone is None else time.monotonic() - seen.alone
        if alone > patience and not workers(project):
            raise UserError(
                f"{seen.open()} experiments wait and no worker is there: start one with "
                "`octrobust sweep run`"
            )
        until = time.monotonic() + every
        while time.monotonic() < until:
            time.sleep(1)
            seen.read_logs()
            said(seen, [])


def at_work(log: Path) -> str:
    """The stage that an experiment is at, and its progress bar if there is one."""
    stage, bar = "", ""
    for line in _lines(log):
        if found := re.match(r"Running stage '([^']+)'", line):
            stage, bar = found[1], ""
        elif found := re.search(r"(\d+%)\|.*\[([^\]]*)\]", line):
            bar = f" {found[1]} [{found[2].split(',')[0]}]"
    return stage + bar


def _lines(log: Path) -> list[str]:
    """The end of what was printed, a redrawn bar as lines of its own, nothing that a terminal would
    act on."""
    try:
        with log.open("rb") as source:
            source.seek(0, 2)
            source.seek(max(source.tell() - 65536, 0))
            text = source.read().decode("utf-8", "replace")
    except OSError:
        return []
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    lines = re.split(r"[\r\n]+", plain)
    return ["".join(c if c.isprintable() else "?" for c in line).strip() for line in lines]

"""Trackers that are killed, hung or slow in mid-run, and that hear or say only half of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from octrobust import tracking
from octrobust.tracking import attempt, records
from octrobust.tracking.address import UnavailableError
from octrobust.tracking.store import Store
from tests.faults.conftest import Note
from tests.faults.tracked import make_project, put, run_stage, story, try_every_time
from tests.pipeline.conftest import TINY, Checkout, new_checkout
from tests.servers import Relay, Server, mlflow_server

pytestmark = pytest.mark.faults

STAGES = [f"train@{letter}" for letter in "abcdef"]
NOTHING = tracking.Summary((), 0, None)


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "DVC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, int]]:
    """MLflow's server as a user starts it; tests leave it running."""
    root = tmp_path_factory.mktemp("server")
    made, port = mlflow_server(root, f"sqlite:///{root / 'store.db'}", str(root / "artifacts"))
    made.start()
    yield made, port
    made.kill()


@pytest.fixture
def relay(server: tuple[Server, int]) -> Iterator[Relay]:
    made = Relay(server[1])
    yield made
    made.close()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(tmp_path / "project", time.time_ns() / 1e9)
    monkeypatch.chdir(root)
    return root


def complete(uri: str, project: Path, stages: list[str]) -> None:
    """`octrobust track` finds all of it, once, and a second call nothing."""
    result = tracking.track(project)
    assert (result.pending, result.error) == (0, None)
    told = story(uri, project)
    assert sorted(run["stage"] for run in told) == sorted([*stages, "report"])
    for run in told:
        summary = run["stage"] == "report"
        assert run["status"] == "FINISHED"
        assert run["child"] is not summary
        assert len(run["params"]) == 130
        assert len(run["metrics"]) == 121
        assert run["points"] == [(epoch, 1 / epoch) for epoch in range(1, 41)]
        assert len(run["data"]) == (2 if summary else 1)
        assert len(run["versions"]) == summary
        assert run["best"] == ["best"] * summary
        names = [Path(name).name for name, _ in run["artifacts"]]
        assert f"{run['stage']}.csv" in names
        assert ("model.safetensors" in names) is summary
    assert tracking.track(project) == NOTHING
    assert story(uri, project) == told


def log_through_a_cut(
    relay: Relay, root: Path, message: int, lost: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[bool, list[dict[str, Any]]]:
    """Log two stages over a connection cut at that message, then complete the record.

    Returns whether it was cut before the end, and the story.
    """
    project = make_project(root, time.time_ns() / 1e9)
    monkeypatch.chdir(project)
    uri = f"http://127.0.0.1:{relay.port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    put("train@a")
    put("report")
    relay.fail_at(message, lost)
    cut = tracking.flush()
    relay.heal()
    if cut.error is None:
        assert cut.pending == 0
    complete(uri, project, ["train@a"])
    told = story(uri, project)
    for run in told:
        # The best of all by its alias is checked in `complete`; beta is the project's own.
        run["tags"].pop("octrobust.content")
    shutil.rmtree(project)
    return cut.error is not None, told


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_connection_cut_anywhere_leaves_nothing_twice(
    lost: str, relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: Note
) -> None:
    """At every fifth message of the log of two stages, from the first to the last."""
    stories, message, step = [], 2, 5
    while True:
        was_cut, told = log_through_a_cut(
            relay, tmp_path / f"project-{message}", message, lost, monkeypatch
        )
        stories.append(told)
        if not was_cut:
            break
        message += step
    note(f"{len(stories) - 1} cuts survived")
    assert len(stories) > 10, "the log was not cut often enough to say anything"
    whole = stories[-1]
    for number, told in enumerate(stories):
        assert told == whole, number


@pytest.mark.parametrize("outage", ["killed", "hung", "slow"])
def test_stages_go_on_without_their_tracker(
    outage: str,
    server: tuple[Server, int],
    relay: Relay,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    note: Note,
) -> None:
    """The tracker fails in the middle of a record, and every stage tries again: the worst case."""
    uri = f"http://127.0.0.1:{relay.port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    try_every_time(monkeypatch)
    monkeypatch.setattr(attempt, "_LONGEST", 15.0)
    relay.at = 12
    if outage == "slow":
        relay.delay = 0.7
    else:
        relay.then = server[0].kill if outage == "killed" else server[0].hang
    held = [run_stage(stage) for stage in [*STAGES, "report"]]
    said = capsys.readouterr().err.splitlines()
    note(f"stages held up {', '.join(f'{each:.1f}' for each in held)} s")
    assert max(held[:-1]) < attempt._LONGEST + 5
    assert held[-1] < 2 * attempt._LONGEST + 5
    assert len(said) == 1, said
    assert "octrobust track" in said[0]
    assert records.pending(project)[0]
    relay.heal()
    if outage == "killed":
        server[0].start()
    elif outage == "hung":
        server[0].resume()
    complete(uri, project, STAGES)


def test_a_tracker_that_takes_seconds_to_answer_is_waited_for_by_track(
    relay: Relay, project: Path
) -> None:
    uri = f"http://127.0.0.1:{relay.port}"
    relay.delay = 4.0
    with pytest.raises(UnavailableError, match="timed out"):
        Store(uri, project)  # as a stage does
    Store(uri, project, patient=True)
    relay.heal()


def sweep(project: Path, number: int, uri: str | None) -> None:
    """One of several experiments: twenty stages and a summary, in a folder that then vanishes."""
    if uri:
        os.environ["MLFLOW_TRACKING_URI"] = uri
        folder = make_project(project / f"clone-{number}", float(number))
    else:
        os.environ["DVC_EXP_NAME"] = f"sweep-{number}"
        folder = make_project(project / ".dvc" / "tmp" / "exps" / f"tmp{number}", float(number))
    os.chdir(folder)
    for stage in [f"stage-{i}" for i in range(19)]:
        run_stage(stage, seconds=1.0)
    run_stage("train@a", seconds=60.0)
    run_stage("report")
    if not uri:
        shutil.rmtree(folder)


@pytest.mark.parametrize("where", ["one checkout", "a checkout each, one database"])
def test_eight_sweeps_at_once(
    where: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    note: Note,
) -> None:
    """On a store that none of them finds there: 168 runs, no error, none missing, none twice."""
    project = tmp_path / "project"
    alone = where == "one checkout"
    uri = f"sqlite:///{(project if alone else tmp_path) / 'mlflow.db'}"
    if alone:
        make_project(project, 0.0)
    context = get_context("spawn")
    sweeps = [
        context.Process(target=sweep, args=(project, number, None if alone else uri))
        for number in range(8)
    ]
    for each in sweeps:
        each.start()
    for each in sweeps:
        each.join(550)
    assert [each.exitcode for each in sweeps] == [0] * 8
    said = capfd.readouterr().err.splitlines()
    with capfd.disabled():
        note(f"eight sweeps; {said or 'nothing said'}")
    homes = [project] if alone else [project / f"clone-{number}" for number in range(8)]
    left = [home for home in homes if records.pending(home)[0]]
    if alone:
        assert (left, said) == ([], [])
    assert all(line.startswith(attempt.BUSY_DATABASE) for line in said), said
    assert len(said) == len(left), "what is left is said, and nothing else"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for home in left:  # those that waited a minute for the others in vain
        assert tracking.track(home).error is None
    told = story(uri)
    expected = sorted([*(f"stage-{i}" for i in range(19)), "train@a", "report"] * 8)
    assert sorted(run["stage"] for run in told) == expected
    assert {run["status"] for run in told} == {"FINISHED"}
    assert sum(not run["child"] for run in told) == 8


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return new_checkout(tmp_path / "checkout", TINY)


@pytest.mark.parametrize("outage", ["killed", "hung", "slow"])
def test_a_repro_goes_on_while_its_server_fails_and_dies(
    outage: str, checkout: Checkout, server: tuple[Server, int], relay: Relay, note: Note
) -> None:
    """DVC's own run of the stages up to an attack; the server fails when it is first logged to."""
    uri = f"http://127.0.0.1:{relay.port}"
    environment = {**checkout.environment(), "MLFLOW_TRACKING_URI": uri}
    fail = {
        "killed": server[0].kill,
        "hung": server[0].hang,
        "slow": lambda: setattr(relay, "delay", 5.0),
    }
    relay.at, relay.then = 10, fail[outage]
    began = time.monotonic()
    done = subprocess.run(
        ["dvc", "repro", "train@config_2", "attack@train"],
        cwd=checkout.root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.monotonic() - began
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert relay.at is None, "nothing was logged in mid-run"
    relay.heal()
    server[0].kill()
    track = [sys.executable, "-m", "octrobust.cli", "track"]
    environment["PYTHONPATH"] = str(checkout.root / "src")
    command = {"cwd": checkout.root, "env": environment, "capture_output": True, "text": True}
    down = subprocess.run(track, **command, check=False)
    assert down.returncode == 1
    assert "error: tracking server unreachable" in down.stderr
    server[0].start()
    first, second = (subprocess.run(track, **command, check=True).stdout for _ in range(2))
    assert second == "logged 0 runs, 0 waiting\n"
    told = story(uri, checkout.root)
    stages = sorted(checkout.yaml("dvc.lock")["stages"])
    children = [run for run in told if run["child"]]
    assert sorted(run["stage"] for run in children) == stages
    assert {run["status"] for run in children} == {"FINISHED"}
    assert len(told) == len(children) + 1
    (train,) = (run for run in children if run["stage"] == "train@config_1")
    measured = checkout.json("metrics/train/config_1.json")
    assert train["metrics"]["validation_accuracy"] == measured["validation_accuracy"]
    note(f"repro of {len(stages)} stages in {took:.0f} s; then {first.splitlines()[-1]}")

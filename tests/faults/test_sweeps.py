"""DVC's queue with two workers: the same bytes as one experiment after another."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.faults.conftest import Note
from tests.faults.kills import Victim
from tests.pipeline.conftest import Checkout

pytestmark = pytest.mark.faults

STAGES = ("attack@train",)
BETAS = {"low": 0.0001, "middle": 0.01, "high": 0.1}
DEVICE = "CUDA_VISIBLE_DEVICES"


def start_worker(checkout: Checkout, number: int, device: str) -> None:
    """One more worker of the queue, which sees this device alone."""
    said = checkout.root.parent / f"worker-{number}.log"
    with said.open("w") as output:  # a pipe would be held open by the worker until it ends
        subprocess.run(
            ["dvc", "queue", "start", "--jobs", str(number)],
            cwd=checkout.root,
            env={**checkout.environment(), DEVICE: device},
            stdout=output,
            check=True,
        )
    assert "Started '1' new" in said.read_text()
    for _ in range(120):
        if f"{number} active" in checkout.run("dvc", "queue", "status").stdout:
            return
        time.sleep(0.5)
    raise AssertionError("the worker does not come up")


def stages_at_work(checkout: Checkout) -> list[tuple[str, str]]:
    """(experiment's folder, device) of every stage that runs now."""
    found = []
    exps = checkout.root / ".dvc" / "tmp" / "exps"
    for process in psutil.process_iter():
        try:
            folder = Path(process.cwd())
            if "-m pipeline." in " ".join(process.cmdline()) and folder.is_relative_to(exps):
                found.append((folder.name, process.environ().get(DEVICE, "")))
        except (psutil.Error, OSError):
            continue
    return found


def test_two_workers_a_device_each_make_what_one_makes(
    trained: Checkout, tmp_path: Path, note: Note
) -> None:
    one_by_one = Checkout(tmp_path / "two")
    shutil.copytree(trained.root, one_by_one.root, symlinks=True)
    for name, beta in BETAS.items():
        trained.run(
            *("dvc", "exp", "run", "--queue", "--name", name, "-S", f"attack.beta={beta}"), *STAGES
        )
    # The second call starts number 2 alone, since number 1 is there: so each has its own device.
    start_worker(trained, 1, "0")
    start_worker(trained, 2, "1")
    devices: dict[str, set[str]] = {}
    together = 0
    while re.search(r"Queued|Running", status := trained.run("dvc", "queue", "status").stdout):
        for _ in range(20):
            time.sleep(0.25)
            at_work = dict(stages_at_work(trained))
            together += len(at_work) == 2
            assert len(set(at_work.values())) == len(at_work), "two experiments on one device"
            for folder, device in at_work.items():
                devices.setdefault(folder, set()).add(device)
    assert status.count("Success") == len(BETAS), status
    while "0 active, 0 idle" not in trained.run("dvc", "queue", "status").stdout:
        time.sleep(3)
    assert together, "the workers never worked at the same time"
    assert {frozenset(seen) for seen in devices.values()} == {frozenset("0"), frozenset("1")}

    for name, beta in BETAS.items():
        one_by_one.run("dvc", "exp", "run", "--name", name, "-S", f"attack.beta={beta}", *STAGES)
        # It complains of the stages that were not run.
        trained.run("dvc", "exp", "apply", name, check=False)
        for stage in STAGES:
            alone, queued = (Victim(each, stage).contents() for each in (one_by_one, trained))
            assert queued == alone, (name, stage)
    note(f"{len(BETAS)} experiments on 2 workers, {together} samples with both at work")


def test_every_queued_experiment_is_remembered(trained: Checkout) -> None:
    """Runs after the test above, on what it left."""
    environment = {**trained.environment(), "PYTHONPATH": str(trained.root / "src")}
    track = ["python", "-c", "from octrobust.cli import app; app()", "track"]
    done = subprocess.run(
        track, cwd=trained.root, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith(" 0 waiting\n")
    runs = [run.data.tags for run in trained.runs() if "mlflow.parentRunId" in run.data.tags]
    for name in BETAS:
        mine = [each for each in runs if each.get("octrobust.dvc_experiment") == name]
        assert sorted(each["octrobust.stage"] for each in mine) == sorted(STAGES)

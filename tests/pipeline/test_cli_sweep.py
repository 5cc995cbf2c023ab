"""A sweep from the grid to the picture with DVC's real queue, on a pipeline of one small stage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.pipeline.conftest import ROOT, Checkout

STAGE = """
import json, pathlib, yaml
beta = yaml.safe_load(open("params.yaml"))["attack"]["beta"]
assert beta < 1, "error: too large"
summary = {"accuracy_attacked": 0.0, "validation_robust_accuracy_hardened_online": 0.5 + beta}
attack = {"l2": {"median": 1 + beta}}
for name, value in (("summary", summary), ("attack/test", attack)):
    path = pathlib.Path("metrics", name + ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
"""
PIPELINE = """
stages:
  report:
    cmd: python stage.py
    deps: [stage.py]
    params: [attack.beta]
    metrics:
      - metrics/summary.json: {cache: false}
      - metrics/attack/test.json: {cache: false}
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    root = tmp_path_factory.mktemp("toy")
    shutil.copy(ROOT / "params.yaml", root)
    (root / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", root / ".dvc")
    shutil.copy(ROOT / ".dvc" / ".gitignore", root / ".dvc")
    (root / ".gitignore").write_text("/reports/\n")
    (root / "stage.py").write_text(STAGE)
    (root / "dvc.yaml").write_text(PIPELINE)
    checkout = Checkout(root)
    checkout.run("git", "init", "--quiet", "--initial-branch=main")
    for key, value in (("user.name", "tester"), ("user.email", "tester@localhost")):
        checkout.run("git", "config", key, value)
    checkout.run("dvc", "repro")
    checkout.run("git", "add", "--all")
    checkout.run("git", "commit", "--quiet", "--message", "start")
    return checkout


def octrobust(checkout: Checkout, *arguments: str, code: int = 0) -> str:
    done = checkout.run("python", "-m", "octrobust.cli", *arguments, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_a_sweep_is_queued_run_compared_and_drawn(toy: Checkout) -> None:
    told = json.loads(octrobust(toy, "sweep", "attack.beta=0.01,0.1,2", "--json"))
    assert list(told["queued"]) == ["beta=0.01", "beta=0.1", "beta=2"]
    # The last fails, and is said with its reason.
    said = octrobust(toy, "sweep", "run", "--every", "1", code=1)
    assert "success  beta=0.01" in said
    assert "failed  beta=2: ERROR: " in said
    assert "2 experiments ended well, 1 failed" in said

    compared: dict[str, Any] = json.loads(octrobust(toy, "compare", "--json"))
    assert compared["best"] == "beta=0.1"
    states = {one["name"]: one["state"] for one in compared["experiments"]}
    assert states == {
        **dict.fromkeys(("beta=0.1", "beta=0.01", "workspace", "main"), "success"),
        "beta=2": "failed",
    }

    drawn = json.loads(octrobust(toy, "sweep", "draw", "--json"))
    (line,) = drawn["lines"]
    found = [(one["value"], one["mean"]) for one in line["metrics"]["attack@test.l2.median"]]
    assert found == [(0.001, 1.001), (0.01, 1.01), (0.1, 1.1)]
    with Image.open(Path(drawn["file"])) as picture:
        assert picture.format == "PNG"

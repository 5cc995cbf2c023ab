"""A checkout of this project in a temporary folder, at the smallest scale that runs it all."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TINY: dict[str, dict[str, Any]] = {
    "data": {
        "image_size": 75,
        "phantom": {"patients_per_class": 14, "images_per_patient": 2, "seed": 7},
    },
    "split": {"train": 8, "validation": 4, "test": 4, "extra": 2},
    "train": {"epochs": 6, "batch_size": 4},
    "attack": {
        "binary_search_steps": 2,
        "max_iter": 8,
        "learning_rate": 0.2,
        "initial_const": 0.1,
        "images_per_class": {"train": 3, "test": None},
    },
    "harden": {
        "epochs": 1,
        "batch_size": 4,
        "variants": {
            "online": {
                "epochs": 1,
                "starts_from": "fresh",
                "average": 0.5,
                "inner": {"steps": 1, "validation_steps": 1},
            }
        },
    },
    "evaluate": {
        "adaptive": ["hardened_static", "hardened_online"],
        "images_per_class": 2,
        "corruption_severities": [2],
        "battery": {
            "models": ["config_1", "hardened_online"],
            "images_per_class": 2,
            "l2": [1.0],
            "linf": [0.02],
            "steps": 2,
            "square_queries": 2,
            "hop_skip_jump_rounds": 0,
            "noise_draws": 1,
        },
    },
    "compute": {"threads": 1, "shard_size": 4},
}


@dataclass(frozen=True)
class Checkout:
    """A working tree with its own git repository and DVC cache."""

    root: Path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `command` as a user with the environment activated would."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(),
            text=True,
            capture_output=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{command} failed:\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}")
        return done

    @staticmethod
    def environment() -> dict[str, str]:
        """The user's, with the project's own tracking store."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "PYTHON"))}
        environment.update(
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
            GIT_CONFIG_GLOBAL=os.devnull,
        )
        environment.pop("MLFLOW_TRACKING_URI", None)
        return environment

    def json(self, name: str) -> Any:
        return json.loads((self.root / name).read_text())

    def yaml(self, name: str) -> Any:
        return yaml.safe_load((self.root / name).read_text())

    def runs(self) -> list[Any]:
        """Every run in the project's own MLflow store."""
        from mlflow.tracking import MlflowClient

        client = MlflowClient(f"sqlite:///{self.root / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("octrobust")
        assert experiment is not None
        return list(client.search_runs([experiment.experiment_id], max_results=500))


def stages_run(output: str) -> set[str]:
    """What `dvc repro` says that it ran."""
    return set(re.findall(r"Running stage '([^']+)'", output))


def shipped_files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def update(tree: dict[str, Any], changes: dict[str, Any]) -> None:
    """Put changes in, key by key at every depth."""
    for key, value in changes.items():
        if isinstance(value, dict):
            update(tree.setdefault(key, {}), value)
        else:
            tree[key] = value


def change_parameters(root: Path, changes: dict[str, dict[str, Any]]) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    update(params, changes)
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def new_checkout(root: Path, changes: dict[str, dict[str, Any]]) -> Checkout:
    for name in shipped_files():
        if name == "dvc.lock" or (name.startswith("metrics/") and name.endswith(".json")):
            continue  # results of another run
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    change_parameters(root, changes)
    checkout = Checkout(root)
    checkout.run("git", "init", "--quiet", "--initial-branch=main")
    for key, value in (("user.name", "tester"), ("user.email", "tester@localhost")):
        checkout.run("git", "config", key, value)
    checkout.run("git", "add", "--all")
    checkout.run("git", "commit", "--quiet", "--message", "start")
    return checkout


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout after `dvc repro`, committed. Tests that change it restore it."""
    checkout = new_checkout(tmp_path_factory.mktemp("project"), TINY)
    checkout.run("dvc", "repro")
    checkout.run("git", "add", "--all")
    checkout.run("git", "commit", "--quiet", "--message", "results")
    return checkout

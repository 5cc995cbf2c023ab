"""`doctor` finds what is wrong, says how to mend it, and writes nothing."""

from __future__ import annotations

import json
import os
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from octrobust import config
from octrobust.cli import app
from octrobust.doctor import data, installation, machine, stores
from octrobust.doctor.finding import Finding, examined

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as a fresh clone has it, at least to the doctor."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    project = tmp_path / "project"
    (project / ".dvc").mkdir(parents=True)
    (project / ".dvc" / "config").write_text("")
    (project / "dvc.yaml").write_text("stages: {}\n")
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(project)
    return project


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)


def levels(findings: Any) -> dict[str, str]:
    return {one.name: one.level for one in findings}


def test_it_looks_at_everything_and_writes_nothing(root: Path) -> None:
    git(root, "init")
    before = sorted(path for path in root.rglob("*") if ".git" not in path.parts)
    done = CliRunner().invoke(app, ["doctor", "--json"])
    told = json.loads(done.stdout)
    by_name = {one["name"]: one for one in told["findings"]}
    assert set(by_name) >= {
        *("python", "environment", "packages", "parameters", "results", "git", "MLflow"),
        *("images", "disk", "DVC cache", "DVC remote", "torch", "GPU", "device"),
    }
    assert by_name["git"]["level"] == "problem"  # no commit
    assert done.exit_code == 1
    assert told["problem"] >= 1
    assert all(one["mend"] for one in told["findings"] if one["level"] == "problem")
    assert not (root / "mlflow.db").exists()
    after = sorted(path for path in root.rglob("*") if ".git" not in path.parts)
    assert [path for path in after if path not in before and "tmp" not in path.parts] == []


def test_outside_a_project_it_still_looks_at_the_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["doctor"])
    assert "ok       packages" in done.output
    assert "cd into your clone" in done.output
    assert done.exit_code == 0


def test_git_without_a_name(root: Path) -> None:
    git(root, "init")
    identity = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    git(root, *identity, "commit", "--allow-empty", "-m", "start")
    (found,) = stores.git(root)
    assert found.level == "problem"
    assert "git config user.email" in found.mend
    git(root, "config", "user.name", "a")
    git(root, "config", "user.email", "a@localhost")
    assert levels(stores.git(root)) == {"git": "ok"}


def test_a_tracking_server_that_is_down(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    (found,) = stores.mlflow(root)
    assert found.level == "problem"
    assert "127.0.0.1:9" in found.what


def test_scratch_that_nobody_came_back_to(root: Path) -> None:
    assert levels(machine.scratch(root)) == {"scratch": "ok"}
    begun = root / ".octrobust" / "scratch" / "train-config_1-0123"
    begun.mkdir(parents=True)
    (begun / "checkpoint.pt").write_bytes(bytes(2**20))
    assert levels(machine.scratch(root)) == {"scratch": "ok"}
    os.utime(begun, (0, 0))
    (found,) = machine.scratch(root)
    assert found.level == "warning"
    assert "1 older than 30 days" in found.what


def test_remotes_that_are_there_and_not(root: Path) -> None:
    git(root, "init")
    (root / ".dvc" / "config").write_text(
        "['remote \"good\"']\n    url = ../../remote\n"
        "['remote \"down\"']\n    url = http://127.0.0.1:9/nothing\n"
    )
    found = levels(stores.dvc(root))
    assert found["DVC remote good"] == "ok"
    assert found["DVC remote down"] == "problem"


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"source": "folder", "root": "nowhere"}, "problem"),
        ({"source": "folder", "root": "."}, "ok"),
        ({"source": "kermany", "archive": "nowhere.zip"}, "problem"),
    ],
)
def test_images_that_params_name(root: Path, changes: dict[str, Any], level: str) -> None:
    values = yaml.safe_load((root / "params.yaml").read_text())
    values["data"] |= changes
    assert [one.level for one in data.images(config.parse(values))] == [level]


def test_packages_out_of_range_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy>=99", "no-such-package>=1", "rich>=13", 'boto3>=99; extra == "s3"']
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    assert levels(installation.packages()) == {"numpy": "problem", "no-such-package": "problem"}


def test_a_torchvision_of_another_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: ["torch==1.0"])
    (found,) = installation.torch_and_torchvision()
    assert (found.level, "needs torch ==1.0" in found.what) == ("problem", True)


def test_a_file_of_weights_that_is_not_there_is_named(params: config.Params) -> None:
    online = params.harden.variants["online"].model_copy(update={"starts_from": "/no/such.pt"})
    variants = {**params.harden.variants, "online": online}
    harden = params.harden.model_copy(update={"variants": variants})
    (found,) = data.weights(params.model_copy(update={"harden": harden}))
    assert (found.level, found.mend) == (
        "problem",
        "correct harden.variants.online.starts_from in params.yaml",
    )


def test_a_device_that_is_not_there(params: config.Params) -> None:
    compute = params.compute.model_copy(update={"device": "cuda:9"})
    found = levels(machine.device(compute))
    assert found["device"] == "problem"


def test_a_check_that_breaks_is_a_problem_and_the_rest_goes_on() -> None:
    def broken() -> list[Finding]:
        raise RuntimeError("something\nwith lines")

    (found,) = examined("it", broken)
    assert (found.level, found.name) == ("problem", "it")
    assert "something with lines" in found.what

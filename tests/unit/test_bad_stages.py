"""Bad input to the real stages and commands: exit code, one line, nothing recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from octrobust.cli import app
from octrobust.data.arrays import COLUMNS, stored_side
from octrobust.files import write_csv
from tests.conftest import one_error, picture
from tests.unit.test_bad_files import Payload

ROOT = Path(__file__).resolve().parents[2]


class Project:
    """A folder with parameters and what a stage reads."""

    def __init__(self, folder: Path, **changes: dict[str, Any]) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "dvc.yaml").write_text("stages: {}\n")
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        for section, own in changes.items():
            values[section] |= own
        (folder / "params.yaml").write_text(yaml.safe_dump(values))

    def run(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env={**environment, "PYTHONPATH": paths},
            text=True,
            capture_output=True,
            check=False,
        )

    def refused(self, stage: str, *arguments: str) -> str:
        before = self.files()
        done = self.run(f"pipeline.{stage}", *arguments)
        assert done.returncode == 2, done.stderr
        assert self.files() == before
        return one_error(done.stderr)

    def files(self) -> set[str]:
        """All but the empty folders and locks of unfinished work."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)) for path in found if path.suffix != ".lock"}


def test_ingest_without_its_source(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", data={"source": "folder", "root": "nowhere"})
    assert "data.root: " in project.refused("ingest")


def test_split_on_an_index_edited_by_hand(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    index = project.folder / "data" / "raw" / "index.csv"
    index.parent.mkdir(parents=True)
    index.write_text("path;label\nCNV/a.png;CNV\n")
    assert "index.csv is another table" in project.refused("split")


def test_train_from_a_weight_file_that_runs_code(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", model={"weights": "evil.pt"})
    payload = Payload(project.folder / "written")
    torch.save({"logits.weight": payload}, project.folder / "evil.pt")
    side, arrays = stored_side(80), project.folder / "data" / "arrays"
    arrays.mkdir(parents=True)
    for name in ("train", "validation"):
        np.save(arrays / f"{name}.npy", np.zeros((1, side, side), np.uint8))
        row = {"row": 0, "path": "CNV/a.png", "label": "CNV", "patient": "1", "target": 1}
        write_csv(arrays / f"{name}.csv", [row], COLUMNS)
    assert "nothing in it was run" in project.refused("train", "config_1")


def test_a_stage_in_a_folder_with_spaces_signs_and_other_scripts(tmp_path: Path) -> None:
    project = Project(tmp_path / "été 網膜 50 % #1", data={"source": "folder", "root": "my scans"})
    for number, label in enumerate(("NORMAL", "CNV")):
        path = project.folder / "my scans" / label / f"{label} é {number}.jpeg"
        path.parent.mkdir(parents=True)
        path.write_bytes(picture(number))
    done = project.run("pipeline.ingest")
    assert done.returncode == 0, done.stderr
    assert (project.folder / "data" / "raw" / "CNV" / "CNV é 1.jpeg").is_file()
    logged = project.run("octrobust.cli", "track")
    assert logged.returncode == 0, logged.stderr
    assert "logged 1 runs, 0 waiting" in logged.stdout


@pytest.mark.parametrize("text", ["data: [", "data: {}\ndata: {}\n", "", "\x00"])
def test_check_names_what_is_wrong_with_a_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 2
    assert str(path) in one_error(result.stderr)


def test_check_takes_the_committed_file_from_anywhere_in_the_project(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT / "docs")
    result = CliRunner().invoke(app, ["check"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("../params.yaml")

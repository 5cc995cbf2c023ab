"""CONTRIBUTING.md: its three recipes, applied to a copy of the package, do what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", TEXT, re.DOTALL))
DIFFS = re.findall(r"```diff\n(.*?)```", TEXT, re.DOTALL)
TESTS = [path for path in FILES if path.startswith("tests/")]


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and of what tests share, with the recipes in it."""
    project = tmp_path_factory.mktemp("recipes")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", project / "src", ignore=ignored)
    (project / "tests" / "unit").mkdir(parents=True)
    shared = [path.relative_to(ROOT) for path in (ROOT / "tests").glob("*.py")]
    for name in ("params.yaml", "pyproject.toml", "tests/unit/__init__.py", *shared):
        shutil.copy(ROOT / name, project / name)
    for diff in DIFFS:
        subprocess.run(["git", "apply", "-"], input=diff, text=True, cwd=project, check=True)
    for path, content in FILES.items():
        assert not (project / path).exists(), f"{path} is there already"
        (project / path).write_text(content)
    return project


def test_each_is_one_file_and_one_test() -> None:
    assert len(DIFFS) + len(FILES) - len(TESTS) == len(TESTS) == 3
    assert [diff.count("+++ ") for diff in DIFFS] == [1]


def test_their_tests_pass(applied: Path) -> None:
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    done = subprocess.run(run, cwd=applied, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_they_are_as_the_project_writes(applied: Path) -> None:
    for command in (["check"], ["format", "--check"]):
        run = [sys.executable, "-m", "ruff", *command, "--no-cache", "src", *TESTS]
        done = subprocess.run(run, cwd=applied, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

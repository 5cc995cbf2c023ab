"""Wheel and sdist: all of the package, its types among it, and nothing else."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from scripts import dist
from tests.conftest import ROOT

EXTRAS = ("kaggle", "postgresql", "s3", "slurm")  # what the package itself may use


def test_they_hold_what_they_should(tmp_path: Path) -> None:
    """The checks of `make dist` end with an error where they find one."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    dist.check_wheel(Path(wheel))
    (sdist,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    dist.check_sdist(Path(sdist))


def test_what_it_imports_it_asks_for() -> None:
    """What another package happens to bring along may go with its next version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = (project["optional-dependencies"][name] for name in EXTRAS)
    lists = (project["dependencies"], *extras)
    names = {_normal(re.split(r"[^\w.-]", line)[0]) for line in chain.from_iterable(lists)}
    brings = packages_distributions()
    for path in sorted((ROOT / "src").rglob("*.py")):
        for module in _imported(path) - {*sys.stdlib_module_names, "octrobust"}:
            # An extra that is not installed has the name of its package.
            found = {_normal(name) for name in brings.get(module, [module])}
            assert found & names, f"{path.relative_to(ROOT)}: {module}"


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

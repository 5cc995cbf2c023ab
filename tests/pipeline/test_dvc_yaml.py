"""dvc.yaml says what is true: each stage depends on the code it imports and no other."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from octrobust import config
from octrobust.stages.repeat import PGD_OF_BATTERY

ROOT = Path(__file__).resolve().parents[2]
WRITTEN: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STAGES: dict[str, dict[str, Any]] = {
    name: stage.get("do", stage) for name, stage in WRITTEN.items()
}
# They watch and start, and cannot change a result: an edit there must not re-run hours of work.
OBSERVERS = ("octrobust.tracking", "octrobust.launch")
# Their files are chosen by name, so a stage depends on the folder: a new file needs no change here.
BY_NAME = ("octrobust.data.sources", "octrobust.training.defences")


def file_of(module: str) -> Path | None:
    base = ROOT / "src" if module.startswith("octrobust") else ROOT
    path = base.joinpath(*module.split("."))
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.exists():
            return candidate
    return None


def imported(module: str) -> set[str]:
    """Modules of this project that `module` imports, at any depth, lazily or not."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = file_of(name)
        ours = name.split(".")[0] in ("octrobust", "pipeline")
        if not ours or path is None or name in seen or name.startswith(OBSERVERS):
            continue
        seen.add(name)
        waiting += [name.rpartition(".")[0]]
        if name in BY_NAME:
            waiting += [f"{name}.{one.stem}" for one in path.parent.glob("[!_]*.py")]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                waiting += [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
    return seen


def code_of(stage: str) -> list[str]:
    files = {path for module in imported(f"pipeline.{stage}") if (path := file_of(module))}
    for file in list(files):
        text = file.read_text()
        if '"templates"' in text:
            files.update((file.parent / "templates").iterdir())
        # Numbers that the package brings along, named where they are read.
        files.update(one for one in file.parent.glob("*.json") if f'"{one.name}"' in text)
    folders = {file_of(name).parent for name in BY_NAME}
    chosen = {path.parent if path.parent in folders else path for path in files}
    return sorted(str(path.relative_to(ROOT)) for path in chosen)


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_exactly_the_code_used(stage: str) -> None:
    listed = [d for d in STAGES[stage]["deps"] if d.startswith(("src/", "pipeline/"))]
    expected = code_of(stage)
    assert listed == expected, "deps should be:\n" + "\n".join(f"      - {p}" for p in expected)


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_runs_the_stages_file(stage: str) -> None:
    assert STAGES[stage]["cmd"].split()[:3] == ["python", "-m", f"pipeline.{stage}"]


def test_every_parameter_reaches_a_stage_and_compute_none() -> None:
    """A parameter that no stage depends on would be changed without effect."""
    used = {
        param.replace("${key}", "*").replace("${item}", "*")
        for name, stage in STAGES.items()
        if name != "report"  # it shows all of them, which proves nothing
        for param in stage.get("params", [])
    } | {str(stage["foreach"]).strip("${}") for stage in WRITTEN.values() if "foreach" in stage}
    params = config.load(ROOT / "params.yaml").model_dump()
    assert not [name for name in used if name.startswith("compute")]
    params.pop("compute")

    def leaves(tree: dict[str, Any], path: str = "") -> list[str]:
        found: list[str] = []
        for key, value in tree.items():
            found += leaves(value, f"{path}{key}.") if isinstance(value, dict) else [f"{path}{key}"]
        return found

    def reached(leaf: str) -> bool:
        parts = leaf.split(".")
        prefixes = {".".join(parts[:i]) for i in range(1, len(parts) + 1)}
        stars = {".".join([*parts[: i - 1], "*"]) for i in range(2, len(parts) + 1)}
        return bool(used & (prefixes | stars))

    assert [leaf for leaf in leaves(params) if not reached(leaf)] == []


def test_repeat_runs_anew_for_what_it_takes_of_the_battery_alone() -> None:
    """A further model or attack in the battery is no reason to train every seed again."""
    beginning = "evaluate.battery."
    listed = [one for one in STAGES["repeat"]["params"] if one.startswith(beginning)]
    assert {one.removeprefix(beginning) for one in listed} == PGD_OF_BATTERY


def test_stages_stay_thin() -> None:
    for path in (ROOT / "pipeline").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 45, f"{path.name} holds logic"

"""Where a run comes from: git revision, DVC experiment, data-set versions."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from octrobust import files
from octrobust.checkout import git, params_at, stages_made
from octrobust.errors import UserError
from octrobust.experiments.grid import Point, leaves
from octrobust.tracking.records import Dataset

# What decides how a run behaves. Parameters, dvc.lock and metrics change in every experiment, so
# counting them would call every run dirty.
_CODE = ("src", "pipeline", "dvc.yaml", "pyproject.toml", "requirements.lock")
MOST_CHANGES = 4  # in an experiment's name
_VALUE = re.compile(r"\$\{\s*([\w.]+)\s*\}")


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping; empty where there is none, or none that can be read."""
    try:
        values = files.read_yaml(path)
    except UserError:
        return {}
    return values if isinstance(values, dict) else {}


def experiment(project: Path) -> tuple[str, str]:
    """The key that all stages of one experiment share, and a name a person can read.

    The same parameters and code are the same experiment, unless DVC names it.
    """
    params = read_yaml(project / "params.yaml")
    name = os.environ.get("DVC_EXP_NAME", "")
    revision = os.environ.get("DVC_EXP_BASELINE_REV") or git(project, "rev-parse", "HEAD")
    edits = git(project, "diff", "HEAD", "--", *_CODE)
    key = files.digest(params, name, revision, edits)
    return key, _name(name, params, _changed(project, revision, params)) or key


def tags(project: Path, stage: str) -> dict[str, str]:
    """Revision, DVC experiment, user and source, under MLflow's own names where it has one."""
    found = {
        "mlflow.user": _user(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": f"dvc.yaml:{stage}",
        "octrobust.dvc_experiment": os.environ.get("DVC_EXP_NAME"),
        "octrobust.dvc_baseline": os.environ.get("DVC_EXP_BASELINE_REV"),
    }
    revision = git(project, "rev-parse", "HEAD")
    if revision:
        dirty = bool(git(project, "status", "--porcelain", "--", *_CODE))
        found["mlflow.source.git.commit"] = revision
        found["octrobust.git_dirty"] = str(dirty).lower()
    return {key: value for key, value in found.items() if value}


def revision(project: Path) -> dict[str, str]:
    """What code ran, in words for a page: git revision, and whether the code was edited since."""
    found = tags(project, "report")
    commit = found.get("mlflow.source.git.commit")
    if commit is None:
        return {}
    edited = found["octrobust.git_dirty"] == "true"
    return {"Git revision": commit + (" with uncommitted edits" if edited else "")}


def about(project: Path, stage: str) -> str:
    """What the stage does, as dvc.yaml has it; empty where that does not say."""
    entry, filled = _defined(project, stage)
    return filled(str(entry.get("desc", "")))


def datasets(project: Path, stage: str, *, everything: bool = False) -> list[Dataset]:
    """The data-set versions `stage` reads, or every one in dvc.lock.

    While a stage runs, its own entry in dvc.lock is the last run's. So what it reads comes from
    dvc.yaml, and the versions from the entries of the stages that made it.
    """
    made = {
        out["path"]: out["md5"]
        for name, out in _lock_entries(project, "outs")
        if name != stage and out["path"].startswith("data/")
    }
    wanted = made if everything else _reads(project, stage)
    source = read_yaml(project / "params.yaml").get("data", {}).get("source", "data")
    versions: dict[str, str] = {}
    for path in wanted:
        owner = next((p for p in (path, *map(str, Path(path).parents)) if p in made), None)
        if owner:
            versions[owner] = made[owner].removesuffix(".dir")
    return [
        Dataset(name=f"{source} {path.removeprefix('data/')}", digest=digest, path=path)
        for path, digest in versions.items()
    ]


def _lock_entries(project: Path, part: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for name, entry in stages_made(project).items():
        for item in entry.get(part, []):
            if "path" in item and "md5" in item:
                yield name, item


def _reads(project: Path, stage: str) -> list[str]:
    """The dependencies of `stage` under data/ as dvc.yaml gives them."""
    entry, filled = _defined(project, stage)
    deps = [filled(str(dep)) for dep in entry.get("deps", [])]
    return list(dict.fromkeys(dep for dep in deps if dep.startswith("data/")))


def _defined(project: Path, stage: str) -> tuple[dict[str, Any], Callable[[str], str]]:
    """The entry of `stage` in dvc.yaml, and what puts values in the place of its `${...}`."""
    name, _, item = stage.partition("@")
    entry = read_yaml(project / "dvc.yaml").get("stages", {}).get(name, {})
    params = read_yaml(project / "params.yaml")
    each = _at(params, f"{str(entry.get('foreach', '')).strip('${} ')}.{item}")

    def value(found: re.Match[str]) -> str:
        first, _, rest = found[1].partition(".")
        if first not in ("item", "key"):
            return str(_at(params, found[1]))
        return str(_at(each, rest)) if rest else item

    return entry.get("do", entry), lambda text: _VALUE.sub(value, text)


def _at(values: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _changed(project: Path, revision: str, params: Mapping[str, Any]) -> list[str]:
    """What params.yaml has otherwise than `revision` had it, as a person would type it; nothing
    where that is more than a name can hold, as with another preset."""
    was, now = dict(leaves(params_at(project, revision))), dict(leaves(params))
    names = [name for name in now if name not in was or was[name] != now[name]]
    if not was or len(names) > MOST_CHANGES:
        return []
    return [Point({name: now[name]}).name(None) for name in names]


def _name(given: str, params: Mapping[str, Any], changed: Sequence[str]) -> str:
    """An experiment's: DVC's name for it, then what was changed, before that is cut off; what it
    has of the attack where nothing was; and the images."""
    data, attack = params.get("data", {}), params.get("attack", {})
    numbers = [
        f"{short}={attack[key]}"
        for key, short in (("beta", "beta"), ("learning_rate", "lr"))
        if key in attack
    ]
    images = f"{data.get('source', '')} {data.get('image_size', '?')}px" if data else ""
    # A sweep's experiments are called by what was changed.
    told = " ".join(one for one in changed if one not in given) if changed else " ".join(numbers)
    return " · ".join(part for part in (given, told, images) if part)


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a user id without a name
        return None

"""Whether results are of the parameters beside them: dvc.lock says what they were made with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from octrobust.experiments.command import git
from octrobust.experiments.grid import leaves

Lock = Mapping[str, Mapping[str, Any]]  # stages by name


class _Loader(yaml.CSafeLoader):
    """As DVC writes it, YAML 1.2: 1e-05 is a number, NO a string. ruamel's own takes a second."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in found
        if tag.rpartition(":")[2] not in ("bool", "int", "float", "timestamp")
    ]
    for first, found in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(true|false)$"), [*"tf"])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?\d+$"), [*"-+0123456789"])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?$"),
    [*"-+.0123456789"],
)


def read_lock(project: Path, rev: str | None) -> Lock | None:
    """The stages of dvc.lock at a revision (None: as it lies there), or None where none is."""
    if rev is not None:
        return _at(project, rev)
    path = project / "dvc.lock"
    return _parsed(path.read_text(encoding="utf-8")) if path.exists() else None


@lru_cache(maxsize=256)
def _at(project: Path, rev: str) -> Lock:
    return _parsed(git(project, "show", f"{rev}:./dvc.lock"))


def _parsed(text: str) -> Lock:
    """Nothing of a file that DVC is just writing, or of a revision that has none."""
    try:
        stages = (yaml.load(text, _Loader) or {}).get("stages")  # noqa: S506 - it is a safe one
    except yaml.YAMLError:
        return {}
    return {name: stage for name, stage in (stages or {}).items() if isinstance(stage, dict)}


def made_with(lock: Lock, params: Mapping[str, Any], path: str) -> bool:
    """Whether the stage that made `path`, and those whose results it names one by one, ran with
    `params`, each on what the one before it left.

    What a stage takes as a folder of several stages' results (`report`: models, metrics) is not
    followed: its own parameters are then all that is compared.

    Args:
        params: by dotted name.
    """
    made = {
        out["path"]: (name, out.get("md5"))
        for name, stage in lock.items()
        for out in stage.get("outs", ())
    }
    if path not in made:
        return False
    todo, seen = [made[path][0]], set[str]()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if not _with_parameters(lock[name], params):
            return False
        for dep in lock[name].get("deps", ()):
            if dep["path"] not in made:
                continue
            maker, digest = made[dep["path"]]
            if digest != dep.get("md5"):
                return False
            todo.append(maker)
    return True


def _with_parameters(stage: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    recorded = stage.get("params", {}).get("params.yaml", {})
    now = {
        name: value
        for name, value in params.items()
        if any(name == key or name.startswith(f"{key}.") for key in recorded)
    }
    return now == dict(leaves(recorded))

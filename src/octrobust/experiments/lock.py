"""Whether results are of the parameters beside them: dvc.lock says what they were made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octrobust.checkout import Lock
from octrobust.experiments.grid import leaves


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

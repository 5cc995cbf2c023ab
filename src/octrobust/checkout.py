"""What git and DVC have written down of a checkout."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from hashlib import md5
from pathlib import Path
from typing import Any

import yaml

Lock = Mapping[str, Mapping[str, Any]]  # stages by name
PATIENCE = 20.0  # seconds that git may take


def git(project: Path, *arguments: str) -> str:
    """What `git ARGUMENTS` prints, run in `project`; nothing where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(project), *arguments],
            capture_output=True,
            check=False,
            text=True,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


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
    return _parsed(path.read_text(encoding="utf-8", errors="replace")) if path.exists() else None


def stages_made(project: Path) -> Lock:
    """Those of dvc.lock as it lies there; none where there is none."""
    return read_lock(project, None) or {}


def md5_of(path: Path) -> str:
    """A file's checksum as dvc.lock has it."""
    return md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def params_at(project: Path, rev: str) -> dict[str, Any]:
    """params.yaml at a revision; empty where it has none."""
    return _mapping(git(project, "show", f"{rev}:./params.yaml"))


@lru_cache(maxsize=256)
def _at(project: Path, rev: str) -> Lock:
    return _parsed(git(project, "show", f"{rev}:./dvc.lock"))


def _parsed(text: str) -> Lock:
    """Nothing of a file that DVC is just writing, or of a revision that has none."""
    stages = _mapping(text).get("stages")
    if not isinstance(stages, dict):
        return {}
    return {name: stage for name, stage in stages.items() if isinstance(stage, dict)}


def _mapping(text: str) -> dict[str, Any]:
    try:
        content = yaml.load(text, _Loader)  # noqa: S506 - it is a safe one
    except yaml.YAMLError:
        return {}
    return content if isinstance(content, dict) else {}

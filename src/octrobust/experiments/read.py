"""The experiments of a project as DVC has them: parameters, headline and distortion of each."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from octrobust.checkout import git, read_lock
from octrobust.config import HARDENED
from octrobust.errors import UserError
from octrobust.experiments.command import NoAnswerError, dvc
from octrobust.experiments.grid import leaves
from octrobust.experiments.lock import made_with

# Metrics files, and what their names begin with here.
FILES = {"metrics/summary.json": "", "metrics/attack/test.json": "attack@test."}
ROBUST = "validation_robust_accuracy"  # of the best defence, that by which it is the best
WORKSPACE = "workspace"
FOLDERS = ".dvc/tmp/exps/"  # where experiments of the queue work
EMPTY = "Empty git repo"  # what DVC says of such a folder that is only begun
QUEUES = ("refs/exps/celery/stash", "refs/exps/celery/failed")  # what has not ended, or badly
LOOKS = 5
PATIENCE = 60.0  # seconds for a look; what it found is kept by DVC, so that the next is quicker
Kind = Literal["workspace", "commit", "experiment"]


@dataclass(frozen=True)
class Experiment:
    """One state of the project.

    Attributes:
        rev: revision, and of a queued one its place in the queue.
        state: success, queued, running or failed.
        params: by dotted name.
        metrics: of `FILES` by dotted name, and `ROBUST`; none unless it ended well, and none of a
            file that other parameters made: where one stage alone was run (`dvc exp run
            attack@test`), what comes after it is that of where the experiment began.
        best: the model that `ROBUST` is of.
        task: what identifies it in the queue, whatever becomes of it.
        log: what it prints, where it ran in the queue.
    """

    name: str
    rev: str
    kind: Kind
    state: str
    params: dict[str, Any]
    metrics: dict[str, float]
    best: str | None
    task: str | None
    log: Path | None


def read_experiments(project: Path, *, all_commits: bool = False) -> list[Experiment]:
    """The workspace, the last commit, and the experiments that began there.

    Args:
        all_commits: other commits that experiments began at, too.

    Raises:
        UserError: DVC cannot say.
    """
    told = _shown(project, _revisions(project) if all_commits else [])
    try:
        found = list(_experiments(project, json.loads(told), all_commits))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"dvc exp show --json gave something unknown ({type(error).__name__}: {error}): is DVC "
            "of the versions that pyproject.toml asks for?"
        ) from None
    return found


def _revisions(project: Path) -> list[str]:
    """Options for the last commit, and for the others that experiments began at: over all commits
    of a long history DVC takes minutes."""
    refs = git(project, "for-each-ref", "--format=%(refname)", "refs/exps/")
    begun = {"".join(parts) for parts in re.findall(r"^refs/exps/(\w\w)/(\w{38})/", refs, re.M)}
    for stash in QUEUES:
        entries = git(project, "log", "--walk-reflogs", "--format=%gs", stash)
        begun |= set(re.findall(r"dvc-exp:\w+:(\w{40}):", entries))
    head = git(project, "rev-parse", "HEAD")
    return [word for rev in (head, *sorted(begun - {head})) for word in ("--rev", rev)]


def _shown(project: Path, options: list[str], looks: int = LOOKS) -> str:
    """What DVC shows. It looks into the folders of experiments at work: if one ends meanwhile, it
    fails, or waits for ever for the rest of a file, and is asked again."""
    try:
        return dvc(project, "exp", "show", "--json", *options, seconds=PATIENCE)
    except UserError as error:
        meanwhile = FOLDERS in str(error) or EMPTY in str(error) or isinstance(error, NoAnswerError)
        if not meanwhile or looks == 1:
            raise
    time.sleep(1)
    return _shown(project, options, looks - 1)


def _experiments(
    project: Path, told: list[dict[str, Any]], all_commits: bool
) -> Iterator[Experiment]:
    heads = 0
    for baseline in told:
        here: Kind = "workspace" if baseline["rev"] == WORKSPACE else "commit"
        queued = baseline.get("experiments") or []
        heads += here == "commit"
        if here == "workspace" or heads == 1 or (all_commits and queued):
            yield _one(project, baseline, here, baseline.get("name"), None)
        for each in queued:
            yield _one(
                project, each["revs"][0], "experiment", each.get("name"), each.get("executor")
            )


def _one(
    project: Path,
    told: dict[str, Any],
    kind: Kind,
    name: str | None,
    executor: dict[str, Any] | None,
) -> Experiment:
    data = told.get("data") or {}
    state = (executor or {}).get("state") or ("failed" if told.get("error") else "success")
    local = (executor or {}).get("local") or {}
    params = dict(leaves(_content(data, "params").get("params.yaml") or {}))
    metrics: dict[str, float] = {}
    if state == "success":  # others show those of where they began
        lock = read_lock(project, None if kind == "workspace" else told["rev"])
        for path, prefix in FILES.items():
            if lock is not None and not made_with(lock, params, path):
                continue
            content = _content(data, "metrics").get(path) or {}
            metrics |= {
                f"{prefix}{key}": value
                for key, value in leaves(content)
                if isinstance(value, int | float)
            }
    best = _best(params, metrics)
    if best:
        metrics[ROBUST] = metrics[f"{ROBUST}_{best}"]
    return Experiment(
        name=WORKSPACE if kind == "workspace" else name or told["rev"][:7],
        rev=told["rev"],
        kind=kind,
        state=state,
        params=params,
        metrics=metrics,
        best=best,
        task=local.get("task_id"),
        log=Path(local["log"]) if local.get("log") else None,
    )


def _content(data: dict[str, Any], what: str) -> dict[str, Any]:
    """Contents by path; a file that could not be read has an error in its place."""
    return {path: one.get("data") for path, one in (data.get(what) or {}).items()}


def _best(params: dict[str, Any], metrics: dict[str, float]) -> str | None:
    """The defence of highest accuracy on attacked validation images; controls do not count."""
    scores = {
        name.removeprefix(f"{ROBUST}_"): value
        for name, value in metrics.items()
        if name.startswith(f"{ROBUST}_{HARDENED}_")
    }

    def way(name: str) -> Any:
        return params.get(f"harden.variants.{name.removeprefix(f'{HARDENED}_')}.method")

    defences = [name for name in scores if way(name) != "duplicates"]
    return max(defences, key=lambda name: scores[name], default=None)

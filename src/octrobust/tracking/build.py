"""Make run records: of a stage that has just finished, or of results that lie in the project."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octrobust import files
from octrobust.checkout import md5_of, stages_made
from octrobust.tracking import provenance, records
from octrobust.tracking.columns import ATTACK, of_attack, shortened
from octrobust.tracking.records import Candidate, Kind, Record

Entry = tuple[Record, dict[Path, Path]]
# Of a stage's outputs, and of what lies in their folders, what it attaches itself (`pipeline/`).
ATTACHED = (
    *("records.csv", "manifest.json", "model.json", "reports/quarantine.csv"),
    *("reports/battery/*.csv", "plots/robustness/*.csv", "plots/*.csv", "plots/confusion"),
    *("reports/index.html", "reports/figures", "reports/cards"),
)


@dataclass(frozen=True)
class Finished:
    """A finished stage; see `octrobust.tracking.record` for the fields."""

    stage: str
    params: Mapping[str, Any]
    metrics: Path | None
    curves: Sequence[Path]
    artifacts: Sequence[Path]
    started: float
    finished: float
    kind: Kind


def record_of(project: Path, done: Finished) -> Entry:
    """The record, and the files to attach by their place in the project."""
    key, name = provenance.experiment(project)
    identity = uuid.uuid4().hex
    attached = [*([done.metrics] if done.metrics else []), *done.curves, *done.artifacts]
    large = [path for path in attached if records.too_large(path)]
    data = provenance.datasets(project, done.stage, everything=done.kind == "summary")
    tags = provenance.tags(project, done.stage)
    if done.kind == "stage":  # a summary's is its report's
        tags["mlflow.note.content"] = provenance.about(project, done.stage)
    tags |= {f"octrobust.data.{each.path.removeprefix('data/')}": each.digest for each in data}
    if large:
        tags["octrobust.left_out"] = ", ".join(map(str, large))
    metrics = records.metrics_of(files.read_json(done.metrics)) if done.metrics else {}
    best = _best(project) if done.kind == "summary" else None
    headline = {}
    if done.stage == ATTACK:
        headline = of_attack(metrics)
    elif done.kind == "summary":
        metrics |= _attacked(project) | shortened(metrics, best.name if best else None)
    record = Record(
        id=identity,
        stage=done.stage,
        kind=done.kind,
        experiment=key,
        experiment_name=name,
        content=records.content(done.metrics, project) if done.metrics else identity,
        started=done.started,
        finished=done.finished,
        params=records.params_of(done.params),
        metrics=metrics,
        headline=headline,
        curves=records.curves_of(done.curves),
        tags=tags,
        datasets=data,
        best=best,
    )
    kept = {path: records.relative(path, project) for path in attached if path not in large}
    return record, kept


def _attacked(project: Path) -> dict[str, float]:
    """An attack that was not run again has no record in this experiment."""
    path = project / "metrics" / "attack" / "test.json"
    return of_attack(records.metrics_of(files.read_json(path))) if path.is_file() else {}


def _best(project: Path) -> Candidate | None:
    """The report's choice, if the model is still what it was."""
    choice = project / "reports" / "cards" / "best.json"
    if not choice.is_file():
        return None
    best = Candidate.model_validate(files.read_json(choice))
    stored = project / "models" / best.name / "model.json"
    if not stored.is_file() or files.read_json(stored)["weights_sha256"] != best.weights_sha256:
        return None
    return best


def missing(
    project: Path, experiments_of: Callable[[Collection[str]], Mapping[str, str]]
) -> list[Entry]:
    """Records of the project's results that no run of the store holds.

    Args:
        experiments_of: experiment keys by content, of those contents that the store holds.
    """
    results = dict(_results(project))
    # Asked after dvc.lock: a stage puts its record here before DVC writes that.
    for record in records.pending(files.project_home(project))[0]:
        results.pop(record.content, None)
    held = experiments_of(results)
    # What is missing beside a summary that is there belongs to that summary's experiment.
    known = [held[each] for each in held if results[each].kind == "summary"]
    entries = []
    for content, done in results.items():
        if content not in held:
            record, attach = record_of(project, done)
            changes = {
                # The same result gets the same name, whoever rebuilds it.
                "id": uuid.uuid5(uuid.NAMESPACE_URL, content).hex,
                "experiment": known[0] if known else record.experiment,
                # Its times are the file's own.
                "tags": record.tags | {"octrobust.rebuilt": "true"},
            }
            entries.append((record.model_copy(update=changes), attach))
    return entries


def _results(project: Path) -> Iterator[tuple[str, Finished]]:
    """By content: what dvc.lock says was made, where the metrics are still as they were made."""
    for stage, entry in stages_made(project).items():
        outs = {project / out["path"]: out.get("md5") for out in entry.get("outs", [])}
        for path, made in outs.items():
            if path.suffix != ".json" or (project / "metrics") not in path.parents:
                continue
            # A stage that is running has written its metrics, but its entry is the last run's.
            if not path.is_file() or md5_of(path) != made:
                continue
            summary = path == project / "metrics" / "summary.json"
            params = entry.get("params", {}).get("params.yaml", {})
            written = path.stat().st_mtime
            yield (
                records.content(path, project),
                Finished(
                    stage=stage,
                    params=provenance.read_yaml(project / "params.yaml") if summary else params,
                    metrics=path,
                    curves=[p for p in outs if p.match("plots/training/*.csv") and p.is_file()],
                    artifacts=list(_attached(outs)),
                    started=written,
                    finished=written,
                    kind="summary" if summary else "stage",
                ),
            )


def _attached(outs: Iterable[Path]) -> Iterator[Path]:
    for out in outs:
        inside = sorted(out.iterdir()) if out.is_dir() else []
        for path in (out, *inside):
            if path.exists() and any(path.match(pattern) for pattern in ATTACHED):
                yield path

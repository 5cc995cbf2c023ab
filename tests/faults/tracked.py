"""A project with much to remember, and what a tracking store has to say about it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from octrobust import tracking
from octrobust.tracking import attempt, build, provenance, records
from octrobust.tracking.build import Finished

WEIGHTS = "5" * 64


def make_project(root: Path, beta: float) -> Path:
    """A folder as a stage finds it: parameters, versions of data, a best model."""
    root.mkdir(parents=True)
    params = {"data": {"source": "phantom", "image_size": 80}, "attack": {"beta": beta}}
    outs = [{"path": "data/arrays", "md5": f"{number}.dir"} for number in range(1)]
    outs += [{"path": "data/adversarial/test", "md5": "abc.dir"}]
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": {"prepare": {"outs": outs}}}))
    steps = {"train": {"foreach": list("abcdefgh"), "do": {"deps": ["data/arrays"]}}}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": steps}))
    model = root / "models" / "hardened_online"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"weights" * 1000)
    (model / "model.json").write_text(json.dumps({"weights_sha256": WEIGHTS}))
    cards = root / "reports" / "cards"
    cards.mkdir(parents=True)
    best = {
        "name": "hardened_online",
        "weights_sha256": WEIGHTS,
        "image_size": 80,
        "classes": ["NORMAL", "CNV"],
        "robust_accuracy": 0.5,
        "measured": f"beta {beta:.6f}",  # as long for each
    }
    (cards / "best.json").write_text(json.dumps(best))
    (cards / "hardened_online.md").write_text("# a card\n")
    return root


def finished(stage: str, seconds: float = 60.0) -> Finished:
    """What a stage of the project in the current folder leaves: more than fits in one batch."""
    summary = stage == "report"
    metrics = Path("metrics/summary.json" if summary else f"metrics/{stage.replace('@', '/')}.json")
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text(json.dumps({f"number_{i}": i / 7 for i in range(120)}))
    curve = Path("plots") / f"{stage}.csv"
    curve.parent.mkdir(exist_ok=True)
    rows = "".join(f"{epoch},{1 / epoch}\n" for epoch in range(1, 41))
    curve.write_text(f"epoch,loss\n{rows}")
    params = {f"key_{i}": i for i in range(130)}
    now = time.time()
    artifacts = [Path("reports/cards")] if summary else []
    kind: records.Kind = "summary" if summary else "stage"
    return Finished(stage, params, metrics, [curve], artifacts, now - seconds, now, kind)


def put(stage: str) -> None:
    """Into the spool, without an attempt."""
    records.write(Path.cwd(), *build.record_of(Path.cwd(), finished(stage)))


def run_stage(stage: str, seconds: float = 60.0) -> float:
    """End a stage that says it took so long; the seconds that recording it took."""
    done = finished(stage, seconds)
    began = time.monotonic()
    tracking.record(
        stage,
        params=done.params,
        metrics=done.metrics,
        curves=done.curves,
        artifacts=done.artifacts,
        started=done.started,
        finished=done.finished,
        kind=done.kind,
    )
    return time.monotonic() - began


def try_every_time(monkeypatch: Any) -> None:
    """As a tracker could hold a pipeline up if it never paused between attempts."""
    monkeypatch.setattr(attempt, "_EVERY", 0.0)
    monkeypatch.setattr(attempt, "_EVERY_AFTER_FAILURE", 0.0)
    monkeypatch.setattr(attempt, "_SHARE", 1e9)


def story(uri: str, project: Path | None = None) -> list[dict[str, Any]]:
    """Everything in the store but identities and times, run by run; of one project, or of all."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("octrobust")
    if experiment is None:
        return []
    key = provenance.experiment(project)[0] if project else None
    query = f"tags.`octrobust.experiment` = '{key}'" if key else ""
    runs = client.search_runs([experiment.experiment_id], query, max_results=5000)
    versions = client.search_model_versions("name = 'octrobust'")
    return sorted(
        (
            _tell(client, run, [one for one in versions if one.run_id == run.info.run_id])
            for run in runs
        ),
        key=lambda told: str(told["stage"]),
    )


_OF_THIS_RUN = ("octrobust.record", "octrobust.experiment", "mlflow.parentRunId", "mlflow.runName")


def _tell(client: Any, run: Any, versions: Sequence[Any]) -> dict[str, Any]:
    tags = run.data.tags
    curve = client.get_metric_history(run.info.run_id, "curves/loss")
    return {
        "stage": tags.get("octrobust.stage", ""),
        "child": "mlflow.parentRunId" in tags,
        "status": run.info.status,
        "params": dict(run.data.params),
        "metrics": dict(run.data.metrics),
        "points": [(point.step, point.value) for point in curve],
        "tags": {k: v for k, v in tags.items() if k not in _OF_THIS_RUN},
        "data": sorted(each.dataset.digest for each in run.inputs.dataset_inputs),
        "artifacts": sorted(_files(client, run.info.run_id)),
        "versions": [one.tags["octrobust.weights"] for one in versions],
        "best": [
            alias
            for one in versions  # a search leaves the aliases out
            for alias in client.get_model_version(one.name, one.version).aliases
        ],
    }


def _files(client: Any, run_id: str, folder: str = "") -> list[tuple[str, int]]:
    found = []
    for each in client.list_artifacts(run_id, folder):
        if each.is_dir:
            found += _files(client, run_id, each.path)
        elif not each.path.endswith("MLmodel"):  # has a time in it
            found.append((each.path, each.file_size))
    return found

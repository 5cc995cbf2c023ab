"""The tracking store: with `registry`, the only module that imports MLflow."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from octrobust.tracking import registry
from octrobust.tracking.address import UnavailableError, probe, readable
from octrobust.tracking.columns import HEADLINE
from octrobust.tracking.records import Dataset, Record, same_value

if TYPE_CHECKING:
    from mlflow.entities import Param, Run

EXPERIMENT = "octrobust"
VIEW = "mlflow.sharedViewState.headline"
# At the top of an experiment's own run, until its summary is there.
_UNFINISHED = (
    "Under way, or ended before its report: the attack's numbers come with the stage attack@test, "
    "all others with the last one."
)
# The experiment's description in MLflow's page, where a bare table shows no metric at all.
_ABOUT = (
    "**[Compare the experiments](#/experiments/{id}/runs?workflowType=machine_learning"
    "&viewStateShareKey=headline)**: a run is one experiment, the + at its left shows its stages."
)
_PER_BATCH = 100  # of each kind; MLflow takes no more parameters or tags at once
# Seconds to wait for a first answer and for any other: where a stage waits, where a person does.
_HURRIED, _PATIENT = (3, 10), (30, 120)


class RefusedError(Exception):
    """The store works but does not take this record; the message is one line."""


class Store:
    """An MLflow tracking store with the experiment `octrobust` in it.

    Nothing here is fluent: no active run, so a stray MLFLOW_RUN_ID has no say.
    """

    def __init__(self, uri: str, home: Path, *, patient: bool = False) -> None:
        """Open the store, and make database and experiment where there are none.

        Call it under the project's lock: processes that create one database together fail.

        Args:
            patient: wait long for a slow store.

        Raises:
            UnavailableError: if the store does not answer or is not usable.
        """
        self._first, self._timeout = _PATIENT if patient else _HURRIED
        probe(uri, self._first)
        _quiet()
        self._uri = uri
        with self._calls():
            from mlflow.tracking import MlflowClient

            self._client = MlflowClient(uri)
            self._experiment = self._open(uri, home)

    def log(self, record: Record, attachments: Path, model: Path) -> bool:
        """Log a record, its files, and the model that it registers.

        Returns False if a run already holds it. A half-logged one is completed.

        Raises:
            RefusedError: if the store does not take this record.
            UnavailableError: if the store fails.
        """
        with self._calls():
            parent = self._parent(record)
            return self._log_run(record, parent, attachments, model)

    def answers(self) -> bool:
        """Whether it is there at all; after a record has failed."""
        try:
            probe(self._uri, self._first)
        except UnavailableError:
            return False
        return True

    def experiments_of(self, contents: Collection[str]) -> dict[str, str]:
        """Experiment keys by content, of those contents that a finished run holds.

        Runs deleted in MLflow count: who deleted them does not want them back.
        """
        with self._calls():
            runs = [
                run
                for content in contents
                for run in self._runs("octrobust.content", content, deleted=True)
                if run.info.status == "FINISHED"
            ]
        tags = [run.data.tags for run in runs]
        return {tag["octrobust.content"]: tag["octrobust.experiment"] for tag in tags}

    @contextmanager
    def _calls(self) -> Iterator[None]:
        """Around whatever asks the store: one try a request, one line an error."""
        with _one_line(self._uri), _settings(self._timeout):
            yield

    def _open(self, uri: str, home: Path) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            local = not uri.startswith(("http:", "https:"))  # a server places artifacts itself
            place = (home / "mlruns" / EXPERIMENT).as_uri() if local else None
            try:
                return self._describe(self._client.create_experiment(EXPERIMENT, place), {})
            except MlflowException:  # another project was quicker, on a shared server
                found = self._client.get_experiment_by_name(EXPERIMENT)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return self._describe(str(found.experiment_id), found.tags)

    def _describe(self, experiment: str, told: Mapping[str, str]) -> str:
        """Tell MLflow's page what is in the experiment, and which columns to compare by, unless
        another project, or this one, has: the view is ours, the rest may have been edited since."""
        view = {"orderByKey": "attributes.start_time", "orderByAsc": False, "searchFilter": ""}
        about = {
            "mlflow.experimentKind": "custom_model_development",
            VIEW: json.dumps({**view, "selectedColumns": HEADLINE}),
            "mlflow.note.content": _ABOUT.format(id=experiment),
        }
        for key, value in about.items():
            if key not in told or (key == VIEW and told[key] != value):
                self._client.set_experiment_tag(experiment, key, value)
        return experiment

    def _runs(self, tag: str, value: str, *, deleted: bool = False) -> Sequence[Run]:
        from mlflow.entities import ViewType

        view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
        query = f"tags.`{tag}` = '{value}'"
        return list(self._client.search_runs([self._experiment], query, view))

    def _parent(self, record: Record) -> Run:
        """The experiment's own run, made by whichever of its records comes first."""
        for run in self._runs("octrobust.experiment", record.experiment):
            if "mlflow.parentRunId" not in run.data.tags:
                return run
        tags = {
            **record.tags,
            "octrobust.kind": "experiment",
            "octrobust.experiment": record.experiment,
            "mlflow.source.name": "dvc.yaml",
            "mlflow.note.content": _UNFINISHED,
        }
        started = _milliseconds(record.started)
        return self._client.create_run(self._experiment, started, tags, record.experiment_name)

    def _log_run(self, record: Record, parent: Run, attachments: Path, model: Path) -> bool:
        summary = record.kind == "summary"
        runs = self._runs("octrobust.record", record.id)
        # One that was put in the place of a record while that was logged is another content.
        if any(
            run.info.status == "FINISHED" and run.data.tags["octrobust.content"] == record.content
            for run in runs
        ):
            return False
        tags = {
            **record.tags,
            "octrobust.kind": record.kind,
            "octrobust.stage": record.stage,
            "octrobust.experiment": record.experiment,
            "octrobust.content": record.content,
        }
        # This tag says "all of it is logged", once its run has ended.
        mark = {"octrobust.record": record.id}
        if summary:
            tags["mlflow.source.name"] = "dvc.yaml"
            tags |= _description(attachments)
            run_id = parent.info.run_id
        elif runs:
            run_id = runs[0].info.run_id
        else:
            tags |= mark | {"mlflow.parentRunId": parent.info.run_id}
            started = _milliseconds(record.started)
            run = self._client.create_run(self._experiment, started, tags, record.stage)
            run_id = run.info.run_id
        if record.headline:
            self._headline(parent, record)
        self._fill(run_id, record, tags, attachments, parent if summary else None)
        if record.best:
            card = attachments / "reports" / "cards" / f"{record.best.name}.md"
            registry.register(self._client, parent, record.best, model, card.read_text("utf-8"))
        self._client.set_terminated(run_id, "FINISHED", _milliseconds(record.finished))
        if summary:
            self._client.set_tag(run_id, "octrobust.record", record.id)
        return True

    def _headline(self, parent: Run, record: Record) -> None:
        """What an experiment that never gets to its report is to be found and compared by."""
        from mlflow.entities import Metric

        when = _milliseconds(record.finished)
        points = [Metric(key, value, when, 0) for key, value in record.headline.items()]
        self._client.log_batch(parent.info.run_id, points, _unknown(record, parent))
        self._client.log_inputs(parent.info.run_id, [_dataset(each) for each in record.datasets])

    def _fill(
        self,
        run_id: str,
        record: Record,
        tags: dict[str, str],
        attachments: Path,
        filled: Run | None,
    ) -> None:
        """Parameters, numbers, data sets and files; doing it again changes nothing.

        Args:
            filled: the run as it was, where a stage has told it something.
        """
        from mlflow.entities import Metric, RunTag

        when = _milliseconds(record.finished)
        params = _unknown(record, filled)
        labels = [RunTag(key, value) for key, value in tags.items()]
        points = [Metric(key, value, when, 0) for key, value in record.metrics.items()]
        points += [Metric(key, value, when, step) for key, step, value in record.curves]
        longest = max(len(params), len(labels), len(points))
        for start in range(0, longest, _PER_BATCH):
            part = slice(start, start + _PER_BATCH)
            self._client.log_batch(run_id, points[part], params[part], labels[part])
        self._client.log_inputs(run_id, [_dataset(each) for each in record.datasets])
        if attachments.is_dir():
            self._client.log_artifacts(run_id, str(attachments))


def _unknown(record: Record, run: Run | None) -> list[Param]:
    """The record's parameters that `run` has not: MLflow takes none a second time as another text,
    and refuses the record if it is another value."""
    from mlflow.entities import Param

    known = run.data.params if run else {}
    return [
        Param(key, value)
        for key, value in record.params.items()
        if key not in known or not same_value(known[key], value)
    ]


def _description(attachments: Path) -> dict[str, str]:
    """What MLflow's page shows at the top of a run: the experiment in a few lines."""
    told = attachments / "reports" / "cards" / "experiment.md"
    return {"mlflow.note.content": told.read_text("utf-8")} if told.is_file() else {}


def _dataset(dataset: Dataset) -> Any:
    from mlflow.entities import Dataset as MlflowDataset
    from mlflow.entities import DatasetInput

    source = json.dumps({"uri": dataset.path})
    return DatasetInput(MlflowDataset(dataset.name, dataset.digest, "local", source))


def _quiet() -> None:
    """Telemetry and chatter off; what the user has set stays."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
    }.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)


@contextmanager
def _settings(timeout: int) -> Iterator[None]:
    """Settings while MLflow is called: timeouts, in seconds, unless the user has set them.

    A request is never sent twice: one whose answer was lost may have made a run. The spool is the
    retry, and looks for that run first.
    """
    settings = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "PGCONNECT_TIMEOUT"):
        settings |= {} if name in os.environ else {name: str(timeout)}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _one_line(uri: str) -> Iterator[None]:
    """Turn whatever the store raises into one line.

    What is behind it differs with the address (requests, SQLAlchemy, an object store's client),
    so nothing narrower would do.
    """
    try:
        yield
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        secret = urlsplit(uri).netloc.rpartition("@")[0]
        text = lines[0].replace(f"{secret}@", "") if secret else lines[0]
        if getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":
            raise RefusedError(text) from error
        raise UnavailableError(f"tracking store {readable(uri)} failed ({text})") from error


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)

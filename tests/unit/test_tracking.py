"""Tracking against a real MLflow store: what is logged, once, by whom, and when it is down."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from filelock import FileLock

from octrobust import checkout, tracking
from octrobust.tracking import attempt, build, provenance, records, registry
from octrobust.tracking.address import readable, tracking_uri
from octrobust.tracking.columns import shortened
from octrobust.tracking.store import Store

PARAMS = {
    "data": {"source": "phantom", "image_size": 80},
    "attack": {"beta": 0.001, "learning_rate": 0.05, "target": None},
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database; making one takes seconds, copying none."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that start with MLflow imported, so that eight of them do not take a minute."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store"])
    return context


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a tracking database, as the current folder."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "DVC_")):
            monkeypatch.delenv(name)
    project = tmp_path / "a project"
    project.mkdir()
    (project / "dvc.yaml").write_text("stages: {}\n")
    (project / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def project(fresh: Path, template: Path) -> Path:
    """A project whose tracking database exists and is empty."""
    shutil.copy(template, fresh / "mlflow.db")
    return fresh


def record(stage: str, seconds: float = 1.0, kind: records.Kind = "stage", **metrics: Any) -> None:
    """Record a stage with these metrics; one under ten seconds stays in the spool."""
    name = "summary" if kind == "summary" else stage.replace("@", "/")
    path = Path("metrics") / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metrics or {"accuracy": 0.5}))
    now = time.time()
    params = PARAMS if kind == "summary" else {"attack": PARAMS["attack"]}
    tracking.record(
        stage, params=params, metrics=path, started=now - seconds, finished=now, kind=kind
    )


def stored(stage: str, metrics: Path) -> None:
    """As DVC leaves its lock after a stage."""
    out = {"path": str(metrics), "md5": checkout.md5_of(metrics)}
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {stage: {"outs": [out]}}}))


def add_summary(
    metrics: dict[str, Any], params: dict[str, Any] = PARAMS, artifacts: Sequence[Path] = ()
) -> None:
    """Put a summary into the spool, and leave it there."""
    path = Path("summary.json")
    path.write_text(json.dumps(metrics))
    now = time.time()
    done = build.Finished("report", params, path, [], artifacts, now - 5, now, "summary")
    records.write(Path.cwd(), *build.record_of(Path.cwd(), done))


def runs(home: Path) -> list[Any]:
    """All active runs of the project's own store, oldest first."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("octrobust")
    if experiment is None:
        return []
    return list(client.search_runs([experiment.experiment_id], order_by=["start_time ASC"]))


def stages(home: Path) -> list[Any]:
    return [run for run in runs(home) if "mlflow.parentRunId" in run.data.tags]


def parents(home: Path) -> list[Any]:
    return [run for run in runs(home) if "mlflow.parentRunId" not in run.data.tags]


def waiting(home: Path) -> int:
    return len(records.pending(home)[0])


def in_process(project: Path, stage: str | None) -> None:
    """What each of several processes does: record, if a stage is given, and flush."""
    os.chdir(project)
    if stage:
        record(stage)
    summary = tracking.flush()
    assert summary.error is None, summary.error


def together(context: ForkServerContext, project: Path, names: list[str | None]) -> list[Any]:
    """Exit codes of one process a name, all at once."""
    started = [context.Process(target=in_process, args=(project, name)) for name in names]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
    return [process.exitcode for process in started]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_eight_processes_share_a_fresh_store(fresh: Path, processes: ForkServerContext) -> None:
    names: list[str | None] = [f"train@config_{i}" for i in range(8)]
    assert together(processes, fresh, names) == [0] * 8
    assert sorted(run.data.tags["octrobust.stage"] for run in stages(fresh)) == names
    assert len(parents(fresh)) == 1
    assert waiting(fresh) == 0


def test_an_unreachable_server_costs_one_line_and_nothing_is_lost(
    project: Path,
    closed_port: int,
    processes: ForkServerContext,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    began = time.monotonic()
    record("train@config_1", seconds=60)
    record("evaluate", seconds=60)
    record("report", kind="summary", accuracy_config_1=0.9)
    assert time.monotonic() - began < 10
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "unreachable" in said[0]
    assert "octrobust track" in said[0]
    assert (waiting(project), runs(project)) == (3, [])

    stored("train@config_1", Path("metrics/train/config_1.json"))
    record("train@config_1", seconds=60, accuracy=0.6)
    assert capsys.readouterr().err == "", "a stage tries again right after a failure"
    record("report", kind="summary", accuracy_config_1=0.9)
    assert len(capsys.readouterr().err.splitlines()) == 1, "the next run of the pipeline is silent"

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert together(processes, project, [None, None]) == [0, 0]
    assert tracking.flush() == tracking.Summary((), 0, None)
    names = sorted(run.data.tags["octrobust.stage"] for run in stages(project))
    assert names == ["evaluate", "train@config_1", "train@config_1"]
    assert len(parents(project)) == 1


def test_a_server_that_never_answers_does_not_hold_up_a_stage(
    project: Path,
    silent_port: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{silent_port}")
    began = time.monotonic()
    record("train@config_1", seconds=60)
    assert time.monotonic() - began < 8
    said = capsys.readouterr().err
    assert "unreachable" in said
    assert "timed out" in said
    assert "secret" not in said
    assert waiting(project) == 1


def test_a_request_is_never_sent_twice(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer may have been lost after it made a run, whatever the user says of retries."""
    asked = []

    class Overloaded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/health":
                asked.append(self.path)
            self.send_response(200 if self.path == "/health" else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    with ThreadingHTTPServer(("127.0.0.1", 0), Overloaded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        record("split")
        assert "503" in str(tracking.flush().error)
        server.shutdown()
    assert len(asked) == 1
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_a_slow_tracker_takes_a_twentieth_of_the_time(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day of stages of a minute, and every attempt takes as long as it may."""
    clock = 1e9
    held = []

    def slow(home: Path, wait: float, longest: float) -> str:
        nonlocal clock
        clock += longest
        held.append(longest)
        return "slow"

    monkeypatch.setattr(attempt, "_flush_in_child", slow)
    monkeypatch.setattr(attempt.time, "time", lambda: clock)
    for _ in range(24 * 60):
        clock += 60
        attempt.flush_if_due(project, seconds=60, final=False)
    assert max(held) == attempt._LONGEST
    assert len(held) > 10
    assert sum(held) < (clock - 1e9) / 20 + attempt._LONGEST


def test_a_record_that_another_process_has_just_logged_is_not_called_damaged(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record("split")
    read = Path.read_bytes

    def too_late(path: Path) -> bytes:
        shutil.rmtree(path.parent)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", too_late)
    assert records.pending(project) == ([], [])


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_half_logged_run_is_completed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    Path("curve.csv").write_text("epoch,loss\n1,0.5\n2,0.25\n")
    Path("m.json").write_text('{"accuracy": 0.5}')
    tracking.record(
        "train@config_1",
        params={"epochs": 2},
        metrics=Path("m.json"),
        curves=[Path("curve.csv")],
        started=100.0,
        finished=101.0,
    )
    with monkeypatch.context() as killed:
        killed.setattr(MlflowClient, "log_artifacts", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tracking.flush()
    (half,) = stages(project)
    assert half.info.status == "RUNNING"

    assert tracking.flush().logged == ("train@config_1",)
    (run,) = stages(project)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"accuracy": 0.5, "curves/loss": 0.25}
    points = MlflowClient(tracking_uri(project)).get_metric_history(run.info.run_id, "curves/loss")
    assert [(point.step, point.value) for point in points] == [(1, 0.5), (2, 0.25)]


def test_a_logged_record_left_behind_by_a_killed_process_is_not_logged_again(project: Path) -> None:
    record("split")
    shutil.copytree(records.spool(project), project / "kept")
    tracking.flush()
    shutil.copytree(project / "kept", records.spool(project), dirs_exist_ok=True)
    assert tracking.flush() == tracking.Summary((), 0, None)
    assert len(stages(project)) == 1


def test_a_temporary_experiment_lands_in_the_projects_own_store(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = project / ".dvc" / "tmp" / "exps" / "tmpabc"
    copy.mkdir(parents=True)
    shutil.copy("dvc.yaml", copy)
    (copy / "params.yaml").write_text(yaml.safe_dump({"data": {}, "attack": {"beta": 0.01}}))
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_EXP_NAME", "puffy-daks")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")  # relative: the project's
    record("attack@test")
    assert tracking.flush().error is None
    shutil.rmtree(copy)
    (run,), (parent,) = stages(project), parents(project)
    assert run.data.tags["octrobust.dvc_experiment"] == "puffy-daks"
    assert parent.info.run_name == "puffy-daks · beta=0.01"
    kept = project / "mlruns" / "octrobust" / run.info.run_id / "artifacts/metrics/attack/test.json"
    assert json.loads(kept.read_text()) == {"accuracy": 0.5}


def test_the_summary_fills_the_parent_and_the_stages_point_at_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)  # silently reused by MLflow's fluent API
    each = {"cmd": "true", "desc": "Trained: ${key}, ${data.image_size} px"}
    steps = {
        "split": {"cmd": "true", "desc": "Images dealt out"},
        "train": {"foreach": "${train.variants}", "do": each},
    }
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": steps}))
    Path("reports").mkdir()
    Path("reports/index.html").write_text("<h1>Report</h1>")
    record("split")
    assert waiting(project) == 1, "a short stage pays for MLflow"
    record("train@config_1", seconds=60, accuracy=0.9)
    assert waiting(project) == 0, "a long one does not log what waits"
    (parent,) = parents(project)
    assert parent.data.tags["octrobust.kind"] == "experiment"
    assert parent.info.status == "RUNNING"
    assert parent.data.tags["mlflow.note.content"].startswith("Under way")
    assert {run.data.tags["mlflow.note.content"] for run in stages(project)} == {
        "Images dealt out",
        "Trained: config_1, 80 px",
    }

    add_summary({"accuracy_config_1": 0.9, "n": {"CNV": 4}}, artifacts=[Path("reports")])
    assert tracking.flush().logged == ("report",)
    (parent,) = parents(project)
    assert parent.info.status == "FINISHED"
    assert parent.info.end_time - parent.info.start_time >= 60_000
    assert parent.data.tags["octrobust.kind"] == "summary"
    assert parent.data.metrics == {"accuracy_config_1": 0.9, "1 clean": 0.9, "n.CNV": 4.0}
    assert parent.data.params == {
        "data.source": "phantom",
        "data.image_size": "80",
        "attack.beta": "0.001",
        "attack.learning_rate": "0.05",
        "attack.target": "null",
    }
    artifacts = project / "mlruns" / "octrobust" / parent.info.run_id / "artifacts"
    assert (artifacts / "reports" / "index.html").read_text() == "<h1>Report</h1>"
    assert {run.data.tags["mlflow.parentRunId"] for run in stages(project)} == {parent.info.run_id}
    assert [run.data.tags["octrobust.kind"] for run in stages(project)] == ["stage", "stage"]


def test_a_second_summary_of_an_experiment_updates_its_parent(project: Path) -> None:
    add_summary({"accuracy_attacked": 0.5})
    tracking.flush()
    add_summary({"accuracy_attacked": 0.1})
    tracking.flush()
    (parent,) = parents(project)
    assert parent.data.metrics == {"accuracy_attacked": 0.1, "2 attacked": 0.1}


def test_other_parameters_are_another_experiment(project: Path) -> None:
    record("attack@test", accuracy=0.1)
    changed = {**PARAMS, "attack": {"beta": 0.1, "learning_rate": 0.05}}
    Path("params.yaml").write_text(yaml.safe_dump(changed))
    record("attack@test", accuracy=0.2)
    tracking.flush()
    assert sorted(run.info.run_name for run in parents(project)) == [
        "beta=0.001 lr=0.05 · phantom 80px",
        "beta=0.1 lr=0.05 · phantom 80px",
    ]


def test_a_record_the_store_refuses_is_named_and_holds_up_no_other(project: Path) -> None:
    add_summary({"accuracy_attacked": 0.5})
    tracking.flush()
    add_summary({"accuracy_attacked": 0.5}, {"attack": {"beta": 7}})  # parameters cannot change
    record("split")
    summary = tracking.flush()
    assert (summary.logged, summary.pending) == (("split",), 1)
    assert summary.error is not None
    assert "attack.beta" in summary.error
    assert str(records.spool(project)) in summary.error


def test_a_database_that_cannot_be_opened_fails_at_once(fresh: Path) -> None:
    (fresh / "mlflow.db").write_bytes(b"not a database" * 100)
    record("split")
    began = time.monotonic()
    summary = tracking.flush()
    assert time.monotonic() - began < 5  # MLflow alone would retry for minutes
    assert summary.pending == 1
    assert summary.error is not None
    assert "not a database" in summary.error


def make_results(project: Path) -> None:
    """Metrics, curves and a report as `dvc pull` brings them, with the dvc.lock that made them."""
    texts = {
        "metrics/split.json": '{"train": 600}',
        "metrics/train/config_1.json": '{"validation_accuracy": 0.9}',
        "metrics/summary.json": '{"accuracy_config_1": 0.9}',
        "plots/training/config_1.csv": "epoch,train_loss,note\n1,0.7,a\n2,0.3,\n",
        "reports/index.html": "<h1>Report</h1>",
    }
    outs = {}
    for path, text in texts.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
        outs[path] = {"path": path, "md5": md5(text.encode()).hexdigest()}
    data = {"path": "data/splits", "md5": "0123456789abcdef0123456789abcdef.dir"}
    curve = outs["plots/training/config_1.csv"]
    lock = {
        "split": {"outs": [data, outs["metrics/split.json"]]},
        "train@config_1": {
            "params": {"params.yaml": {"train.epochs": 2}},
            "outs": [outs["metrics/train/config_1.json"], curve],
        },
        "report": {"outs": [outs["metrics/summary.json"], outs["reports/index.html"]]},
    }
    (project / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}))
    steps = {"train": {"foreach": ["config_1"], "do": {"cmd": "true", "deps": ["data/splits"]}}}
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": steps}))


def test_track_logs_what_is_missing_once(project: Path) -> None:
    make_results(project)
    assert set(tracking.track(project).logged) == {"split", "train@config_1", "report"}
    assert tracking.track(project) == tracking.Summary((), 0, None)
    (parent,) = parents(project)
    assert parent.data.metrics == {"accuracy_config_1": 0.9, "1 clean": 0.9}
    assert parent.data.params["attack.beta"] == "0.001"
    (train,) = [run for run in stages(project) if run.info.run_name == "train@config_1"]
    assert train.data.metrics == {"validation_accuracy": 0.9, "curves/train_loss": 0.3}
    assert train.data.params == {"train.epochs": "2"}
    (data,) = train.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == (
        "phantom splits",
        "0123456789abcdef0123456789abcdef",
    )

    # A stage in progress: new metrics, while dvc.lock still speaks of the last run.
    (project / "metrics" / "split.json").write_text('{"train": 700}')
    assert tracking.track(project).logged == ()
    # What the stages themselves have logged is not missing either.
    record("split", **{"train": 600})
    tracking.flush()
    (project / "metrics" / "split.json").write_text('{"train": 600}')
    assert tracking.track(project).logged == ()


def test_a_data_version_is_that_of_the_stage_which_made_it(fresh: Path) -> None:
    out = {"path": "data/arrays", "md5": "new.dir"}
    own = {"path": "data/adversarial/test", "md5": "of the last run"}
    lock = {
        "prepare": {"outs": [out]},
        "attack@test": {"deps": [{"path": "data/arrays", "md5": "old.dir"}], "outs": [own]},
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": lock}))
    deps = ["data/arrays/${item}.npy", "models/config_1", "data/adversarial/${item}"]
    steps = {"attack": {"foreach": ["train", "test"], "do": {"cmd": "true", "deps": deps}}}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": steps}))
    assert [(each.path, each.digest) for each in provenance.datasets(fresh, "attack@test")] == [
        ("data/arrays", "new")
    ]


def test_a_data_set_that_a_parameter_names_is_found(fresh: Path) -> None:
    outs = [{"path": "data/adversarial/train", "md5": "set.dir"}]
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {"attack@train": {"outs": outs}}}))
    do = {"cmd": "true", "deps": ["${item.learns_from}", "models/config_1"]}
    steps = {"harden": {"foreach": "${harden.variants}", "do": do}}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": steps}))
    variants = {"static": {"learns_from": "data/adversarial/train"}}
    Path("params.yaml").write_text(yaml.safe_dump({"harden": {"variants": variants}}))
    assert [each.path for each in provenance.datasets(fresh, "harden@static")] == [
        "data/adversarial/train"
    ]
    assert provenance.datasets(fresh, "harden@other") == []


def test_only_changed_code_makes_a_revision_dirty(fresh: Path) -> None:
    def git(*command: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
        subprocess.run(["git", *identity, *command], check=True, capture_output=True)

    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    Path("params.yaml").write_text("{}")
    tags = provenance.tags(fresh, "split")
    assert len(tags["mlflow.source.git.commit"]) == 40
    assert tags["octrobust.git_dirty"] == "false"
    Path("src").mkdir()
    Path("src/new.py").write_text("")
    assert provenance.tags(fresh, "split")["octrobust.git_dirty"] == "true"


def test_an_experiment_is_named_by_what_it_changed(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
        subprocess.run(["git", *identity, *words], check=True, capture_output=True)
    assert provenance.experiment(fresh)[1] == "beta=0.001 lr=0.05 · phantom 80px"
    changed = {**PARAMS, "train": {"epochs": 6}}
    Path("params.yaml").write_text(yaml.safe_dump(changed))
    assert provenance.experiment(fresh)[1] == "epochs=6 · phantom 80px"
    monkeypatch.setenv("DVC_EXP_NAME", "still-view")
    assert provenance.experiment(fresh)[1] == "still-view · epochs=6 · phantom 80px"
    monkeypatch.setenv("DVC_EXP_NAME", "epochs=6")  # as a sweep names them
    assert provenance.experiment(fresh)[1] == "epochs=6 · phantom 80px"


def test_an_experiment_that_was_made_elsewhere_gets_its_columns(project: Path) -> None:
    """By `mlflow experiments create`, as docs/how-to/storage.md has it."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    made = client.create_experiment("octrobust", (project / "mlruns" / "octrobust").as_uri())
    client.set_experiment_tag(made, "mlflow.note.content", "ours")
    record("split")
    tracking.flush()
    tags = client.get_experiment(made).tags
    assert "2 attacked" in tags["mlflow.sharedViewState.headline"]
    assert tags["mlflow.note.content"] == "ours"


def test_a_stage_that_fails_records_nothing(fresh: Path) -> None:
    with pytest.raises(ZeroDivisionError), tracking.stage_run("split", params={}):
        _ = 1 / 0
    assert waiting(fresh) == 0
    Path("m.json").write_text('{"train": 3}')
    with tracking.stage_run("split", params={"split": {"seed": 1}}) as run:
        run.metrics = Path("m.json")
    (entry,), _ = records.pending(fresh)
    assert (entry.stage, entry.params) == ("split", {"split.seed": "1"})
    assert entry.metrics == {"train": 3}


def trained(scratch: Path, *, accuracy: float = 0.5) -> None:
    """A stage with scratch, from its beginning to its end."""
    with tracking.stage_run("train@config_1", params={}) as run:
        run.metrics = Path("metrics/train/config_1.json")
        run.metrics.parent.mkdir(parents=True, exist_ok=True)
        run.metrics.write_text(json.dumps({"accuracy": accuracy}))
        scratch.mkdir(parents=True, exist_ok=True)
        (scratch / "checkpoint.pt").touch()
        run.unfinished = scratch


def test_scratch_stays_until_dvc_has_the_result(fresh: Path) -> None:
    """DVC stores a result after its stage: killed meanwhile, it would find nothing of the work."""
    scratch = fresh / ".octrobust/scratch/train-config_1-0123"
    other = fresh / ".octrobust/scratch/harden-online-4567"  # under way
    other.mkdir(parents=True)
    trained(scratch)
    assert (scratch / "checkpoint.pt").exists()
    metrics = Path("metrics/train/config_1.json")
    last = {"path": str(metrics), "md5": "of the last run"}
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {"train@config_1": {"outs": [last]}}}))
    with tracking.stage_run("split", params={}):
        assert (scratch / "checkpoint.pt").exists(), "dvc.lock has another result"
    stored("train@config_1", metrics)
    with FileLock(scratch.with_suffix(".lock")), tracking.stage_run("split", params={}):
        assert (scratch / "checkpoint.pt").exists(), "a process is at it"
    with tracking.stage_run("split", params={}):
        assert not scratch.exists()
    assert other.exists()


def test_scratch_that_nobody_came_back_for_goes(fresh: Path) -> None:
    scratch = fresh / ".octrobust/scratch/train-config_1-0123"
    trained(scratch)
    long_ago = time.time() - 4 * 24 * 3600
    os.utime(scratch / "recorded.json", (long_ago, long_ago))
    with tracking.stage_run("split", params={}):
        assert not scratch.exists()


def test_a_stage_killed_after_its_record_is_one_run(project: Path) -> None:
    scratch = project / ".octrobust/scratch/train-config_1-0123"
    trained(scratch)
    assert tracking.flush().logged == ("train@config_1",)
    trained(scratch)  # DVC had not written its lock
    assert waiting(project) == 0
    assert len(stages(project)) == 1


def test_a_stage_without_scratch_killed_after_its_record_is_one_run(project: Path) -> None:
    record("split")
    tracking.flush()
    record("split")  # DVC had not written its lock
    assert waiting(project) == 0
    stored("split", Path("metrics/split.json"))
    with tracking.stage_run("prepare", params={}):
        pass
    record("split")  # asked for once more
    assert tracking.flush().logged.count("split") == 1
    assert [run.data.tags["octrobust.stage"] for run in stages(project)].count("split") == 2


def test_a_record_put_in_the_place_of_one_that_is_being_logged_is_kept(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stage that was killed, and run again while its first process was still logging."""
    record("split", accuracy=0.1)
    fill = Store._fill

    def again(*arguments: Any) -> None:
        monkeypatch.undo()
        monkeypatch.chdir(project)
        fill(*arguments)
        record("split", accuracy=0.2)

    monkeypatch.setattr(Store, "_fill", again)
    tracking.flush()
    assert waiting(project) == 0
    (run,) = stages(project)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"accuracy": 0.2})


def test_a_record_at_which_the_store_fails_holds_up_no_other(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a proxy that takes no file of some size; a store that is down is not asked on."""
    for stage in ("ingest", "split", "prepare"):
        record(stage)
    fill = Store._fill

    def failing(self: Store, run: str, entry: records.Record, *more: Any) -> None:
        if entry.stage == "split":
            raise RuntimeError("413 Request Entity Too Large")
        fill(self, run, entry, *more)

    monkeypatch.setattr(Store, "_fill", failing)
    done = tracking.flush()
    assert (done.logged, done.pending) == (("ingest", "prepare"), 1)
    assert done.error is not None
    assert "split" in done.error
    assert "413" in done.error
    monkeypatch.setattr(Store, "answers", lambda _: False)
    for stage in ("train@config_1", "validate"):
        record(stage)
    assert tracking.flush().logged == ()


def test_work_that_another_experiment_has_done_is_recorded_in_both(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = fresh / ".octrobust/scratch/train-config_1-0123"
    trained(scratch)
    monkeypatch.setenv("DVC_EXP_NAME", "another")
    trained(scratch)
    trained(scratch)
    assert waiting(fresh) == 2


def test_a_stage_killed_while_it_is_logged_is_one_run(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record("split", accuracy=0.1)
    with monkeypatch.context() as patched:
        patched.setattr("octrobust.tracking.store.Store._fill", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tracking.flush()
    assert [run.info.status for run in stages(project)] == ["RUNNING"]
    record("split", accuracy=0.2)
    assert waiting(project) == 1
    assert tracking.flush().logged == ("split",)
    (run,) = stages(project)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"accuracy": 0.2})


def test_what_waits_to_be_logged_is_not_made_up_again(project: Path) -> None:
    """A stage ends, and DVC writes its lock, while `octrobust track` is at work."""
    record("split")
    stored("split", Path("metrics/split.json"))
    assert build.missing(project, lambda _: {}) == []


def test_a_large_artifact_is_left_to_dvc_and_named(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "LARGEST_ARTIFACT", 10)
    Path("models").mkdir()
    Path("models/model.safetensors").write_bytes(b"0" * 11)
    with tracking.stage_run("train@config_1", params={}) as run:
        run.artifacts = [Path("models")]
    (entry,), _ = records.pending(fresh)
    assert entry.tags["octrobust.left_out"] == "models"
    assert not records.attachments(fresh, entry).exists()


def test_metrics_are_numbers_and_names_mlflow_takes() -> None:
    values = {"a": 1, "b": {"c": True, "d": None, "e": [1, 2]}, "f@g": 0.5, "h": "text"}
    assert records.metrics_of(values) == {"a": 1.0, "b.c": 1.0, "f_g": 0.5}


def test_an_address_is_shown_without_its_secret() -> None:
    assert readable("https://me:pass@host:5000/x") == "https://host:5000/x"
    assert readable("sqlite:////tmp/a@b/mlflow.db") == "sqlite:////tmp/a@b/mlflow.db"


def best(weights: str, accuracy: float, measured: str = "one way") -> records.Candidate:
    return records.Candidate(
        name="hardened_online",
        weights_sha256=weights * 64,
        image_size=75,
        classes=("NORMAL", "CNV"),
        robust_accuracy=accuracy,
        measured=measured,
    )


def register(client: Any, run: Any, model: records.Candidate, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_text(model.weights_sha256)
    registry.register(client, run, model, folder, "a card")


def test_the_alias_is_at_the_best_of_those_measured_alike(project: Path) -> None:
    from mlflow.tracking import MlflowClient

    record("report", kind="summary")
    tracking.flush()
    (run,) = parents(project)
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")

    def holder() -> str:
        found = client.get_model_version_by_alias("octrobust", "best")
        return str(found.tags["octrobust.weights"][0])

    folder = project / "model"
    register(client, run, best("a", 0.9), folder)
    register(client, run, best("b", 0.5), folder)
    assert holder() == "a"
    register(client, run, best("c", 0.1, "another way"), folder)
    assert holder() == "c"  # nothing else was measured so
    register(client, run, best("d", 0.2), folder)
    assert holder() == "a"
    # Every version keeps its own files, though one run holds them all.
    for version in client.search_model_versions("name = 'octrobust'"):
        source = Path(unquote(urlsplit(version.source).path))
        assert (source / "data/model/weights").read_text() == version.tags["octrobust.weights"]


def test_a_version_left_without_its_alias_by_a_killed_process_gets_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    record("report", kind="summary")
    tracking.flush()
    (run,) = parents(project)
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    with monkeypatch.context() as patched:
        patched.setattr(client, "set_registered_model_alias", interrupt)
        with pytest.raises(KeyboardInterrupt):
            register(client, run, best("a", 0.9), project / "model")
    register(client, run, best("a", 0.9), project / "model")
    assert str(client.get_model_version_by_alias("octrobust", "best").version) == "1"
    assert len(client.search_model_versions("name = 'octrobust'")) == 1


ATTACKED = {"images": 10, "attacked": 9, "succeeded": 7, "l1": {"median": 3}, "l2": {"median": 0.4}}


def test_an_experiment_of_the_attack_alone_can_be_compared(project: Path) -> None:
    """`octrobust sweep --attack-only` never gets to the report."""
    reads = {"attack": {"foreach": ["test"], "do": {"cmd": "true", "deps": ["data/arrays"]}}}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": reads}))
    made = {"prepare": {"outs": [{"path": "data/arrays", "md5": "abc.dir"}]}}
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": made}))
    record("attack@test", **ATTACKED)
    assert tracking.flush().error is None
    (parent,) = parents(project)
    assert [each.dataset.digest for each in parent.inputs.dataset_inputs] == ["abc"]
    assert parent.data.metrics == {"2 attacked": 0.2, "6 L2": 0.4, "7 L1": 3.0}
    assert parent.data.params["attack.beta"] == "0.001"
    assert "data.source" not in parent.data.params
    # The same number, written otherwise: MLflow takes a parameter once.
    attack = {**PARAMS["attack"], "beta": "1e-3"}
    add_summary({"accuracy_attacked": 0.2}, {**PARAMS, "attack": attack})
    assert tracking.flush().error is None
    (parent,) = parents(project)
    named = {"accuracy_attacked": 0.2}
    assert parent.data.metrics == named | {"2 attacked": 0.2, "6 L2": 0.4, "7 L1": 3.0}
    assert parent.data.params["attack.beta"] == "0.001"
    assert parent.data.params["data.source"] == "phantom"


def test_an_attack_that_was_not_run_again_is_in_the_summary(project: Path) -> None:
    Path("metrics/attack").mkdir(parents=True)
    Path("metrics/attack/test.json").write_text(json.dumps(ATTACKED))
    add_summary({"accuracy_attacked": 0.2})
    assert tracking.flush().error is None
    (parent,) = parents(project)
    assert parent.data.metrics["6 L2"] == 0.4


def test_the_best_defence_is_shown_within_the_middle_budget() -> None:
    within = {"0.25": 0.9, "1e-05": 0.95, "1": 0.5}
    metrics = {f"robust_accuracy_l2_{budget}_hardened_on": v for budget, v in within.items()}
    metrics |= {"robust_accuracy_l2_0.25_hardened_on_line": 0.1, "accuracy_attacked": 0.2}
    assert shortened(metrics, "hardened_on") == {"2 attacked": 0.2, "5 defended": 0.9}
    assert shortened(metrics, None) == {"2 attacked": 0.2}

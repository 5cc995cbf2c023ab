"""The whole pipeline as DVC runs it, in a temporary checkout; tests run in this order."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from octrobust.errors import UserError
from octrobust.files import read_json, sha256_file
from tests.pipeline.conftest import Checkout, stages_run

BEFORE_ATTACK = {
    *("ingest", "split", "validate", "prepare"),
    *("train@config_1", "train@config_2", "train@config_3"),
}
BATTERIES = {"battery@config_1", "battery@hardened_online"}
HARDENED_ONLINE = {"harden@online", "adaptive@hardened_online", "battery@hardened_online"}
# Online training makes its own adversarial images: beta does not reach it.
FROM_BETA = {
    *("attack@train", "attack@test", "harden@static", "harden@control"),
    *("adaptive@hardened_static", "adaptive@hardened_online", *BATTERIES, "evaluate", "report"),
}
FROM_ATTACK = FROM_BETA | HARDENED_ONLINE
HEADLINE = {
    *("accuracy_config_1", "accuracy_config_2", "accuracy_config_3", "accuracy_attacked"),
    *("accuracy_hardened", "accuracy_hardened_clean", "accuracy_hardened_adaptive"),
    *("train_seconds_config_1", "train_seconds_config_2", "train_seconds_config_3"),
}


def summaries(checkout: Checkout) -> list[Any]:
    return [run for run in checkout.runs() if run.data.tags.get("octrobust.kind") == "summary"]


def attached(checkout: Checkout) -> dict[str, set[str]]:
    """By stage, the files in its first run's artifacts, the registered model apart: MLflow adds to
    one that has been loaded."""
    from mlflow.artifacts import list_artifacts

    uri = f"sqlite:///{checkout.root / 'mlflow.db'}"

    def inside(run: str, folder: str | None = None) -> set[str]:
        found = list_artifacts(run_id=run, artifact_path=folder, tracking_uri=uri)
        found = [one for one in found if not one.path.startswith("model-")]
        parts = [inside(run, one.path) if one.is_dir else {one.path} for one in found]
        return set().union(*parts)

    runs = sorted(checkout.runs(), key=lambda run: -run.info.start_time)
    return {run.data.tags["octrobust.stage"]: inside(run.info.run_id) for run in runs}


def test_the_summary_has_the_contracts_names(finished: Checkout) -> None:
    summary = finished.json("metrics/summary.json")
    assert set(summary) >= HEADLINE
    evaluation = finished.json("metrics/evaluation.json")
    hardened = evaluation["models"]["hardened_static"]
    assert summary["accuracy_hardened"] == hardened["config_1"]["accuracy"]
    assert summary["accuracy_hardened_adaptive"] == hardened["hardened_static"]["accuracy"]
    assert summary["accuracy_attacked"] == evaluation["models"]["config_1"]["config_1"]["accuracy"]
    battery = finished.json("metrics/battery/hardened_online.json")["channels"]["grey"]
    worst = battery["worst_case"]["l2"]["1"]["accuracy"]
    assert summary["robust_accuracy_l2_1_hardened_online"] == worst
    assert worst <= battery["attacks"]["pgd_l2_1"]["accuracy"] <= battery["clean"]["accuracy"]


def test_the_battery_records_every_image_under_every_attack(finished: Checkout) -> None:
    with (finished.root / "reports/battery/config_1.csv").open() as source:
        rows = list(csv.DictReader(source))
    attacks = finished.json("metrics/battery/config_1.json")["channels"]["grey"]["attacks"]
    assert {row["attack"] for row in rows} == set(attacks)
    assert len(rows) == 4 * len(attacks)
    turned = [row for row in rows if row["success"] == "1" and row["attack"] == "pgd_l2_1"]
    assert all(0 < float(row["l2"]) <= 1.0001 for row in turned)


def test_the_attacked_models_static_accuracy_is_what_the_records_say(finished: Checkout) -> None:
    with (finished.root / "data/adversarial/test/records.csv").open() as source:
        rows = list(csv.DictReader(source))
    right = sum(row["prediction_after"] == row["target"] for row in rows)
    assert finished.json("metrics/summary.json")["accuracy_attacked"] == right / len(rows)
    assert len(rows) == 8


def test_frozen_children_survive_the_whole_stage(finished: Checkout) -> None:
    """Configurations 2 and 3 start from one network: what both freeze must still be the same."""
    from safetensors.torch import load_file

    from octrobust.config import Model
    from octrobust.model.build import build

    first, second, third = (
        load_file(finished.root / f"models/config_{k}/model.safetensors") for k in (1, 2, 3)
    )
    model = build(Model(weights="none", standardisation="none", dropout=0.6), "repeat_1")
    frozen = [key for key in second if key.split(".")[0] in model.frozen]
    assert len(frozen) > 100
    assert all(second[key].equal(third[key]) for key in frozen)
    assert any(not first[key].equal(second[key]) for key in frozen)
    assert finished.json("metrics/train/config_3.json")["frozen"] == 9_613_312


def test_a_hardened_model_says_where_it_started(finished: Checkout) -> None:
    static, online = (
        finished.json(f"models/hardened_{name}/model.json")["made_by"]
        for name in ("static", "online")
    )
    assert static["started_from"] == "config_1"
    assert len(static["started_from_sha256"]) == 64
    assert online["started_from"] is None  # fresh, by the parameters of these tests


def test_a_defence_may_start_from_a_file_of_weights(
    finished: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After steps of next to nothing it is still the file's network, but for its moved line; the
    numbers are those of the network as it is stored."""
    import numpy as np
    from safetensors.torch import load_file

    from octrobust import config
    from octrobust.data.arrays import open_split
    from octrobust.model.predict import predict
    from octrobust.model.store import load_model
    from octrobust.stages.harden import harden

    monkeypatch.chdir(finished.root)
    stored, third = Path("models/config_3/model.safetensors"), tmp_path / "third.safetensors"
    shutil.copy(stored, third)
    values = finished.yaml("params.yaml")
    changes = {"starts_from": str(third), "learning_rate": 1e-12, "average": None}
    changes |= {"threshold": "moved"}
    values["harden"]["variants"]["online"] |= changes
    out = tmp_path / "hardened"

    def run() -> Path:
        data, model = (Path("data/arrays"), Path("data/adversarial/train")), Path("models/config_1")
        numbers = (tmp_path / "history.csv", tmp_path / "metrics.json")
        return harden(config.parse(values, "params.yaml"), "online", *data, model, out, *numbers)

    shutil.rmtree(run())
    made, start = load_file(out / "model.safetensors"), load_file(third)
    convolutions = [key for key in start if key.endswith("conv.weight")]
    assert len(convolutions) > 100
    assert all(torch.allclose(made[key], start[key], atol=1e-8) for key in convolutions)
    card = read_json(out / "model.json")["made_by"]
    assert card["started_from"] is None
    assert card["variant"]["starts_from"] == "file"
    assert card["initial_weights_sha256"] == sha256_file(third)
    off = (made["logits.bias"] - start["logits.bias"]).tolist()
    assert off == pytest.approx(
        [card["threshold_moved"] / 2, -card["threshold_moved"] / 2], abs=1e-6
    )
    assert card["threshold_moved"] != 0
    images = open_split(Path("data/arrays"), "validation", 75)
    right = predict(load_model(out), torch.from_numpy(images.views(slice(None)))) == images.targets
    assert read_json(tmp_path / "metrics.json")["validation_accuracy"] == np.mean(right)
    assert "validation_robust_auc" in (tmp_path / "history.csv").read_text().splitlines()[0]
    values["harden"]["variants"]["online"]["starts_from"] = str(stored)
    with pytest.raises(UserError, match=r"starts_from: .* lies in models/"):
        run()


def test_a_second_repro_runs_nothing(finished: Checkout) -> None:
    assert not stages_run(finished.run("dvc", "repro").stdout)
    assert finished.run("git", "status", "--porcelain").stdout == ""


def test_every_stage_is_a_child_of_one_summary_run(finished: Checkout) -> None:
    runs = finished.runs()
    (parent,) = summaries(finished)
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    stages = {r.data.tags["octrobust.stage"] for r in children}
    assert stages == (BEFORE_ATTACK | FROM_ATTACK) - {"report"}
    assert len(runs) == 1 + len(children)
    assert {r.info.status for r in runs} == {"FINISHED"}
    assert set(parent.data.metrics) >= HEADLINE
    assert "Not for clinical use" in parent.data.tags["mlflow.note.content"]
    assert parent.data.params["attack.beta"] == "0.001"
    assert parent.data.params["train.variants.config_3.freeze_through"] == "repeat_2"
    (train,) = [r for r in children if r.data.tags["octrobust.stage"] == "train@config_1"]
    assert "validation_accuracy" in train.data.metrics


def test_the_best_defence_is_registered_and_answers_as_the_stored_model(
    finished: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import numpy as np
    import pandas as pd
    import torch
    from mlflow.tracking import MlflowClient

    from octrobust.data.arrays import view_of
    from octrobust.model.predict import probabilities
    from octrobust.model.store import load_model

    uri = f"sqlite:///{finished.root / 'mlflow.db'}"
    client = MlflowClient(uri)
    best = client.get_model_version_by_alias("octrobust", "best")
    chosen = finished.json("reports/cards/best.json")
    robust = finished.json("metrics/evaluation.json")["validation_robust"]["accuracy"]
    defences = ("hardened_static", "hardened_online")
    assert chosen["robust_accuracy"] == max(robust[name] for name in defences)
    assert best.tags["octrobust.model"] == chosen["name"] in defences
    assert "Not for clinical use" in best.description
    assert len(client.search_model_versions("name = 'octrobust'")) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    served = mlflow.pyfunc.load_model("models:/octrobust@best")
    scans = sorted((finished.root / "data/raw").glob("*/*.jpeg"))[::7][:3]
    found = served.predict(pd.DataFrame({"image": [path.read_bytes() for path in scans]}))
    stored = load_model(finished.root / "models" / chosen["name"])
    x = torch.from_numpy(np.stack([view_of(path, 75) for path in scans]))
    assert list(found.columns) == finished.yaml("params.yaml")["data"]["classes"]
    np.testing.assert_array_equal(found.to_numpy(), probabilities(stored, x))
    files = [path.name for path in (finished.root / "mlruns").rglob("artifacts/model-*/**/*")]
    assert "model.safetensors" in files
    assert not [name for name in files if name.endswith((".pkl", ".py"))]


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("evaluation/metrics.py", {"evaluate"}),
        ("attack/suite.py", BATTERIES | {"evaluate"}),
        ("training/adversarial.py", {"harden@static", "harden@control", "harden@online"}),
        ("data/split.py", {"split"}),
        ("stages/repeat.py", set()),  # no seeds, no replay: stages that are not there
        ("tracking/stage.py", set()),
    ],
)
def test_an_edit_changes_exactly_the_stages_that_use_it(
    finished: Checkout, module: str, expected: set[str]
) -> None:
    path = finished.root / "src/octrobust" / module
    text = path.read_text()
    path.write_text(text + "# edited\n")
    try:
        status = finished.run("dvc", "status", "--json").stdout
    finally:
        path.write_text(text)
    assert set(re.findall(r'"([a-z]+(?:@\w+)?)": \[', status)) == expected


def test_changing_beta_runs_the_attack_and_what_follows_alone(finished: Checkout) -> None:
    before = finished.yaml("dvc.lock")["stages"]
    done = finished.run("dvc", "exp", "run", "--name", "sparse", "-S", "attack.beta=0.01")
    after = finished.yaml("dvc.lock")["stages"]
    assert stages_run(done.stdout) == FROM_BETA
    assert {name for name in after if after[name] != before[name]} == FROM_BETA
    beta = {run.data.params["attack.beta"]: run for run in summaries(finished)}
    assert set(beta) == {"0.001", "0.01"}
    assert beta["0.01"].data.tags["octrobust.dvc_experiment"] == "sparse"
    finished.run("git", "checkout", "--quiet", ".")
    finished.run("dvc", "checkout", "--quiet")


def test_a_queued_experiment_lands_in_dvc_and_in_the_projects_own_store(finished: Checkout) -> None:
    change = "evaluate.corruption_severities=[3]"
    finished.run("dvc", "exp", "run", "--queue", "--name", "strong", "-S", change)
    finished.run("dvc", "queue", "start", "--jobs", "1")
    finished.run("dvc", "queue", "logs", "strong", "--follow")
    # Not `dvc exp show`, which may hang while the worker clears the experiment's folder away.
    assert '"strong"' in finished.run("octrobust", "compare", "--json").stdout
    severities = {run.data.params["evaluate.corruption_severities"] for run in summaries(finished)}
    assert {"[2]", "[3]"} <= severities
    assert not list((finished.root / ".dvc/tmp/exps").rglob("mlflow.db"))


def test_plots_show_curves_confusion_and_distortion(finished: Checkout, tmp_path: Path) -> None:
    finished.run("dvc", "plots", "show", "--out", str(tmp_path))
    page = (tmp_path / "index.html").read_text()
    for title in (
        "Training and validation accuracy",
        "hardened_static on test images",
        "L2 distance",
    ):
        assert title in page


def test_push_and_pull_bring_everything_back_in_a_fresh_clone(
    finished: Checkout, tmp_path: Path
) -> None:
    finished.run("dvc", "remote", "add", "--local", "--default", "disk", str(tmp_path / "remote"))
    finished.run("dvc", "push", "--quiet")
    finished.run("git", "clone", "--quiet", str(finished.root), str(tmp_path / "clone"))
    clone = Checkout(tmp_path / "clone")
    clone.run("dvc", "remote", "add", "--local", "--default", "disk", str(tmp_path / "remote"))
    clone.run("dvc", "pull", "--quiet")
    assert (clone.root / "models/hardened_static/model.safetensors").is_file()
    assert clone.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    first, second = (clone.run("octrobust", "track").stdout for _ in range(2))
    assert "logged 0" not in first
    assert "logged 0" in second
    assert len(summaries(clone)) == 1
    assert attached(clone) == attached(finished)


def test_a_patient_in_two_splits_stops_the_pipeline(finished: Checkout, tmp_path: Path) -> None:
    for name in ("data/raw", "data/splits"):
        shutil.copytree(finished.root / name, tmp_path / name)
    for name in ("src", "pipeline", "params.yaml", "dvc.yaml"):
        source = finished.root / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    splits = tmp_path / "data/splits"
    train = (splits / "train.csv").read_text().splitlines()
    test = (splits / "test.csv").read_text().splitlines()
    # The same patient, another of its images: only the patients overlap.
    fields = train[1].split(",")
    fields[0] = fields[0].replace(".jpeg", "9.jpeg")
    fields[4] = fields[4][::-1]
    planted = [*test[:-1], ",".join(fields)] if fields[1] == test[-1].split(",")[1] else None
    if planted is None:
        planted = [test[0], ",".join(fields), *test[2:]]
    (splits / "test.csv").write_text("\n".join(planted) + "\n")
    done = Checkout(tmp_path).run("python", "-m", "pipeline.validate", check=False)
    assert done.returncode == 2
    assert "no patient in two splits" in done.stderr
    assert (tmp_path / "reports/data_docs/index.html").is_file()


def test_a_bad_parameter_is_one_line_and_undone_by_checkout(finished: Checkout) -> None:
    done = finished.run("dvc", "exp", "run", "-S", "attack.decision_rule=L7", check=False)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if "attack.decision_rule" in line]
    assert lines[0].startswith("error: ")
    assert "Traceback" not in done.stderr
    finished.run("git", "checkout", "--quiet", ".")
    finished.run("dvc", "checkout", "--quiet")  # DVC removes outs before a stage runs
    assert finished.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."

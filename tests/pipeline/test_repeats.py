"""What runs from the prepared images alone, beside the pipeline's own models: further seeds, the
replay of the notebooks, and the leakage audit. A file of its own, for a process of its own."""

from __future__ import annotations

import pytest
import yaml

from tests.pipeline.conftest import (
    ROOT,
    TINY,
    Checkout,
    change_parameters,
    new_checkout,
    stages_run,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = new_checkout(tmp_path_factory.mktemp("prepared"), TINY)
    checkout.run("dvc", "repro", "prepare")
    return checkout


def test_seeds_and_the_replay_are_two_parameters_away(prepared: Checkout) -> None:
    replay = yaml.safe_load((ROOT / "presets/published.yaml").read_text())["replay"]["notebooks"]
    replay |= {"batch_size": 2, "train_images_per_class": 2}
    replay["attack"] |= {"binary_search_steps": 1, "max_iter": 2}
    changes = {"evaluate": {"seeds": [4]}, "replay": {"notebooks": replay}}
    change_parameters(prepared.root, changes)
    ran = stages_run(prepared.run("dvc", "repro", "repeat", "replay").stdout)
    assert ran == {"repeat@4", "replay@notebooks"}
    models = prepared.json("metrics/seeds/4.json")["models"]
    assert set(models) == {"config_1", "hardened_static", "hardened_control", "hardened_online"}
    assert all(0 <= value <= 1 for one in models.values() for value in one.values())
    found = prepared.json("metrics/replay/notebooks.json")
    assert found["test_images"] == 8


def test_the_leakage_audit_pairs_both_splits(prepared: Checkout) -> None:
    shown = prepared.run("octrobust", "audit", "leakage", "--repeats", "1").stdout
    found = prepared.json("metrics/audit/leakage.json")
    by_patient, by_image = (found["runs"][by][0] for by in ("patient", "image"))
    assert by_patient["patients_in_both"] == 0 < by_image["patients_in_both"]
    assert by_patient["test_images"] == by_image["test_images"] == 8
    inflation = by_image["accuracy"] - by_patient["accuracy"]
    assert found["inflation"]["accuracy"]["mean"] == pytest.approx(inflation)
    assert "inflation (image - patient)" in shown

"""docs/paper-audit.md says in words no more than its committed figures show."""

from __future__ import annotations

import pytest

from octrobust import config
from octrobust.files import read_json
from octrobust.report.protocols import notebooks, share_interval
from octrobust.report.results import REPLAYED
from octrobust.report.wording import NBSP
from scripts import blocks
from tests.conftest import ROOT

FOUND = read_json(REPLAYED)
LEAKAGE = read_json(blocks.RESULTS / "leakage.json")
SAMPLE = read_json(blocks.RESULTS / "leakage-sample.json")
TEXT = (ROOT / "docs/paper-audit.md").read_text(encoding="utf-8")
CHANCE = 0.5


def test_nothing_was_learnt() -> None:
    assert "Nothing collapses here, since nothing was learnt** that shows on test images." in TEXT
    low, high = share_interval(FOUND["fresh_clean_accuracy"], FOUND["test_images"], 0.95)
    assert low <= CHANCE <= high


def test_the_hardened_model_is_a_constant() -> None:
    assert "The hardened model is a constant." in TEXT
    assert FOUND["commonest_answer_share"] == 1.0
    names = ("hardened_clean_accuracy_after", "hardened_stepping", "hardened_fixed")
    assert {FOUND[name] for name in names} == {CHANCE}


def test_stepping_changes_the_number() -> None:
    assert "Stepping changes the number." in TEXT
    assert FOUND["attacked_images"] == 50
    assert abs(FOUND["attacked_stepping"] - FOUND["attacked_fixed"]) >= 0.1


def test_the_split_by_image_flatters_nothing() -> None:
    assert "No inflation is seen here." in TEXT
    for found in (LEAKAGE, SAMPLE):
        gained = found["inflation"]["accuracy"]
        assert gained["mean"] <= gained["deviation"]
        assert found["mean"]["patient"]["accuracy"] >= 0.95


def test_what_the_replay_assumes() -> None:
    """The page names these settings."""
    params = config.load(ROOT / "presets/published.yaml")
    settings = params.replay["notebooks"]
    assert params.split.by == "image"
    assert params.model.weights == "none"
    assert (params.data.source, params.data.image_size) == ("phantom", 80)
    assert (2 * params.split.train, 2 * params.split.validation) == (600, 100)
    assert (settings.learning_rate, settings.momentum, settings.batch_size) == (0.1, 0.9, 8)
    steps = 2 * params.split.train // settings.batch_size * settings.epochs_before_attack
    assert round(steps) == 38
    assert settings.train_images_per_class == 80
    assert params.train.augmentation.crop_scale_min == 0.5
    assert (params.train.optimizer, params.train.epochs) == ("adamw", 4)


@pytest.mark.parametrize("found", [FOUND, LEAKAGE, SAMPLE], ids=["replay", "leakage", "sample"])
def test_results_say_where_they_are_from(found: dict[str, dict[str, str]]) -> None:
    told = found["provenance"]
    assert set(told) == {"command", "preset", "revision", "date", "data", "machine"}
    assert all(told.values())


def test_every_row_has_its_interval() -> None:
    cells = notebooks(FOUND, 0.95)
    assert len(cells) == 4
    assert all(f"{NBSP}to{NBSP}" in cell for cell in cells.values())


def test_wilson_of_a_share() -> None:
    """18 of 50, by hand: (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n)."""
    z, n, p = 1.959964, 50, 0.36
    half = z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    ends = [(p + z**2 / (2 * n) + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]
    assert share_interval(p, n, 0.95) == pytest.approx(ends, abs=1e-6)

"""Metrics against statsmodels-free textbook values and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as oracle

from octrobust.evaluation.distortion import distortion, histogram
from octrobust.evaluation.metrics import classification


def test_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 200)
    positive = np.clip(targets * 0.3 + rng.uniform(0, 0.7, 200), 0, 1)
    predicted = positive > 0.5
    found = classification(targets, positive, 0.95)
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(targets, predicted))
    assert found["sensitivity"] == pytest.approx(oracle.recall_score(targets, predicted))
    assert found["specificity"] == pytest.approx(
        oracle.recall_score(targets, predicted, pos_label=0)
    )
    assert found["auc"] == pytest.approx(oracle.roc_auc_score(targets, positive))
    (tn, fp), (fn, tp) = found["confusion"]
    assert (tn + fp, fn + tp) == ((targets == 0).sum(), (targets == 1).sum())
    assert tn + tp == found["correct"]


def test_wilson_interval_as_published() -> None:
    """Newcombe, Stat Med 1998, table I: 81 of 263 gives 0.2553 to 0.3662."""
    targets = np.ones(263, dtype=np.int64)
    positive = np.array([0.9] * 81 + [0.1] * 182)
    found = classification(targets, positive, 0.95)
    assert found["accuracy_low"] == pytest.approx(0.2553, abs=5e-5)
    assert found["accuracy_high"] == pytest.approx(0.3662, abs=5e-5)


def test_one_class_has_no_auc() -> None:
    found = classification(np.zeros(4, dtype=np.int64), np.array([0.1, 0.2, 0.9, 0.3]), 0.95)
    assert found["auc"] is None
    assert found["sensitivity"] is None
    assert found["specificity"] == 0.75


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 targets"):
        classification(np.empty(0, np.int64), np.empty(0), 0.95)


def records(**changes: Any) -> dict[str, Any]:
    base = {
        "already_misclassified": np.array([False, True, False, False]),
        "success": np.array([True, False, True, False]),
        "success_8bit": np.array([True, False, False, False]),
    }
    for name in ("l0", "l1", "l2", "linf", "elastic_net"):
        base[name] = np.array([1.0, np.nan, 3.0, np.nan])
    return {**base, **changes}


def test_rates_are_over_images_that_were_right() -> None:
    found = distortion(records())
    assert (found["images"], found["already_misclassified"], found["attacked"]) == (4, 1, 3)
    assert found["succeeded"] == 2
    assert found["success_rate"] == pytest.approx(2 / 3)
    assert found["success_rate_8bit"] == pytest.approx(1 / 3)
    assert found["l2"] == {"mean": 2.0, "q1": 1.5, "median": 2.0, "q3": 2.5}


def test_no_success_has_no_distance() -> None:
    found = distortion(records(success=np.zeros(4, dtype=bool)))
    assert found["l2"] is None
    nobody = distortion(records(already_misclassified=np.ones(4, dtype=bool)))
    assert nobody["success_rate"] is None


def test_histogram_counts_every_value_once() -> None:
    sets = {"a": np.array([0.1, 0.2, 0.9, np.nan]), "b": np.array([5.0]), "c": np.empty(0)}
    rows = histogram(sets, bins=7)
    counts = {name: sum(r["images"] for r in rows if r["set"] == name) for name in sets}
    assert counts == {"a": 3, "b": 1, "c": 0}
    assert histogram({"a": np.empty(0)}) == []
    assert sum(r["images"] for r in histogram({"a": np.array([0.3, 0.3])})) == 2

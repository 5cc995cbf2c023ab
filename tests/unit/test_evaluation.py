"""Metrics against scikit-learn, scipy and textbook values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from octrobust.evaluation.distortion import distortion, histogram
from octrobust.evaluation.metrics import classification, reliability


def test_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 200)
    positive = np.clip(targets * 0.3 + rng.uniform(0, 0.7, 200), 0, 1)
    predicted = positive > 0.5
    found = classification(targets, positive, [""] * 200, 0.95)
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(targets, predicted))
    assert found["sensitivity"] == pytest.approx(oracle.recall_score(targets, predicted))
    assert found["specificity"] == pytest.approx(
        oracle.recall_score(targets, predicted, pos_label=0)
    )
    assert found["auc"] == pytest.approx(oracle.roc_auc_score(targets, positive))
    assert found["mcc"] == pytest.approx(oracle.matthews_corrcoef(targets, predicted))
    assert found["brier"] == pytest.approx(np.mean((positive - targets) ** 2))
    (tn, fp), (fn, tp) = found["confusion"]
    assert (tn + fp, fn + tp) == ((targets == 0).sum(), (targets == 1).sum())
    assert tn + tp == found["correct"]


def test_calibration_against_scikit_learn() -> None:
    """Its curve over the same bins, of how often the predicted class is right."""
    rng = np.random.default_rng(3)
    positive = rng.uniform(0, 1, 500)
    targets = (rng.uniform(0, 1, 500) < positive**2).astype(np.int64)
    confidence = np.maximum(positive, 1 - positive)
    right = (positive > 0.5) == targets
    observed, predicted = calibration_curve(right, confidence, n_bins=10, strategy="uniform")
    bins = reliability(targets, positive)
    np.testing.assert_allclose([b["accuracy"] for b in bins], observed)
    np.testing.assert_allclose([b["confidence"] for b in bins], predicted)
    assert sum(b["images"] for b in bins) == 500
    weights = [b["images"] / 500 for b in bins]
    found = classification(targets, positive, [""] * 500, 0.95)
    assert found["ece"] == pytest.approx(np.dot(weights, np.abs(observed - predicted)))
    sure = classification(np.array([1, 0]), np.array([1.0, 0.0]), ["", ""], 0.95)
    assert sure["ece"] == sure["brier"] == 0.0


def test_one_class_has_no_auc() -> None:
    found = classification(
        np.zeros(4, dtype=np.int64), np.array([0.1, 0.2, 0.9, 0.3]), [""] * 4, 0.95
    )
    assert found["auc"] is None
    assert found["sensitivity"] is None
    assert found["specificity"] == 0.75


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 targets"):
        classification(np.empty(0, np.int64), np.empty(0), [], 0.95)


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

"""Accuracy with its interval, sensitivity, specificity, AUC and confusion matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def classification(
    targets: NDArray[np.int64], positive: NDArray[np.floating[Any]], confidence_level: float
) -> dict[str, Any]:
    """How well probabilities of the positive class tell 1 from 0.

    Args:
        targets: (N,) 0 or 1.
        positive: (N,) probability of class 1; 1 is predicted above 0.5.
        confidence_level: of the accuracy's Wilson interval, which takes images as independent
            (too narrow where a patient brings several).

    Returns:
        n, correct, accuracy with accuracy_low and accuracy_high; sensitivity, specificity and
        auc (None where a class is absent); confusion as [[tn, fp], [fn, tp]].

    Raises:
        ValueError: no images, or arrays of different length.
    """
    from scipy.stats import binomtest
    from sklearn.metrics import confusion_matrix, roc_auc_score

    if len(targets) == 0 or len(targets) != len(positive):
        raise ValueError(f"{len(targets)} targets and {len(positive)} predictions")
    predicted = (positive > 0.5).astype(np.int64)
    confusion = confusion_matrix(targets, predicted, labels=[0, 1])
    (tn, fp), (fn, tp) = confusion.tolist()
    correct = tn + tp
    interval = binomtest(correct, len(targets)).proportion_ci(confidence_level, method="wilson")
    both = 0 < int(targets.sum()) < len(targets)
    return {
        "n": len(targets),
        "correct": correct,
        "accuracy": correct / len(targets),
        "accuracy_low": float(interval.low),
        "accuracy_high": float(interval.high),
        "sensitivity": tp / (tp + fn) if tp + fn else None,
        "specificity": tn / (tn + fp) if tn + fp else None,
        "auc": float(roc_auc_score(targets, positive)) if both else None,
        "confusion": confusion.tolist(),
    }

"""What a classifier is worth on one test set: accuracy with its interval, and clinical readings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octrobust.evaluation.intervals import accuracy_interval

BINS = 10  # of the reliability plot and the calibration error, of equal width


def classification(
    targets: NDArray[np.int64],
    positive: NDArray[np.floating[Any]],
    patients: Sequence[str],
    confidence_level: float,
) -> dict[str, Any]:
    """How well probabilities of the positive class tell 1 from 0.

    Args:
        targets: (N,) 0 or 1.
        positive: (N,) probability of class 1; 1 is predicted above 0.5.
        patients: N, for the accuracy's interval; see `accuracy_interval`.
        confidence_level: of that interval.

    Returns:
        n, correct, accuracy with accuracy_low and accuracy_high; sensitivity, specificity, auc and
        mcc (None where a class is absent); brier; ece, the expected calibration error over BINS
        equal bins of the predicted class's probability (Guo et al. 2017, eq. 3); confusion as
        [[tn, fp], [fn, tp]].

    Raises:
        ValueError: no images, or arrays of different length.
    """
    from sklearn.metrics import (
        brier_score_loss,
        confusion_matrix,
        matthews_corrcoef,
        roc_auc_score,
    )

    if len(targets) == 0 or len(targets) != len(positive):
        raise ValueError(f"{len(targets)} targets and {len(positive)} predictions")
    predicted = (positive > 0.5).astype(np.int64)
    confusion = confusion_matrix(targets, predicted, labels=[0, 1])
    (tn, fp), (fn, tp) = confusion.tolist()
    low, high = accuracy_interval(predicted == targets, patients, confidence_level)
    both = 0 < int(targets.sum()) < len(targets)
    bins = reliability(targets, positive)
    return {
        "n": len(targets),
        "correct": tn + tp,
        "accuracy": (tn + tp) / len(targets),
        "accuracy_low": low,
        "accuracy_high": high,
        "sensitivity": tp / (tp + fn) if tp + fn else None,
        "specificity": tn / (tn + fp) if tn + fp else None,
        "auc": float(roc_auc_score(targets, positive)) if both else None,
        "mcc": float(matthews_corrcoef(targets, predicted)) if both else None,
        "brier": float(brier_score_loss(targets, positive, labels=[0, 1])),
        "ece": sum(b["images"] * abs(b["accuracy"] - b["confidence"]) for b in bins) / len(targets),
        "confusion": confusion.tolist(),
    }


def reliability(
    targets: NDArray[np.int64], positive: NDArray[np.floating[Any]]
) -> list[dict[str, Any]]:
    """The predicted class's mean probability against how often it is right, a row a bin in use.

    Args:
        targets, positive: as in `classification`.

    Returns:
        from, to, confidence, accuracy (fractions) and images of each of BINS bins that has any.
    """
    predicted = (positive > 0.5).astype(np.int64)
    confidence = np.where(predicted == 1, positive, 1 - positive).astype(float)
    right = predicted == targets
    edges = np.linspace(0.0, 1.0, BINS + 1)
    where = np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, BINS - 1)
    return [
        {
            "from": float(edges[number]),
            "to": float(edges[number + 1]),
            "confidence": float(confidence[inside].mean()),
            "accuracy": float(right[inside].mean()),
            "images": int(inside.sum()),
        }
        for number in range(BINS)
        if (inside := where == number).any()
    ]

"""Temperature scaling (Guo et al. 2017): one number that makes probabilities mean what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 100.0  # temperature, and its inverse the smallest


def temperature(logits: NDArray[np.floating[Any]], targets: NDArray[np.int64]) -> float:
    """The temperature of least cross-entropy on images that the model did not learn from.

    Targets are Platt's (1999), which a class of n images has at (n + 1) / (n + K) and not at 1: a
    set of a few dozen images without one error would otherwise ask for certainty.

    Args:
        logits: (N, K), N >= 1.
        targets: (N,) in 0 .. K - 1.

    Returns:
        What `calibrated` divides by: above 1 the model was too sure of itself, below 1 not enough.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    scores = np.asarray(logits, dtype=np.float64)
    classes = scores.shape[1]
    counts = np.bincount(targets, minlength=classes)[targets][:, None]
    wanted = np.full(scores.shape, 1.0) + np.eye(classes)[targets] * counts
    wanted /= counts + classes

    def loss(log_temperature: float) -> float:
        return float(-(wanted * log_softmax(scores / np.exp(log_temperature), axis=1)).sum())

    bound = np.log(LARGEST)
    found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded")
    return float(np.exp(found.x))


def calibrated(logits: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.floating[Any]]:
    """Probabilities (N, K) of logits (N, K)."""
    from scipy.special import softmax

    scores: NDArray[np.floating[Any]] = np.asarray(logits, dtype=np.float64) / temperature
    return softmax(scores, axis=1)  # type: ignore[no-any-return]

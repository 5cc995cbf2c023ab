"""Intervals and tests that know that a patient brings several images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


def accuracy_interval(
    correct: NDArray[np.bool_], clusters: Sequence[str], confidence_level: float, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of an accuracy, resampling whole patients (scipy's percentile bootstrap).

    Where every image, or none, is right, resampling shows no spread: there the interval is
    Wilson's with the patients as the sample. So it is with a single patient.

    Args:
        correct: (N,) bool, N > 0.
        clusters: N patients; an image whose patient is unknown ("") stands for itself.
        confidence_level: in (0, 1).

    Raises:
        ValueError: no images, or arrays of different length.
    """
    from scipy.stats import binomtest, bootstrap

    if len(correct) == 0 or len(correct) != len(clusters):
        raise ValueError(f"{len(correct)} images and {len(clusters)} clusters")
    right, count = _by_cluster(correct, clusters)
    share = right.sum() / count.sum()
    if share in (0.0, 1.0) or len(count) == 1:
        successes = round(share * len(count))
        wilson = binomtest(successes, len(count)).proportion_ci(confidence_level, method="wilson")
        return float(wilson.low), float(wilson.high)

    def accuracy(r: NDArray[Any], n: NDArray[Any], axis: int = -1) -> NDArray[Any]:
        ratio: NDArray[Any] = r.sum(axis) / n.sum(axis)
        return ratio

    found = bootstrap(
        (right, count),
        accuracy,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=confidence_level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _by_cluster(
    correct: NDArray[np.bool_], clusters: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    names = [name or f"image {i}" for i, name in enumerate(clusters)]
    _, where = np.unique(names, return_inverse=True)
    right = np.bincount(where, weights=correct).astype(np.float64)
    return right, np.bincount(where).astype(np.float64)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> dict[str, float | int]:
    """McNemar's exact test of two models on the same images (binomial, two-sided).

    Images count as independent, so that p is too small where patients bring several.

    Args:
        first, second: (N,) bool, where each is right.

    Returns:
        first_only and second_only: images that one alone has right; p.
    """
    from scipy.stats import binomtest

    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} images")
    one, other = int((first & ~second).sum()), int((~first & second).sum())
    p = float(binomtest(one, one + other).pvalue) if one + other else 1.0
    return {"first_only": one, "second_only": other, "p": p}

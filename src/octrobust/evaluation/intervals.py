"""Intervals and tests that know that a patient brings several images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
_AT_ONCE = 2**22  # clusters drawn; all resamples at once would take memory without bound


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
    if len(correct) == 0 or len(correct) != len(clusters):
        raise ValueError(f"{len(correct)} images and {len(clusters)} clusters")
    right, count = _by_cluster(correct, clusters)
    share = right.sum() / count.sum()
    if share in (0.0, 1.0) or len(count) == 1:
        return wilson(round(share * len(count)), len(count), confidence_level)
    return _resampled((right, count), _share, confidence_level, seed)


def wilson(successes: int, count: int, confidence_level: float) -> tuple[float, float]:
    """Wilson's interval of a share, of `count` > 0 that are independent of each other."""
    from scipy.stats import binomtest

    found = binomtest(successes, count).proportion_ci(confidence_level, method="wilson")
    return float(found.low), float(found.high)


def difference_interval(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    clusters: Sequence[str],
    confidence_level: float,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap interval of the first model's accuracy minus the second's on the same images,
    resampling whole patients.

    Where one is right on every image and the other on none, resampling shows no spread: there the
    interval is Wilson's of (1 + difference) / 2, with the patients as the sample. A single patient
    says nothing: -1 to 1.

    Args:
        first, second: (N,) bool, where each is right.
        clusters, confidence_level: as in `accuracy_interval`.
    """
    change, count = _by_cluster(first.astype(np.float64) - second, clusters)
    if len(count) == 1:
        return -1.0, 1.0
    difference = change.sum() / count.sum()
    if abs(difference) == 1.0:
        low, high = wilson(len(count) if difference > 0 else 0, len(count), confidence_level)
        return 2 * low - 1, 2 * high - 1
    return _resampled((change, count), _share, confidence_level, seed)


def _share(sums: NDArray[Any], counts: NDArray[Any], axis: int = -1) -> NDArray[Any]:
    """The mean over images of what `_by_cluster` gives."""
    share: NDArray[Any] = sums.sum(axis) / counts.sum(axis)
    return share


def median_ratio(
    first: NDArray[np.floating[Any]],
    second: NDArray[np.floating[Any]],
    clusters: Sequence[str],
    confidence_level: float,
    seed: int = 0,
) -> dict[str, float | int | None]:
    """The first sample's median over the second's, pairs of the same N > 0 images, with its
    interval: patients are resampled whole.

    Returns:
        ratio, low, high; images. low and high None: a single patient shows no spread.
    """
    _, where = np.unique(_names(clusters), return_inverse=True)
    members = [np.flatnonzero(where == cluster) for cluster in range(where.max() + 1)]

    def ratio(chosen: NDArray[Any]) -> float:
        rows = np.concatenate([members[int(cluster)] for cluster in chosen])
        return float(np.median(first[rows]) / np.median(second[rows]))

    numbers = np.arange(len(members))
    value = ratio(numbers)
    if len(members) == 1:
        return {"ratio": value, "low": None, "high": None, "images": len(first)}
    low, high = _resampled((numbers,), ratio, confidence_level, seed, vectorized=False)
    return {"ratio": value, "low": low, "high": high, "images": len(first)}


def _resampled(
    samples: tuple[NDArray[Any], ...],
    statistic: Callable[..., Any],
    confidence_level: float,
    seed: int,
    *,
    vectorized: bool = True,
) -> tuple[float, float]:
    """scipy's percentile bootstrap over clusters, the samples resampled together."""
    from scipy.stats import bootstrap

    found = bootstrap(
        samples,
        statistic,
        paired=True,
        vectorized=vectorized,
        n_resamples=RESAMPLES,
        batch=max(_AT_ONCE // len(samples[0]), 1) if vectorized else None,
        confidence_level=confidence_level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _names(clusters: Sequence[str]) -> list[str]:
    """An image whose patient is unknown stands for itself."""
    return [name or f"image {i}" for i, name in enumerate(clusters)]


def _by_cluster(
    values: NDArray[Any], clusters: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    _, where = np.unique(_names(clusters), return_inverse=True)
    right = np.bincount(where, weights=values).astype(np.float64)
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

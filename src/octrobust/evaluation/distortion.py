"""What an attack needed: success rates and the distances of its successes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octrobust.attack.distances import NAMES


def distortion(records: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Summary of an adversarial set's records.

    Rates are over images that were right when clean; distances over successes alone. With none,
    a rate or statistic is None.

    Args:
        records: (N,) arrays already_misclassified, success, success_8bit (bool) and l0, l1, l2,
            linf, elastic_net (float).
    """
    attacked = ~records["already_misclassified"]
    success = records["success"]
    count = int(attacked.sum())
    summary: dict[str, Any] = {
        "images": len(success),
        "already_misclassified": len(success) - count,
        "attacked": count,
        "succeeded": int(success.sum()),
        "success_rate": float(success.sum() / count) if count else None,
        "success_rate_8bit": float(records["success_8bit"].sum() / count) if count else None,
    }
    for name in NAMES:
        summary[name] = _statistics(records[name][success])
    return summary


def _statistics(values: NDArray[np.floating[Any]]) -> dict[str, float] | None:
    if len(values) == 0:
        return None
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return {"mean": float(values.mean()), "q1": q1, "median": median, "q3": q3}


def histogram(
    sets: Mapping[str, NDArray[np.floating[Any]]], bins: int = 20
) -> list[dict[str, float | int | str]]:
    """Counts of several samples over common, logarithmic bins, one row a bin and sample.

    Args:
        sets: name to distances (n,), positive; zero or NaN values are left out.
    """
    kept = {name: v[np.isfinite(v) & (v > 0)] for name, v in sets.items()}
    values = np.concatenate([*kept.values(), np.empty(0)])
    if len(values) == 0:
        return []
    low, high = values.min(), values.max()
    edges = np.geomspace(low, max(high, low * 1.01), bins + 1)
    edges[[0, -1]] = low, max(high, low * 1.01)
    rows: list[dict[str, float | int | str]] = []
    for name, sample in kept.items():
        counts, _ = np.histogram(sample, edges)
        rows += [
            {"set": name, "from": float(edges[i]), "to": float(edges[i + 1]), "images": int(n)}
            for i, n in enumerate(counts)
        ]
    return rows

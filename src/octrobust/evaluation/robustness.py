"""Robust accuracy by budget, from the smallest change that any attack found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octrobust.evaluation.intervals import accuracy_interval

# One attack's records: (N,) success (bool) and distances by name, NaN where there is no success.
Records = Mapping[str, NDArray[Any]]
# Distances that a smallest change is looked for in.
MINIMISED = ("l1", "l2", "linf", "elastic_net")
_ROUNDING = 1.00001  # a candidate at the edge of its ball is within it


def smallest(
    attacks: Mapping[str, Records], distance: str, right: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The least distance of a success for every image, over all attacks: (N,) float64.

    0 where the network is wrong on the clean image, infinite where no attack succeeded. It is an
    upper bound of the true minimum: a better attack can only lower it.

    Args:
        attacks: records by attack; a success within another norm's ball counts with its distance.
        distance: l0, l1, l2, linf or elastic_net.
        right: (N,) bool, where the network is right on the clean image.
    """
    least = np.full(len(right), np.inf)
    for found in attacks.values():
        reached = np.where(found["success"], found[distance], np.inf)
        least = np.fmin(least, reached)
    return np.where(right, least, 0.0)


def robust_accuracy(least: NDArray[np.float64], budgets: Sequence[float]) -> NDArray[np.float64]:
    """Share of images that no attack turned within each budget, (len(budgets),) float64.

    A distance counts as within a budget up to float32's rounding.

    Args:
        least: (N,) as `smallest` gives it; budget 0 gives the clean accuracy.
    """
    ordered = np.sort(least)
    turned = np.searchsorted(ordered, np.asarray(budgets, dtype=float) * _ROUNDING, side="right")
    kept: NDArray[np.float64] = 1.0 - turned / len(least)
    return kept


def curve(least: NDArray[np.float64]) -> list[tuple[float, float]]:
    """(budget, robust accuracy) at 0 and wherever it falls: a step function, exact."""
    budgets = np.unique(np.concatenate([[0.0], least[np.isfinite(least)]]))
    return list(
        zip(budgets.tolist(), robust_accuracy(least, budgets.tolist()).tolist(), strict=True)
    )


def quartiles(least: NDArray[np.float64], right: NDArray[np.bool_]) -> dict[str, float | None]:
    """q1, median, q3 over the images right when clean; None where an attack did not get so far."""
    values = least[right]
    if len(values) == 0:
        return dict.fromkeys(("q1", "median", "q3"))
    found = np.quantile(values, [0.25, 0.5, 0.75], method="higher").tolist()
    return {
        name: value if np.isfinite(value) else None
        for name, value in zip(("q1", "median", "q3"), found, strict=True)
    }


def summary(
    attacks: Mapping[str, tuple[str, str | None, float | None]],
    found: Mapping[str, Records],
    right: NDArray[np.bool_],
    patients: Sequence[str],
    budgets: Mapping[str, Sequence[float]],
    confidence_level: float,
) -> dict[str, Any]:
    """What a battery says of one model, on N images.

    Args:
        attacks: kind, norm and budget by name.
        found: records by name, with success as it survives what a file does (success_8bit, ...).
        right: (N,) bool, where the model is right on the clean image.
        patients: N, for the intervals; see `accuracy_interval`.
        budgets: by distance, those to give the worst case at.

    Returns:
        clean; by attack the accuracy that it leaves; worst_case by distance and budget, over all
        attacks together; smallest: quartiles of the least distance, by distance, and those of
        EAD's alone. Every accuracy with low and high.
    """

    def accuracy(kept: NDArray[np.bool_]) -> dict[str, Any]:
        low, high = accuracy_interval(kept, patients, confidence_level)
        return {"accuracy": float(kept.mean()), "low": low, "high": high}

    by_attack = {
        name: {
            **dict(zip(("kind", "norm", "budget"), how, strict=True)),
            **accuracy(right & ~found[name]["success"]),
            **{
                key.replace("success", "succeeded"): int(values.sum())
                for key, values in found[name].items()
                if key.startswith("success")
            },
        }
        for name, how in attacks.items()
    }
    least = {name: smallest(found, name, right) for name in MINIMISED}
    worst = {
        distance: {
            f"{budget:g}": {
                **accuracy(robust_within(least[distance], budget)),
                "hardest": _hardest(attacks, found, distance, budget),
            }
            for budget in sorted(values)
        }
        for distance, values in budgets.items()
    }
    ead = {name: records for name, records in found.items() if name.startswith("ead")}
    return {
        "clean": accuracy(right),
        "attacks": by_attack,
        "worst_case": worst,
        "smallest": {name: quartiles(values, right) for name, values in least.items()},
        "smallest_ead": {n: quartiles(smallest(ead, n, right), right) for n in MINIMISED},
    }


def robust_within(least: NDArray[np.float64], budget: float) -> NDArray[np.bool_]:
    """(N,) bool: the images that no attack turned within the budget."""
    return ~_within(least, budget)


def _within(distance: NDArray[np.float64], budget: float) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = distance <= budget * _ROUNDING
    return near


def _hardest(
    attacks: Mapping[str, tuple[str, str | None, float | None]],
    found: Mapping[str, Records],
    distance: str,
    budget: float,
) -> str:
    """The attack that turned most images within this budget: of those that were run within it or
    without one, and only if they turned none, of those of other budgets. Of equals two, and how
    many more; one step and noise last, which say nothing where stronger ones do as much."""
    turned = {
        name: int((records["success"] & _within(records[distance], budget)).sum())
        for name, records in found.items()
    }
    apart = {name for name, how in attacks.items() if how[1] == distance and how[2] != budget}
    own = {name: count for name, count in turned.items() if name not in apart}
    counts = own if any(own.values()) else turned
    most = max(counts.values())
    if most == 0:
        return "none"
    equals = [name for name, count in counts.items() if count == most]
    equals.sort(key=lambda name: name.startswith(("fgsm", "noise")))
    more = f" and {len(equals) - 2} more" if len(equals) > 2 else ""
    return ", ".join(equals[:2]) + more

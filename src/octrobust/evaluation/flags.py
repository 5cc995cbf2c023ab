"""Signs that an evaluation fools itself, after AutoAttack's (Croce and Hein 2020) and the checklist
of Carlini et al. 2019. Each is explained in docs/explanation/flags.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

# Share of images by which one attack must beat another before it is a sign, not noise; and two
# images at least.
MARGIN = 0.05
CONSTANT = 0.95


@dataclass(frozen=True)
class Flag:
    """name: its heading in docs/explanation/flags.md; model; raised; what was seen, with its
    numbers."""

    name: str
    model: str
    raised: bool
    seen: str


def battery_flags(
    model: str,
    robust: Mapping[str, float],
    alone: Mapping[str, float],
    clean: float,
    no_gradient: float,
    images: int,
) -> Iterator[Flag]:
    """Of one model's battery.

    Args:
        robust: accuracy under each attack by its name, METHOD_NORM_BUDGET or METHOD.
        alone: accuracy under PGD within one budget, what it turned within smaller ones left out,
            by the same names.
        clean: accuracy on the same images.
        no_gradient: share of them at which the cross-entropy's gradient vanishes.
        images: how many they are.
    """
    margin = max(MARGIN, 1.01 / images)
    white_box = ("pgd", "apgd")
    black_box = ("square", "noise", "hop_skip_jump")
    yield _beaten("single step beats many", model, robust, ("fgsm",), ("pgd",), margin)
    yield _beaten("black box beats white box", model, robust, black_box, white_box, margin)
    yield _beaten("more iterations still help", model, robust, ("pgd_long",), ("pgd",), margin)
    yield _less_with_more(model, alone, margin)
    yield Flag(
        "gradients vanish",
        model,
        no_gradient > MARGIN,
        f"the cross-entropy has no gradient to speak of at {no_gradient:.0%} of the clean images",
    )
    unbounded = {name: value for name, value in robust.items() if name.startswith("ead")}
    if unbounded:
        name, least = min(unbounded.items(), key=lambda item: item[1])
        yield Flag(
            "unbounded attack falls short",
            model,
            least > 0.5 * clean,
            f"{name}, without a budget, leaves an accuracy of {least:.0%} (clean {clean:.0%})",
        )


def _beaten(
    name: str,
    model: str,
    robust: Mapping[str, float],
    weak: tuple[str, ...],
    strong: tuple[str, ...],
    margin: float,
) -> Flag:
    """Raised where one of `weak` leaves less accuracy, by more than `margin`, than the best of
    `strong` at the same ball."""
    worst, seen = -np.inf, "not run"
    for attack, left in robust.items():
        for method in weak:
            ball = attack.removeprefix(f"{method}_")
            rivals = [robust[r] for s in strong if (r := f"{s}_{ball}") in robust]
            if ball == attack or not rivals or min(rivals) - left <= worst:
                continue
            worst = min(rivals) - left
            seen = f"{attack} leaves {left:.0%}, {' and '.join(strong)} there {min(rivals):.0%}"
    return Flag(name, model, bool(worst > margin), seen)


def _less_with_more(model: str, alone: Mapping[str, float], margin: float) -> Flag:
    """Raised where PGD leaves more accuracy, by more than `margin`, within a larger budget of the
    same norm."""
    worst, seen = -np.inf, "one budget"
    by_norm: dict[str, list[tuple[float, float]]] = {}
    for name, left in alone.items():
        norm, _, budget = name.removeprefix("pgd_").partition("_")
        by_norm.setdefault(norm, []).append((float(budget), left))
    for norm, lefts in by_norm.items():
        for (small, before), (large, after) in combinations(sorted(lefts), 2):
            if after - before > worst:
                worst = after - before
                seen = (
                    f"PGD leaves {before:.0%} within {norm} {small:g}, {after:.0%} within {large:g}"
                )
    return Flag("larger budget does less", model, bool(worst > margin), seen)


def constant_flag(model: str, predicted: NDArray[np.int64]) -> Flag:
    """A hardened model that says one class is right half the time; the paper's is at chance.

    Args:
        predicted: (N,) classes that the model gives on clean test images.
    """
    _, counts = np.unique(predicted, return_counts=True)
    share = float(counts.max() / len(predicted))
    seen = f"{share:.0%} of the clean test images are given the same class"
    return Flag("predictions nearly constant", model, share >= CONSTANT, seen)


def control_flag(model: str, what: str, better: float, low: float, high: float) -> Flag:
    """A defence must beat the same training without adversarial images.

    Args:
        what: the images and the attack that both were measured on.
        better: the model's accuracy minus the control's there.
        low, high: that difference's interval.
    """
    seen = f"{what}: {100 * better:+.0f} points ({100 * low:+.0f} to {100 * high:+.0f})"
    return Flag("no better than a control", model, low <= 0, seen)

"""Adversarial training on examples made afresh every step (Madry et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octrobust.config import Inner
    from octrobust.training.objectives import Objective

NEEDS = ("inner",)


def objective(inner: Inner, precision: str) -> Objective:
    from octrobust.training.adversarial import Online

    return Online(inner, precision)

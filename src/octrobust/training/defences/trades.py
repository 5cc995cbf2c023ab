"""TRADES (Zhang et al. 2019): clean images learnt, and their worst neighbours answered alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octrobust.config import Inner
    from octrobust.training.objectives import Objective

NEEDS = ("inner", "inner.weight")


def objective(inner: Inner, precision: str) -> Objective:
    from octrobust.training.adversarial import Trades

    return Trades(inner, precision)

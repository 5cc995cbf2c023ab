"""Which iterates become candidates: two answers to one question.

`before_step` sees the images in flight with the margins and gradients at their momentum points;
`after_step` sees them with their new iterates. Both offer candidates and say where the search
step is over: where its last iterate has been judged.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from octrobust.attack import distances
from octrobust.attack.in_flight import InFlight
from octrobust.attack.verdicts import Verdicts

# How far a margin predicted to first order may be off, as a fraction of the change predicted and
# of the clean image's margin. Seen on the demo's network at learning rates 0.01 and 0.5: of the
# successes that would have mattered, 0 and 6 % fell outside (of 95 and 144; 9 x 100 iterations).
_OF_CHANGE, _OF_MARGIN = 0.25, 0.02


class Screen(Protocol):
    def before_step(self, at: InFlight, margins: Tensor, gradient: Tensor) -> Tensor:
        """(n,) bool: over, of the n images in flight; margins (n,) and gradient (n, C, H, W)."""

    def after_step(self, at: InFlight, stepped: Tensor) -> Tensor:
        """(n,) bool: over; `stepped` (n,) bool: which have a new iterate."""


class _Offers:
    """What both share.

    Args:
        verdicts: where candidates go.
        clean_margins: (N,) at the clean images.
        rule, beta: the decision rule, and its weight of L1.
        confidence: margin wanted.
        max_iter: iterations of a search step.
    """

    def __init__(
        self,
        verdicts: Verdicts,
        clean_margins: Tensor,
        rule: str,
        beta: float,
        confidence: float,
        max_iter: int,
    ) -> None:
        self.verdicts, self.clean_margins = verdicts, clean_margins
        self.rule, self.beta = rule, beta
        self.confidence, self.max_iter = confidence, max_iter

    def _offer(self, at: InFlight, which: Tensor) -> None:
        """The iterates of `which` (n,) bool, where they would matter."""
        distance = distances.decision(self.rule, at.x, at.current, self.beta)
        self.verdicts.consider(which, at.current, at.row, distance, at.const)

    def _nowhere(self, at: InFlight) -> Tensor:
        """(n,) bool, none."""
        return torch.zeros_like(at.k, dtype=torch.bool)


class EveryIterate(_Offers):
    """All iterates, as they are made."""

    def before_step(self, at: InFlight, margins: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG002
        return self._nowhere(at)

    def after_step(self, at: InFlight, stepped: Tensor) -> Tensor:
        self._offer(at, stepped)
        return stepped & (at.k == self.max_iter)


class LikelyIterates(_Offers):
    """Those that the gradient at the momentum point just beyond them predicts to succeed."""

    def before_step(self, at: InFlight, margins: Tensor, gradient: Tensor) -> Tensor:
        change = distances.total(gradient * (at.momentum - at.current))
        slack = _OF_CHANGE * change.abs() + _OF_MARGIN * self.clean_margins[at.row].abs()
        self._offer(at, (at.k > 0) & (margins - change + slack >= self.confidence))
        return at.k == self.max_iter

    def after_step(self, at: InFlight, stepped: Tensor) -> Tensor:  # noqa: ARG002
        return self._nowhere(at)

"""Which iterates are worth asking the original network about."""

from __future__ import annotations

import torch
from torch import Tensor

from octrobust.attack import distances
from octrobust.attack.in_flight import InFlight
from octrobust.attack.search_model import SearchModel
from octrobust.attack.verdicts import Verdicts

# How far a margin predicted to first order may be off, as a fraction of the change predicted and
# of the clean image's margin. Seen on the demo's network at learning rates 0.01 and 0.5: of the
# successes that would have mattered, 0 and 6 % fell outside (of 95 and 144; 9 x 100 iterations).
_OF_CHANGE, _OF_MARGIN = 0.25, 0.02


class Screen:
    """Offers candidates for verdicts.

    Args:
        model: the network as the search sees it.
        verdicts: where candidates go.
        rule, beta: the decision rule, and its weight of L1.
        confidence: margin wanted.
    """

    def __init__(
        self, model: SearchModel, verdicts: Verdicts, rule: str, beta: float, confidence: float
    ) -> None:
        self.model, self.verdicts = model, verdicts
        self.rule, self.beta, self.confidence = rule, beta, confidence

    def every(self, at: InFlight, fresh: Tensor) -> None:
        """Of the new iterates of `fresh` (n,) bool: all that would matter, and that the search's
        view of the network, where it is not the network itself, takes for successes."""
        distance = self._distance(at)
        rows = torch.nonzero(fresh & self.verdicts.matters(at.row, distance)).flatten()
        if len(rows) and self.model.slack:
            margins = self.model.margin(at.current[rows], at.y[rows])
            slack = self.model.slack * at.first_margin[rows].abs()
            rows = rows[margins + slack >= self.confidence]
        self._offer(at, rows, distance)

    def predicted(self, at: InFlight, margins: Tensor, gradient: Tensor) -> None:
        """Of the last iterates: all that would matter, and that the margins (n,) and their
        gradients (n, C, H, W) at the momentum points just beyond them predict to succeed."""
        distance = self._distance(at)
        change = distances.total(gradient * (at.momentum - at.current))
        slack = _OF_CHANGE * change.abs() + _OF_MARGIN * at.first_margin.abs()
        likely = margins - change + slack >= self.confidence
        matters = self.verdicts.matters(at.row, distance)
        self._offer(at, torch.nonzero((at.k > 0) & likely & matters).flatten(), distance)

    def _offer(self, at: InFlight, rows: Tensor, distance: Tensor) -> None:
        self.verdicts.offer(at.current[rows], at.row[rows], distance[rows], at.const[rows])

    def _distance(self, at: InFlight) -> Tensor:
        return distances.decision(self.rule, at.x, at.current, self.beta)

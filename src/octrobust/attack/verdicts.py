"""The best example of every image, each a success of the original network in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from octrobust.model.predict import batch_of


@dataclass(frozen=True)
class _Candidate:
    row: int
    image: Tensor
    distance: float
    const: float


class Verdicts:
    """Collects candidates, asks the network about a batch of them, keeps the closest successes.

    When it asks depends on what else is in flight; what it keeps does not: a candidate is left
    out only where a closer success is known already, and where this step's success is, too.

    Args:
        succeeds: (n, C, H, W) images and their rows (n,) to (n,) bool.
        x: (N, C, H, W) the clean images.
        defer: wait for a whole batch of candidates, or for `settle`.

    Attributes:
        x_adv: (N, C, H, W) the best examples, the clean image where there is none.
        distance: (N,) float32 by the decision rule, infinite where there is none.
        const: (N,) float32, the c at which the best was found, NaN where there is none.
        found: (N,) bool, a success in the search step under way.
    """

    def __init__(
        self, succeeds: Callable[[Tensor, Tensor], Tensor], x: Tensor, *, defer: bool
    ) -> None:
        self._succeeds = succeeds
        self._batch = batch_of(x.device) if defer else 1
        self._pending: list[_Candidate] = []
        self.x_adv = x.clone()
        self.distance = torch.full((len(x),), torch.inf, device=x.device)
        self.const = torch.full_like(self.distance, torch.nan)
        self.found = torch.zeros_like(self.distance, dtype=torch.bool)

    def matters(self, rows: Tensor, distance: Tensor) -> Tensor:
        """Where a success at this distance would change anything: (n,) bool."""
        return (distance < self.distance[rows]) | ~self.found[rows]

    def offer(self, images: Tensor, rows: Tensor, distance: Tensor, const: Tensor) -> None:
        """Candidates (n, C, H, W) for the images in `rows`, with their distances and c, (n,)."""
        values = zip(rows.tolist(), distance.tolist(), const.tolist(), strict=True)
        self._pending += [
            _Candidate(row, image.clone(), distance, const)
            for (row, distance, const), image in zip(values, images, strict=True)
        ]
        while len(self._pending) >= self._batch:
            self._ask()

    def settle(self, rows: Tensor) -> None:
        """Make sure that nothing of these rows is pending."""
        if self._pending and not {c.row for c in self._pending}.isdisjoint(rows.tolist()):
            while self._pending:
                self._ask()

    def _ask(self) -> None:
        size = batch_of(self.x_adv.device)
        asked, self._pending = self._pending[:size], self._pending[size:]
        rows = torch.tensor([c.row for c in asked], device=self.x_adv.device)
        success = self._succeeds(torch.stack([c.image for c in asked]), rows)
        best = self.distance.tolist()
        for candidate, won in zip(asked, success.tolist(), strict=True):
            row = candidate.row
            if won:
                self.found[row] = True
            if won and candidate.distance < best[row]:
                best[row] = candidate.distance
                self.x_adv[row] = candidate.image
                self.distance[row] = candidate.distance
                self.const[row] = candidate.const

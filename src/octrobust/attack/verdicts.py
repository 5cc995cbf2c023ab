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


# So many batches of candidates may wait: the longer they do, the more of them one success settles.
_BATCHES = 4


class Verdicts:
    """Collects candidates, asks the network about a batch of them, keeps the closest successes.

    An image's candidates are asked about from the closest on, so that one success settles the
    rest. When it asks depends on what else is in flight; what it keeps does not: a candidate is
    left out only where a success no farther is known, and where this step's success is, too.

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
        self._patience = _BATCHES * batch_of(x.device) if defer else 1
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
        if len(self._pending) >= self._patience:
            self._ask_all()

    def settle(self, rows: Tensor) -> None:
        """Make sure that nothing of these rows is pending."""
        if not {c.row for c in self._pending}.isdisjoint(rows.tolist()):
            self._ask_all()

    def _ask_all(self) -> None:
        """In rounds, an image's closest candidate in each."""
        while self._pending:
            closest: dict[int, _Candidate] = {}
            for candidate in self._pending:
                best = closest.setdefault(candidate.row, candidate)
                if candidate.distance < best.distance:
                    closest[candidate.row] = candidate
            self._ask(list(closest.values()))
            known, found = self.distance.tolist(), self.found.tolist()
            self._pending = [
                c
                for c in self._pending
                if c is not closest[c.row] and (c.distance < known[c.row] or not found[c.row])
            ]

    def _ask(self, asked: list[_Candidate]) -> None:
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

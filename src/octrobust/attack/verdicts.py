"""The best example of every image, each a success of the original network in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from octrobust.model.predict import batch_of

# So many batches of candidates may wait: the longer they do, the more of them one success settles.
_BATCHES = 4
# Images (n, C, H, W) and their rows (n,) to (n,) bool.
Question = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class _Candidate:
    row: int
    image: Tensor
    distance: float
    const: float


class Verdicts:
    """Collects candidates, asks the network about whole batches, keeps the closest successes.

    An image's candidates are asked about from the closest on, so that one success settles the
    rest. When they are depends on what else is in flight; what is kept does not: a candidate is
    left out only where a success no farther is known, and where this step's success is, too.

    Args:
        succeeds: the original network's answer.
        passes: the search's own view of the network, asked first; None: it has none.
        x: (N, C, H, W) the clean images.
        defer: wait for batches of candidates, or for `settle`.

    Attributes:
        x_adv: (N, C, H, W) the best examples, the clean image where there is none.
        distance: (N,) float32 by the decision rule, infinite where there is none.
        const: (N,) float32, the c at which the best was found, NaN where there is none.
        found: (N,) bool, a success in the search step under way.
    """

    def __init__(
        self, succeeds: Question, passes: Question | None, x: Tensor, *, defer: bool
    ) -> None:
        self._succeeds, self._passes = succeeds, passes
        self._batch = batch_of(x.device)
        self._room = _BATCHES * self._batch if defer else 1
        self._pending: list[_Candidate] = []  # nobody has been asked
        self._passed: list[_Candidate] = []  # the search's view says yes
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
        if len(self._pending) >= self._room:
            self._ask()

    def settle(self, rows: Tensor) -> None:
        """Make sure that nothing of these rows is pending."""
        if not {c.row for c in self._pending}.isdisjoint(rows.tolist()):
            self._ask()

    def _ask(self) -> None:
        """Until nothing is pending. Candidates behind a closer one that has passed stay back."""
        while self._pending or self._passed:
            ahead: dict[int, float] = {}
            for c in self._passed:
                ahead[c.row] = min(c.distance, ahead.get(c.row, torch.inf))
            free = [c for c in self._pending if c.distance < ahead.get(c.row, torch.inf)]
            if free and len(self._passed) < self._batch:
                self._screen(_closest_first(free)[: self._batch])
            else:
                self._confirm(_closest_first(self._passed)[: self._batch])

    def _screen(self, asked: list[_Candidate]) -> None:
        self._pending = _without(self._pending, asked)
        if self._passes is None:
            self._passed += asked
        else:
            answers = self._passes(*self._question(asked)).tolist()
            self._passed += [c for c, passes in zip(asked, answers, strict=True) if passes]

    def _confirm(self, asked: list[_Candidate]) -> None:
        answers = self._succeeds(*self._question(asked)).tolist()
        best = self.distance.tolist()
        for candidate in (c for c, success in zip(asked, answers, strict=True) if success):
            row = candidate.row
            self.found[row] = True
            if candidate.distance < best[row]:
                best[row] = candidate.distance
                self.x_adv[row] = candidate.image
                self.distance[row] = candidate.distance
                self.const[row] = candidate.const
        found = self.found.tolist()
        self._passed, self._pending = (
            [c for c in _without(some, asked) if c.distance < best[c.row] or not found[c.row]]
            for some in (self._passed, self._pending)
        )

    def _question(self, asked: list[_Candidate]) -> tuple[Tensor, Tensor]:
        rows = torch.tensor([c.row for c in asked], device=self.x_adv.device)
        return torch.stack([c.image for c in asked]), rows


def _closest_first(candidates: list[_Candidate]) -> list[_Candidate]:
    """Every image's closest, then every image's second closest, and so on."""
    taken: dict[int, int] = {}
    ranked = []
    for candidate in sorted(candidates, key=lambda c: c.distance):
        rank = taken.get(candidate.row, 0)
        taken[candidate.row] = rank + 1
        ranked.append((rank, candidate))
    return [candidate for _, candidate in sorted(ranked, key=lambda pair: pair[0])]


def _without(candidates: list[_Candidate], some: list[_Candidate]) -> list[_Candidate]:
    gone = {id(c) for c in some}
    return [c for c in candidates if id(c) not in gone]

"""The best example of every image, each a success of the original network in float32."""

from __future__ import annotations

import math
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
    step: int
    image: Tensor
    distance: float
    const: float


class Verdicts:
    """Collects candidates, asks the network about whole batches, keeps the closest successes.

    An image's candidates are asked about from the closest on, so that one success settles the
    rest. When they are depends on what else is in flight; what is kept does not: a candidate is
    left out only where a success no farther is known, and its search step's success is, too.

    Args:
        succeeds: the original network's answer.
        passes: the search's own view of the network, asked first; None: it has none.
        x: (N, C, H, W) the clean images.
        defer: wait for batches of candidates, or for `settle` and `finish`.

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
        self.distance = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
        self.const = torch.full_like(self.distance, torch.nan)
        self.found = torch.zeros_like(self.distance, dtype=torch.bool)
        self._step = [0] * len(x)  # of every image, the search step under way
        # `found` and `distance` once more, where no device has to be waited for.
        self._known, self._best = [False] * len(x), [math.inf] * len(x)

    def matters(self, rows: Tensor, distance: Tensor) -> Tensor:
        """Where a success at this distance, if it is one, would change anything: (n,) bool."""
        matters = (distance < self.distance[rows]) | ~self.found[rows]
        return matters & torch.isfinite(distance)

    def consider(
        self, which: Tensor, images: Tensor, rows: Tensor, distance: Tensor, const: Tensor
    ) -> None:
        """Offer those of `which` (n,) bool that would matter; the rest as in `offer`."""
        chosen = torch.nonzero(which & self.matters(rows, distance)).flatten()
        if len(chosen):
            self.offer(images[chosen], rows[chosen], distance[chosen], const[chosen])

    def offer(self, images: Tensor, rows: Tensor, distance: Tensor, const: Tensor) -> None:
        """Candidates (n, C, H, W) for the images in `rows`, with their distances and c, (n,)."""
        # One look at the device; float32 has every row up to 2 ** 24.
        values = torch.stack((rows.float(), distance, const), 1).tolist()
        self._pending += [
            _Candidate(int(row), self._step[int(row)], image.clone(), distance, const)
            for (row, distance, const), image in zip(values, images, strict=True)
        ]
        while len(self._pending) >= self._room:
            self._ask({c.row for c in self._pending})

    def settle(self, rows: Tensor, best: bool) -> None:
        """Make sure that `found` is known for these rows (n,) int64, and their best example, if
        `best`."""
        urgent = set(rows.tolist())
        while any(
            c.row in urgent and (best or self._decides(c)) for c in (*self._pending, *self._passed)
        ):
            self._ask(urgent)

    def begin(self, rows: Tensor) -> None:
        """A new search step for these rows (n,) int64. What is pending of the old one may still be
        closer."""
        self.found[rows] = False
        for row in rows.tolist():
            self._step[row] += 1
            self._known[row] = False

    def finish(self) -> None:
        """Make sure that nothing is pending."""
        while self._pending or self._passed:
            self._ask({c.row for c in (*self._pending, *self._passed)})

    def take(self, rows: Tensor, other: Verdicts) -> None:
        """What was found for other's n images, as that of these rows (n,) int64, when both are
        finished."""
        self.x_adv[rows] = other.x_adv
        self.distance[rows], self.const[rows] = other.distance, other.const

    def _counts(self, candidate: _Candidate) -> bool:
        """Whether the answer would still change anything."""
        return candidate.distance < self._best[candidate.row] or self._decides(candidate)

    def _decides(self, candidate: _Candidate) -> bool:
        """Whether its search step may depend on it."""
        row = candidate.row
        return candidate.step == self._step[row] and not self._known[row]

    def _ask(self, urgent: set[int]) -> None:
        """About one batch, of `urgent` rows first. Candidates behind one that has passed wait."""
        ahead: dict[int, float] = {}
        for c in self._passed:
            ahead[c.row] = min(c.distance, ahead.get(c.row, torch.inf))
        free = [c for c in self._pending if c.distance < ahead.get(c.row, torch.inf)]
        if len(self._passed) < self._batch and any(c.row in urgent for c in free):
            self._screen(_closest_first(free, urgent)[: self._batch])
        else:
            self._confirm(_closest_first(self._passed, urgent)[: self._batch])

    def _screen(self, asked: list[_Candidate]) -> None:
        self._pending = _without(self._pending, asked)
        if self._passes is None:
            self._passed += asked
        else:
            answers = self._passes(*self._question(asked)).tolist()
            self._passed += [c for c, passes in zip(asked, answers, strict=True) if passes]

    def _confirm(self, asked: list[_Candidate]) -> None:
        answers = self._succeeds(*self._question(asked)).tolist()
        for candidate in (c for c, success in zip(asked, answers, strict=True) if success):
            row = candidate.row
            if candidate.step == self._step[row]:
                self.found[row] = self._known[row] = True
            if candidate.distance < self._best[row]:
                self._best[row] = candidate.distance
                self.x_adv[row] = candidate.image
                self.distance[row] = candidate.distance
                self.const[row] = candidate.const
        self._passed, self._pending = (
            [c for c in _without(some, asked) if self._counts(c)]
            for some in (self._passed, self._pending)
        )

    def _question(self, asked: list[_Candidate]) -> tuple[Tensor, Tensor]:
        rows = torch.tensor([c.row for c in asked], device=self.x_adv.device)
        return torch.stack([c.image for c in asked]), rows


def _closest_first(candidates: list[_Candidate], urgent: set[int]) -> list[_Candidate]:
    """Every image's closest, then every image's second closest, and so on; urgent rows first."""
    taken: dict[int, int] = {}
    ranked: list[tuple[bool, int, _Candidate]] = []
    for candidate in sorted(candidates, key=lambda c: c.distance):
        rank = taken.get(candidate.row, 0)
        taken[candidate.row] = rank + 1
        ranked.append((candidate.row not in urgent, rank, candidate))
    return [candidate for *_, candidate in sorted(ranked, key=lambda item: item[:2])]


def _without(candidates: list[_Candidate], some: list[_Candidate]) -> list[_Candidate]:
    gone = {id(c) for c in some}
    return [c for c in candidates if id(c) not in gone]

"""What every search shares: images board, are worked on together, and leave when they are done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor

from octrobust.attack.in_flight import Flight
from octrobust.attack.search_model import SearchModel
from octrobust.attack.verdicts import Verdicts
from octrobust.model.predict import batch_of

if TYPE_CHECKING:
    from octrobust.attack.elastic_net import ElasticNet

F = TypeVar("F", bound=Flight)
Progress = Callable[[int], None]


class Search(ABC, Generic[F]):
    """One run over N images.

    Args:
        attack: whose parameters count.
        x, y: (N, C, H, W) float32 in [0, 1]; (N,) int64.
        progress: see `ElasticNet.run`.

    Attributes:
        model: the network as the search sees it.
        first_margins: (N,) at the clean images, once an image has been looked at.
        verdicts: the best examples so far.
        iterations: (N,) int64, made for each image.
    """

    def __init__(self, attack: ElasticNet, x: Tensor, y: Tensor, progress: Progress | None) -> None:
        self.attack, self.x, self.y = attack, x, y
        self.shortcuts, self.progress = attack.shortcuts, progress
        self.model = SearchModel(
            attack.model,
            x.shape[1],
            x.device,
            targeted=attack.targeted,
            speed=attack.speed,
            spent=attack.spent,
        )
        self.first_margins = torch.zeros(len(x), device=x.device)
        self.verdicts = Verdicts(
            lambda images, rows: attack.is_success(attack.margins(images, y[rows])),
            self._may_succeed if self.asks_twice and self.model.slack else None,
            x,
            defer=attack.speed.defer_verdicts,
        )
        self.iterations = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        whole = batch_of(x.device)
        self.room = -(-(attack.batch_size or whole) // whole) * whole

    # Whether the search's view of the network is asked about a candidate before the original is.
    asks_twice: bool

    @abstractmethod
    def _board(self, rows: Tensor) -> F:
        """The images of these rows, at the beginning."""

    @abstractmethod
    def _iterate(self, at: F) -> Tensor:
        """One iteration for every image in flight. (n,) bool: which are not done."""

    def run(self, rows: Tensor) -> None:
        """Attack the images in these rows, `room` of them at once."""
        flight = self._board(rows[:0])
        while len(rows) or len(flight):
            free = self.room - len(flight)
            if free and len(rows) and (self.attack.speed.refill or not len(flight)):
                boarding, rows = rows[:free], rows[free:]
                flight = flight.joined(self._board(boarding))
            flight = flight.only(self._iterate(flight))
        self.verdicts.finish()

    def _may_succeed(self, images: Tensor, rows: Tensor) -> Tensor:
        """Where the search's view of the network does not rule a success out: (n,) bool."""
        return self._within_reach(self.model.margin(images, self.y[rows]), rows)

    def _within_reach(self, margins: Tensor, rows: Tensor) -> Tensor:
        """Where the original network's margin may be the one wanted, the view's being so: (n,)."""
        slack = self.model.slack * self.first_margins[rows].abs()
        return margins + slack >= self.attack.confidence

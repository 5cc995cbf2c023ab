"""What every search shares: images board, are worked on together, and leave when they are done.

The host waits for the device where it asks which iterates are candidates, what they are, and which
stages are over: three times an iteration at most, and once for each batch of candidates. Where a
stage ends, or an image boards, there are some more. All else is queued."""

from __future__ import annotations

import time
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
_TOLD_EVERY = 0.2  # seconds
_LEFT = 0.25  # of an error at the clean image, of which the whole is made good, what may remain


class View:
    """What a search knows of the original network from the cheaper one that it asks. By how much
    that one is off at an image's clean form is known, and made good wherever it is asked about the
    image: an image so near the boundary that the two disagree would else seem done already.

    Args:
        network: the cheaper one.
        y: (N,) int64, of all images.
        clean_margins: (N,) of the original network, at the clean images.
        confidence: margin wanted.

    Attributes:
        lost: (N,) bool, some gradient was no finite number.
        flat: (N,) bool, the gradient at the clean image was zero.
    """

    def __init__(
        self, network: SearchModel, y: Tensor, clean_margins: Tensor, confidence: float
    ) -> None:
        self.network, self.confidence, self._y = network, confidence, y
        self.clean_margins = clean_margins
        self._off = torch.zeros_like(clean_margins)
        self.lost = torch.zeros_like(clean_margins, dtype=torch.bool)
        self.flat = torch.zeros_like(self.lost)

    def margin_and_gradient(
        self, images: Tensor, rows: Tensor, clean: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Margins (n,) and their gradients (n, C, H, W) at images for these rows, which are the
        clean ones where `clean` (n,) bool says so: once for each, before anything else."""
        margins, gradient = self.network.margin_and_gradient(images, self._y[rows])
        off = torch.where(clean, self.clean_margins[rows] - margins, self._off[rows])
        self._off[rows] = off
        size = torch.linalg.vector_norm(gradient, 1, dim=(1, 2, 3))
        self.lost[rows] |= ~size.isfinite()
        self.flat[rows] |= clean & (size == 0)
        return margins + off, gradient

    def may_succeed(self, images: Tensor, rows: Tensor) -> Tensor:
        """Where a success of the original network at images (n, C, H, W) for rows (n,) int64 is
        not ruled out: (n,) bool."""
        margins = self.network.margin(images, self._y[rows]) + self._off[rows]
        return self.within_reach(margins, rows)

    def within_reach(self, margins: Tensor, rows: Tensor) -> Tensor:
        """The same, from the margins (n,) that this view has."""
        return margins + self.doubt(rows) >= self.confidence

    def doubt(self, rows: Tensor) -> Tensor:
        """How far a margin may still be off, (n,)."""
        left = _LEFT * self._off[rows].abs()
        return self.network.slack * self.clean_margins[rows].abs() + left


class Tally:
    """Image iterations counted on the device, and told to `progress` now and then: to read the
    count is to wait until the device has nothing left to do."""

    def __init__(self, progress: Progress | None, device: torch.device) -> None:
        self._progress, self._told_at = progress, time.monotonic()
        self._made = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, made: Tensor) -> None:
        """Iterations made or skipped, of any shape: their sum."""
        if self._progress:
            self._made += made.sum()
            if time.monotonic() - self._told_at > _TOLD_EVERY:
                self.tell()

    def tell(self) -> None:
        if self._progress:
            self._progress(int(self._made))
            self._made.zero_()
            self._told_at = time.monotonic()

    def close(self) -> None:
        """Nothing more is told."""
        self.tell()
        self._progress = None


class Search(ABC, Generic[F]):
    """One run over N images.

    Args:
        attack: whose parameters count.
        x, y: (N, C, H, W) float32 in [0, 1]; (N,) int64.
        clean_margins: (N,) of the original network at x.
        progress: see `ElasticNet.run`.

    Attributes:
        view: the network as the search sees it.
        verdicts: the best examples so far.
        iterations: (N,) int64, made for each image.
        tally: of those and of the ones left out.
    """

    def __init__(
        self,
        attack: ElasticNet,
        x: Tensor,
        y: Tensor,
        clean_margins: Tensor,
        progress: Progress | None,
    ) -> None:
        self.attack, self.x = attack, x
        self.shortcuts, self.tally = attack.shortcuts, Tally(progress, x.device)
        network = SearchModel(
            attack.model,
            x.shape[1],
            x.device,
            targeted=attack.targeted,
            speed=attack.speed,
            spent=attack.spent,
        )
        self.view = View(network, y, clean_margins, attack.confidence)
        # Neither question may refer to this search: a cycle would keep every finished shard's
        # copy of the network until the collector comes by.
        self.verdicts = Verdicts(
            lambda images, rows: attack.is_success(attack.margins(images, y[rows])),
            self.view.may_succeed if self.asks_twice and network.slack else None,
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
        """One iteration for every image in flight. (n,) bool: where it was a stage's last."""

    @abstractmethod
    def _next_stage(self, at: F, over: Tensor) -> Tensor:
        """What follows where a stage is over, of one image at least. (n,) bool: which stay."""

    def run(self, rows: Tensor) -> None:
        """Attack the images in these rows, `room` of them at once."""
        flight = self._board(rows[:0])
        while len(rows) or len(flight):
            free = self.room - len(flight)
            if free and len(rows) and (self.attack.speed.refill or not len(flight)):
                boarding, rows = rows[:free], rows[free:]
                flight = flight.joined(self._board(boarding))
            over = self._iterate(flight)
            if over.any():
                flight = flight.only(self._next_stage(flight, over))
        self.verdicts.finish()
        self.tally.tell()

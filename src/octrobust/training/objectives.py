"""What a fit minimises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from octrobust.distributed.share import Share

Outputs = Callable[[Tensor], Tensor]  # (N, C, H, W) to logits (N, K)


class Objective(Protocol):
    """The part of a fit that makes a defence."""

    def loss(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        done: float,
        outputs: Outputs | None = None,
        share: Share | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Loss to minimise, and the logits (N, K) float32 that training accuracy is of.

        Args:
            model: in train mode; left in it.
            x, y: (N, C, H, W) float32 in [0, 1]; (N,) int64.
            done: share of all training steps made, in [0, 1].
            outputs: the model's, to be asked once, where several ranks learn together; None: ask
                the model itself.
            share: the rows of the whole batch that x and y are; None: all of them.
        """

    def challenge(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor | None:
        """Images (N, C, H, W) at their worst, for a model in eval mode, to choose the best epoch
        and to place the line between the classes by; None: as they are."""


class Clean:
    """Cross-entropy on the images as they come."""

    def loss(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        done: float,  # noqa: ARG002
        outputs: Outputs | None = None,
        share: Share | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        logits = (outputs or model)(x).float()
        return cross_entropy(logits, y), logits

    def challenge(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor | None:  # noqa: ARG002
        return None

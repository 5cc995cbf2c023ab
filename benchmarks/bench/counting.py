"""How many images a peer passes through the network, without a word in its code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Counted(nn.Module):
    """A network that counts images: forward, and backward to its input.

    A Python call a pass, no arithmetic: microseconds beside the milliseconds of a pass.

    Attributes:
        forwards, backwards: images passed.
        parameter_gradients: how often a gradient of the first parameter was computed as well.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.forwards = self.backwards = self.parameter_gradients = 0
        first = next(network.parameters())
        if first.requires_grad:
            first.register_hook(self._seen)

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        if torch.is_grad_enabled() and x.requires_grad:
            x = _CountBackward.apply(x, self)
        return self.network(x)

    def _seen(self, _: Tensor) -> None:
        self.parameter_gradients += 1


class _CountBackward(torch.autograd.Function):
    """The identity; its backward counts the images that come by."""

    @staticmethod
    def forward(context: Any, x: Tensor, counted: Counted) -> Tensor:
        context.counted = counted
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        context.counted.backwards += len(gradient)
        return gradient, None

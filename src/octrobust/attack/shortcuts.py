"""Two of the options that change the published algorithm's result (see `speed.Shortcuts`)."""

from __future__ import annotations

import torch
from torch import Tensor

from octrobust.attack import distances
from octrobust.attack.in_flight import InFlight


def linear_const(margins: Tensor, gradient: Tensor, confidence: float) -> Tensor:
    """The c (n,) at which the linearised hinge balances the squared distance to its boundary.

    The smallest change d with ``margin + <gradient, d> = confidence`` has ``2 d = c gradient``,
    the box and the L1 term left out.

    Args:
        margins: (n,) at the clean images.
        gradient: (n, C, H, W), theirs.
    """
    squared = distances.total(gradient.square()).clamp(min=1e-12)
    return 2 * (confidence - margins) / squared


def settled(at: InFlight, loss: Tensor, patience: int) -> Tensor:
    """(n,) bool: where the loss (n,) has not fallen for `patience` iterations."""
    falls = loss < 0.9999 * at.lowest  # by the original's measure, of its early abort
    at.lowest = torch.where(falls, loss, at.lowest)
    at.lowest_k = torch.where(falls, at.k, at.lowest_k)
    return at.k - at.lowest_k >= patience

"""The images that the attack works on at one time, each at its own place in the search."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor


@dataclass
class Flight:
    """n images; every field of a kind of flight is a tensor with n rows.

    Attributes:
        row: (n,) int64, the image's row among all.
        x: (n, C, H, W) the clean image.
    """

    row: Tensor
    x: Tensor

    def __len__(self) -> int:
        return len(self.row)

    def joined(self, other: Self) -> Self:
        """These images, then the others."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return type(self)(*(torch.cat(pair) for pair in pairs))

    def only(self, which: Tensor) -> Self:
        """Those of `which` (n,) bool."""
        if which.all():
            return self
        return type(self)(*(getattr(self, f.name)[which] for f in fields(self)))


@dataclass
class InFlight(Flight):
    """Images in Algorithm 1.

    Attributes:
        current, momentum: (n, C, H, W) FISTA's last iterate and its momentum point.
        k, step: (n,) int64, iterations made in this search step; search steps finished.
        warm: (n,) bool, this search step did not start from the clean image.
        const, lower, upper: (n,) c and the bracket around it.
        first_gradient: (n, C, H, W) of the margin, at the clean image.
        lowest, lowest_k: (n,) the lowest loss of this search step, and its iteration.
    """

    current: Tensor
    momentum: Tensor
    k: Tensor
    step: Tensor
    warm: Tensor
    const: Tensor
    lower: Tensor
    upper: Tensor
    first_gradient: Tensor
    lowest: Tensor
    lowest_k: Tensor

    @classmethod
    def board(cls, rows: Tensor, x: Tensor, const: float) -> InFlight:
        """The images of these rows of x (N, C, H, W), at the beginning."""
        images = x[rows]
        none = torch.zeros_like(rows)
        zero = torch.zeros(len(rows), dtype=x.dtype, device=x.device)
        return cls(
            row=rows,
            x=images,
            current=images,
            momentum=images,
            k=none,
            step=none,
            warm=none.bool(),
            const=torch.full_like(zero, const),
            lower=zero,
            upper=torch.full_like(zero, torch.inf),
            first_gradient=torch.zeros_like(images),
            lowest=torch.full_like(zero, torch.inf),
            lowest_k=none,
        )


def per_image(values: Tensor) -> Tensor:
    """(n,) to (n, 1, 1, 1)."""
    return values[:, None, None, None]

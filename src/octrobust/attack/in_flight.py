"""The images that the attack works on at one time, each at its own place in the search."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class InFlight:
    """n images.

    Attributes:
        row: (n,) int64, the image's row among all.
        x, y: (n, C, H, W) the clean image; (n,) its class.
        current, momentum: (n, C, H, W) FISTA's last iterate and its momentum point.
        k, step: (n,) int64, iterations made in this search step; search steps finished.
        warm: (n,) bool, this search step did not start from the clean image.
        const, lower, upper: (n,) c and the bracket around it.
        first_margin, first_gradient: (n,), (n, C, H, W) at the clean image.
        lowest, lowest_k: (n,) the lowest loss of this search step, and its iteration.
    """

    row: Tensor
    x: Tensor
    y: Tensor
    current: Tensor
    momentum: Tensor
    k: Tensor
    step: Tensor
    warm: Tensor
    const: Tensor
    lower: Tensor
    upper: Tensor
    first_margin: Tensor
    first_gradient: Tensor
    lowest: Tensor
    lowest_k: Tensor

    @classmethod
    def board(cls, rows: Tensor, x: Tensor, y: Tensor, const: float) -> InFlight:
        """The images of these rows of x (N, C, H, W) and y (N,), at the beginning."""
        images = x[rows]
        none = torch.zeros_like(rows)
        zero = torch.zeros(len(rows), device=x.device)
        return cls(
            row=rows,
            x=images,
            y=y[rows],
            current=images,
            momentum=images,
            k=none,
            step=none,
            warm=none.bool(),
            const=torch.full_like(zero, const),
            lower=zero,
            upper=torch.full_like(zero, torch.inf),
            first_margin=zero,
            first_gradient=torch.zeros_like(images),
            lowest=torch.full_like(zero, torch.inf),
            lowest_k=none,
        )

    def __len__(self) -> int:
        return len(self.row)

    def joined(self, other: InFlight) -> InFlight:
        """These images, then the others."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return InFlight(*(torch.cat(pair) for pair in pairs))

    def only(self, which: Tensor) -> InFlight:
        """Those of `which` (n,) bool."""
        if which.all():
            return self
        return InFlight(*(getattr(self, f.name)[which] for f in fields(self)))

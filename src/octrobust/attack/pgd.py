"""Projected gradient ascent within a ball (PGD: Madry et al. 2018).

It climbs the logit margin. With two classes its gradient is that of the cross-entropy but for a
positive factor, which normalising takes out, and unlike it does not vanish where the network is
sure.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from octrobust.attack import distances
from octrobust.attack.in_flight import per_image

NORMS = ("L2", "Linf")
# Margins (N,) and their gradients (N, C, H, W) at images (N, C, H, W).
MarginAndGradient = Callable[[Tensor], tuple[Tensor, Tensor]]


def random_start(x: Tensor, budget: float, norm: str, generator: torch.Generator | None) -> Tensor:
    """Somewhere in the ball: noise of a random share of the budget, (N, C, H, W) in [0, 1].

    Args:
        x: (N, C, H, W) float32 in [0, 1].
        budget: radius; pixels count in [0, 1].
        norm: L2 (Gaussian direction) or Linf (uniform in the cube).
        generator: on x's device; None: torch's own.
    """
    if norm == "Linf":
        cube = torch.rand(x.shape, generator=generator, device=x.device) * 2 - 1
        return (x + budget * cube).clamp(0.0, 1.0)
    noise = torch.randn(x.shape, generator=generator, device=x.device)
    share = torch.rand(len(x), generator=generator, device=x.device)
    return (x + per_image(budget * share) * _unit(noise)).clamp(0.0, 1.0)


def ascend(
    ask: MarginAndGradient,
    x: Tensor,
    start: Tensor,
    budget: float,
    *,
    norm: str,
    steps: int,
    step_size: float,
    keep_best: bool = False,
) -> Tensor:
    """`steps` steps of `step_size` up the margin, never farther than `budget` from x.

    Args:
        ask: the margin beyond the decision boundary, and its gradient.
        x, start: (N, C, H, W) float32 in [0, 1]; start within the ball.
        budget, step_size: in `norm`.
        norm: L2 or Linf.
        keep_best: the iterate of the highest margin, for one more pass than there are steps;
            else the last.

    Returns:
        (N, C, H, W) float32 in [0, 1], each within the budget up to rounding.

    Raises:
        ValueError: an unknown norm, or a budget, step size or number of steps not above 0.
    """
    if norm not in NORMS or min(budget, step_size, steps) <= 0:
        raise ValueError(f"norm {norm}, budget {budget}, step_size {step_size}, steps {steps}")
    at, best, highest = start, start, torch.full((len(x),), -torch.inf, device=x.device)
    for _ in range(steps):
        margins, gradient = ask(at)
        if keep_best:
            best = torch.where(per_image(margins > highest), at, best)
            highest = torch.maximum(margins, highest)
        direction = gradient.sign() if norm == "Linf" else _unit(gradient)
        at = project(x, at + step_size * direction, budget, norm)
    if not keep_best:
        return at
    return torch.where(per_image(ask(at)[0] > highest), at, best)


def project(x: Tensor, x_adv: Tensor, budget: float, norm: str) -> Tensor:
    """Back into the ball around x, then into [0, 1], which leads no farther from x."""
    change = x_adv - x
    if norm == "Linf":
        change = change.clamp(-budget, budget)
    else:
        length = distances.total(change.square()).sqrt()
        change = change * per_image((budget / length.clamp(min=1e-12)).clamp(max=1.0))
    return (x + change).clamp(0.0, 1.0)


def _unit(values: Tensor) -> Tensor:
    """Each (C, H, W) at L2 norm 1; zero stays zero."""
    return values / per_image(distances.total(values.square()).sqrt().clamp(min=1e-12))

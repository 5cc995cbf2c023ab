"""Projected gradient ascent within a ball (PGD: Madry et al. 2018).

It climbs the logit margin. With two classes its gradient is that of the cross-entropy but for a
positive factor, which normalising takes out, and unlike it does not vanish where the network is
sure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octrobust.attack import distances
from octrobust.attack.in_flight import per_image
from octrobust.attack.search_model import SearchModel, margin
from octrobust.attack.speed import Speed, Spent
from octrobust.model.predict import evaluating, float32, logits

NORMS = ("L2", "Linf")
_STRIDE = 2.5  # steps of an attack cross the ball so many times
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


class Views:
    """The search's view of a network, folded once for all that share it; the network must stay
    as it is meanwhile."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._views: dict[int, SearchModel] = {}

    def of(self, x: Tensor) -> SearchModel:
        """For images like x (N, C, H, W); the network in eval mode."""
        channels = x.shape[1]
        if channels not in self._views:
            self._views[channels] = SearchModel(
                self.model, channels, x.device, targeted=False, speed=Speed(), spent=Spent()
            )
        return self._views[channels]


@dataclass(frozen=True)
class Pgd:
    """PGD from the image itself, then from random starts: of their best iterates, the candidate of
    highest margin. With one step it is FGSM (Goodfellow et al. 2015) in its norm: the whole budget
    at once, from the image alone."""

    views: Views
    norm: str
    budget: float
    steps: int
    restarts: int
    seed: int

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        with evaluating(self.views.model), torch.no_grad():
            view = self.views.of(x)
            generator = torch.Generator(x.device).manual_seed(self.seed)
            best = (x, torch.full((len(x),), -torch.inf, device=x.device))
            single = self.steps == 1
            more = 0 if single else self.restarts
            step_size = self.budget if single else _STRIDE * self.budget / self.steps
            for start in [x] + [self._anywhere(x, generator) for _ in range(more)]:
                candidate = ascend(
                    lambda at: view.margin_and_gradient(at, y),
                    x,
                    start,
                    self.budget,
                    norm=self.norm,
                    steps=self.steps,
                    step_size=step_size,
                    keep_best=not single,
                )
                best = better(self.views.model, y, best, candidate)
        return best[0]

    def _anywhere(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return random_start(x, self.budget, self.norm, generator)


def better(
    model: nn.Module, y: Tensor, best: tuple[Tensor, Tensor], candidate: Tensor
) -> tuple[Tensor, Tensor]:
    """Image by image, the one that the network itself has the higher margin at: the images
    (N, C, H, W) and their margins (N,)."""
    with float32():
        margins = margin(logits(model, candidate).float(), y, False)
    higher = margins > best[1]
    return torch.where(higher[:, None, None, None], candidate, best[0]), margins.maximum(best[1])

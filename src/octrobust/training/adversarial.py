"""Objectives that attack the model afresh in every step of its training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from octrobust.attack.pgd import ascend, random_start
from octrobust.attack.search_model import margin
from octrobust.config import Inner
from octrobust.training.objectives import Clean

# Steps are so long that they would cross the ball's radius one and a half times.
_STRIDE = 1.5


class Online:
    """Adversarial training (Madry et al. 2018): the loss on examples made afresh every step.

    They are made against the model as it stands, in eval mode. The budget grows from nothing over
    the first `ramp` of training: a network that has learnt nothing yet learns nothing from images
    changed at will.
    """

    def __init__(self, inner: Inner) -> None:
        self.inner = inner

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, done: float) -> tuple[Tensor, Tensor]:
        budget = self.budget(done)
        if budget:
            x = self._worst(model, x, y, budget, self.inner.steps)
        logits = model(x).float()
        return cross_entropy(logits, y), logits

    def challenge(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor | None:
        """By PGD from the image itself, with `validation_budget` and `validation_steps`."""
        inner = self.inner
        return attacked(model, x, x, y, inner.validation_budget, inner.norm, inner.validation_steps)

    def budget(self, done: float) -> float:
        """That of this moment of training."""
        return self.inner.budget * (min(done / self.inner.ramp, 1.0) if self.inner.ramp else 1.0)

    def _worst(self, model: nn.Module, x: Tensor, y: Tensor, budget: float, steps: int) -> Tensor:
        start = random_start(x, budget, self.inner.norm, None)
        return attacked(model, x, start, y, budget, self.inner.norm, steps)


class Trades(Online):
    """TRADES (Zhang et al. 2019, eq. 5): clean cross-entropy, plus `inner.weight` times the
    divergence of the outputs at the worst image near from those at the clean one.

    The worst image near is where the margin is least, as in `Online`, not where the divergence is
    largest; with two classes and a right answer the two are the same.
    """

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, done: float) -> tuple[Tensor, Tensor]:
        budget = self.budget(done)
        if not budget:
            return Clean().loss(model, x, y, done)
        worst = self._worst(model, x, y, budget, self.inner.steps)
        clean, adversarial = model(torch.cat([x, worst])).float().chunk(2)
        apart = kl_div(
            log_softmax(adversarial, 1),
            log_softmax(clean, 1),
            log_target=True,
            reduction="batchmean",
        )
        return cross_entropy(clean, y) + (self.inner.weight or 0.0) * apart, adversarial


def attacked(
    model: nn.Module, x: Tensor, start: Tensor, y: Tensor, budget: float, norm: str, steps: int
) -> Tensor:
    """PGD's last iterate on a model as it stands, in eval mode meanwhile; its parameters get no
    gradient. Shapes as in `octrobust.attack.pgd.ascend`."""

    def ask(at: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            at = at.detach().requires_grad_(True)
            margins = margin(model(at).float(), y, False)
            (gradient,) = torch.autograd.grad(margins.sum(), at)
        return margins.detach(), gradient.float()

    training = model.training
    model.eval()
    try:
        return ascend(
            ask, x, start, budget, norm=norm, steps=steps, step_size=_STRIDE * budget / steps
        )
    finally:
        model.train(training)

"""Objectives that attack the model afresh in every step of its training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from octrobust.attack.pgd import ascend, random_start
from octrobust.attack.search_model import SearchModel
from octrobust.attack.speed import Speed, Spent
from octrobust.config import Inner
from octrobust.distributed.share import Share
from octrobust.model.predict import evaluating
from octrobust.training.objectives import Clean, Outputs

# Steps are so long that they would cross the ball's radius one and a half times.
_STRIDE = 1.5


class Online:
    """Adversarial training (Madry et al. 2018): the loss on examples made afresh every step.

    They are made against the model as it stands, in eval mode. The budget grows from nothing over
    the first `ramp` of training: a network that has learnt nothing yet learns nothing from images
    changed at will.

    Args:
        inner: the attack of every step.
        precision: of that attack: auto, fp32 or bf16.
    """

    def __init__(self, inner: Inner, precision: str = "auto") -> None:
        self.inner, self.precision = inner, precision

    def loss(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        done: float,
        outputs: Outputs | None = None,
        share: Share | None = None,
    ) -> tuple[Tensor, Tensor]:
        budget = self.budget(done)
        if budget:
            x = self._worst(model, x, y, budget, share)
        logits = (outputs or model)(x).float()
        return cross_entropy(logits, y), logits

    def challenge(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor | None:
        """By PGD from the image itself, with `validation_budget` and `validation_steps`."""
        inner = self.inner
        return self._attacked(model, x, x, y, inner.validation_budget, inner.validation_steps)

    def budget(self, done: float) -> float:
        """That of this moment of training."""
        return self.inner.budget * (min(done / self.inner.ramp, 1.0) if self.inner.ramp else 1.0)

    def _worst(
        self, model: nn.Module, x: Tensor, y: Tensor, budget: float, share: Share | None
    ) -> Tensor:
        def anywhere(images: Tensor) -> Tensor:
            return random_start(images, budget, self.inner.norm, None)

        start = share.draw(x, anywhere) if share else anywhere(x)
        return self._attacked(model, x, start, y, budget, self.inner.steps)

    def _attacked(
        self, model: nn.Module, x: Tensor, start: Tensor, y: Tensor, budget: float, steps: int
    ) -> Tensor:
        """PGD's last iterate on the model as it stands, on a faster copy where there is one."""
        view = SearchModel(
            model,
            x.shape[1],
            x.device,
            targeted=False,
            speed=Speed(precision=self.precision, fill=False),
            spent=Spent(),
        )
        with evaluating(model):
            return ascend(
                lambda at: view.margin_and_gradient(at, y),
                x,
                start,
                budget,
                norm=self.inner.norm,
                steps=steps,
                step_size=_STRIDE * budget / steps,
            )


class Trades(Online):
    """TRADES (Zhang et al. 2019, eq. 5): clean cross-entropy, plus `inner.weight` times the
    divergence of the outputs at the worst image near from those at the clean one.

    The worst image near is where the margin is least, as in `Online`, not where the divergence is
    largest; with two classes and a right answer the two are the same.
    """

    def loss(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        done: float,
        outputs: Outputs | None = None,
        share: Share | None = None,
    ) -> tuple[Tensor, Tensor]:
        budget = self.budget(done)
        if not budget:
            return Clean().loss(model, x, y, done, outputs)
        worst = self._worst(model, x, y, budget, share)
        clean, adversarial = (outputs or model)(torch.cat([x, worst])).float().chunk(2)
        apart = kl_div(
            log_softmax(adversarial, 1),
            log_softmax(clean, 1),
            log_target=True,
            reduction="batchmean",
        )
        return cross_entropy(clean, y) + (self.inner.weight or 0.0) * apart, adversarial

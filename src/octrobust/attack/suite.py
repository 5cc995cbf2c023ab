"""The battery: many attacks on one network, each judged in the same way.

Every attack turns images into candidates; what they are worth is measured afterwards, on the
candidates, by the network itself. Those of other hands run through ART: see `through_art`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from octrobust.attack import distances, through_art
from octrobust.attack.elastic_net import ElasticNet
from octrobust.attack.pgd import Pgd, Views, better, project
from octrobust.attack.through_art import Candidates
from octrobust.config import AttackSizes, middle
from octrobust.data.jpeg import through_jpeg
from octrobust.model.predict import evaluating, float32, logits

Kind = Literal["white-box", "score", "label", "noise"]
JUDGED = ("success", "success_8bit", "success_jpeg", "success_grey")
JPEG_QUALITY = 90
NORMS = {"l2": "L2", "linf": "Linf"}
_LONG = 4  # times the steps, at the middle budget of each norm: does PGD still gain?
_STRETCHES = 8  # of clipped noise back to its norm


@dataclass(frozen=True)
class Attack:
    """One attack at one setting.

    Attributes:
        method: unique in a battery together with norm and budget; `name` is made of the three.
        kind: what it sees of the network: gradients, scores, labels or nothing.
        norm, budget: the ball; None: it looks for the smallest change instead.
        run: images and classes to candidates.
    """

    method: str
    kind: Kind
    norm: str | None
    budget: float | None
    run: Candidates

    @property
    def name(self) -> str:
        return self.method if self.norm is None else f"{self.method}_{self.norm}_{self.budget:g}"


def battery(
    model: nn.Module, elastic_net: dict[str, ElasticNet], sizes: AttackSizes
) -> list[Attack]:
    """The attacks on `model`, cheap ones first.

    Args:
        model: (N, C, H, W) float32 in [0, 1] to logits (N, 2); C as the images'.
        elastic_net: EAD at its settings, by name.
        sizes: how hard to try; steps and seed count for every attack that has them.
    """
    attacks = []
    views = Views(model)
    for norm in NORMS:
        for budget in sorted(getattr(sizes, norm)):
            attacks += _within(views, norm, budget, sizes)
    attacks += [
        Attack(name, "white-box", None, None, ead.generate) for name, ead in elastic_net.items()
    ]
    attacks.append(Attack("deepfool", "white-box", None, None, through_art.deep_fool(model, sizes)))
    if sizes.hop_skip_jump_rounds:
        attacks.append(
            Attack("hop_skip_jump", "label", None, None, through_art.hop_skip_jump(model, sizes))
        )
    return attacks


def _within(views: Views, norm: str, budget: float, sizes: AttackSizes) -> list[Attack]:
    """Those that stay within a budget."""
    model, pgd = views.model, partial(Pgd, views, NORMS[norm], budget)
    steps, restarts = sizes.steps, sizes.restarts
    plans: list[tuple[str, Kind, Candidates]] = [
        ("fgsm", "white-box", pgd(1, 0, sizes.seed)),
        ("pgd", "white-box", pgd(steps, restarts, sizes.seed)),
        ("apgd", "white-box", through_art.apgd(model, norm, budget, sizes)),
    ]
    if budget == middle(getattr(sizes, norm)):
        plans.append(("pgd_long", "white-box", pgd(_LONG * steps, restarts, sizes.seed)))
    if sizes.square_queries and norm == "linf":
        plans.append(("square", "score", through_art.square(model, budget, sizes)))
    if sizes.noise_draws:
        plans.append(("noise", "noise", _noise(model, norm, budget, sizes)))
    return [Attack(method, kind, norm, budget, run) for method, kind, run in plans]


def _noise(model: nn.Module, norm: str, budget: float, sizes: AttackSizes) -> Candidates:
    """The worst of several draws of noise at the full budget: what any smaller drop is worth."""

    def run(x: Tensor, y: Tensor) -> Tensor:
        generator = torch.Generator(x.device).manual_seed(sizes.seed)
        best = (x, torch.full((len(x),), -torch.inf, device=x.device))
        with evaluating(model), torch.no_grad():
            for _ in range(sizes.noise_draws):
                noise = torch.randn(x.shape, generator=generator, device=x.device)
                best = better(model, y, best, _at_full_budget(x, noise, budget, norm))
        return best[0]

    return run


def _at_full_budget(x: Tensor, noise: Tensor, budget: float, norm: str) -> Tensor:
    """x changed in the noise's direction by the whole budget: clipping to [0, 1] takes much of it
    where an image is black, so what is left is stretched again."""
    if norm == "linf":
        return project(x, x + noise.sign() * budget, budget, NORMS[norm])
    change = noise
    for _ in range(_STRETCHES):
        length = distances.total(change.square()).sqrt()[:, None, None, None]
        change = (x + change * (budget / length.clamp(min=1e-12))).clamp(0.0, 1.0) - x
    return project(x, x + change, budget, NORMS[norm])


def judge(
    model: nn.Module, x: Tensor, y: Tensor, right: Tensor, candidates: Tensor, beta: float
) -> dict[str, NDArray[Any]]:
    """What candidates are worth: (N,) each of JUDGED (bool), and their distances.

    A candidate is a success where the network is `right` (N,) on x and wrong on it; one of those
    that an image file could hold where it is wrong after rounding to 8 bits, after JPEG of quality
    JPEG_QUALITY, and with one grey channel in place of three. Distances are of the candidate, NaN
    where it is no success.
    """

    def wrong(images: Tensor) -> Tensor:
        return logits(model, images).argmax(1) != y

    with torch.inference_mode(), float32():
        success = right & wrong(candidates)
        survives = {
            "success": success,
            "success_8bit": success & wrong((candidates * 255).round() / 255),
            "success_jpeg": success & wrong(through_jpeg(candidates, JPEG_QUALITY)),
            "success_grey": success & wrong(candidates.mean(1, keepdim=True).expand_as(x)),
        }
    found: dict[str, NDArray[Any]] = {k: v.cpu().numpy() for k, v in survives.items()}
    for name in distances.NAMES:
        measured = distances.measure(name, x, candidates, beta)
        found[name] = measured.masked_fill(~success, torch.nan).cpu().numpy()
    return found

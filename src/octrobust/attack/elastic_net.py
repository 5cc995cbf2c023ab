"""The Elastic-Net attack (EAD).

Chen, Sharma, Zhang, Yi, Hsieh: *EAD: Elastic-Net Attacks to Deep Neural Networks via
Adversarial Examples*, AAAI 2018. Equation and algorithm numbers below are that paper's.

Here stands the algorithm. What makes it fast stands beside it: `search_model` (a cheaper view of
the network), `screens` (which iterates to ask about), `verdicts` (the original network is asked
in whole batches), `search` and `in_flight` (the batch stays full), `shortcuts` and `speed` (what
can be switched). `projection` is another way to the same minimum.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from octrobust.attack import distances
from octrobust.attack.in_flight import InFlight, per_image
from octrobust.attack.projection import ProjectionSearch
from octrobust.attack.screens import EveryIterate, LikelyIterates, Screen
from octrobust.attack.search import Progress, Search
from octrobust.attack.search_model import margin
from octrobust.attack.shortcuts import linear_const, settled
from octrobust.attack.speed import Shortcuts, Speed, Spent
from octrobust.model.predict import evaluating, filling, float32, logits

DECISION_RULES = ("EN", "L1", "L2")
# c never grows beyond this (the original's 1e10).
_UNBOUNDED = 1e10


@dataclass(frozen=True)
class ElasticNetResult:
    """What the attack found and what it cost; N images.

    Attributes:
        x_adv: (N, C, H, W) float32 in [0, 1]; the clean image where there is no success.
        success: (N,) bool, found by the attack, and verified on `x_adv` by the original network
            in float32; false where the clean image has the confidence wanted already.
        already: (N,) bool, was wrong (targeted: already at the target) before any change.
        l0, l1, l2, linf: (N,) float32 distances of `x_adv` from x; 0 where there is no success.
        elastic_net: (N,) float32, squared l2 + beta * l1.
        const: (N,) float32, the c at which `x_adv` was found (solver projection: of the projection
            it lies on the way to); NaN where there is no success.
        iterations: (N,) int64, made for the image.
    """

    x_adv: Tensor
    success: Tensor
    already: Tensor
    l0: Tensor
    l1: Tensor
    l2: Tensor
    linf: Tensor
    elastic_net: Tensor
    const: Tensor
    iterations: Tensor


class ElasticNet:
    """EAD by FISTA with a per-sample binary search on c (Algorithm 1).

    Minimises ``c f(x') + ||x' - x||_2^2 + beta ||x' - x||_1`` over x' in [0, 1] (eq. 7), f being
    the hinge on the logit margin (eq. 4 and 5), and returns the successful iterate closest to x
    by the decision rule. A sample's result does not depend on the others in its batch, unless
    `speed.fill` is off.

    Args:
        model: images (N, C, H, W) float32 in [0, 1] to logits (N, K), K >= 2. It is put in eval
            mode while the attack runs; its parameters and their gradients are left alone.
            Inception-ResNet-V1 is searched on a faster copy.
        learning_rate: first step size, decayed with the square root of the time left.
        binary_search_steps: values of c tried for a sample.
        max_iter: FISTA iterations for each c.
        beta: weight of the L1 term, and the shrinkage threshold (eq. 8).
        initial_const: first c; times 10 until a success, then bisected.
        confidence: logit margin by which an example must be misclassified.
        decision_rule: EN, L1 or L2.
        targeted: y is the class wanted, not the class to leave.
        batch_size: images attacked at once, rounded up to whole batches as the network sees
            them (16 on a CPU, 64 on CUDA); None: one such. Changes speed and memory only, but
            for `speed.fill`.
        speed: speed-ups that keep the result.
        shortcuts: options that change it. With the solver "projection" learning_rate and
            initial_const count only for the images that it finds nothing for, and of
            binary_search_steps and max_iter otherwise the product.

    Attributes:
        spent: what the last `run` asked of the network, in images.

    Raises:
        ValueError: a parameter out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float = 0.01,
        binary_search_steps: int = 9,
        max_iter: int = 100,
        beta: float = 0.001,
        initial_const: float = 0.001,
        confidence: float = 0.0,
        decision_rule: str = "EN",
        targeted: bool = False,
        batch_size: int | None = None,
        speed: Speed | None = None,
        shortcuts: Shortcuts | None = None,
    ) -> None:
        for name, value in (
            ("binary_search_steps", binary_search_steps),
            ("max_iter", max_iter),
            ("batch_size", 1 if batch_size is None else batch_size),
        ):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
        if not 0 < learning_rate < math.inf or not 0 < initial_const < math.inf:
            raise ValueError("learning_rate and initial_const must be finite and greater than 0")
        if not 0 <= beta < math.inf or not 0 <= confidence < math.inf:
            raise ValueError("beta and confidence must be finite and 0 or more")
        if decision_rule not in DECISION_RULES:
            raise ValueError(f"decision_rule must be one of {', '.join(DECISION_RULES)}")
        self.model = model
        self.learning_rate = learning_rate
        self.binary_search_steps = binary_search_steps
        self.max_iter = max_iter
        self.beta = beta
        self.initial_const = initial_const
        self.confidence = confidence
        self.decision_rule = decision_rule
        self.targeted = targeted
        self.batch_size = batch_size
        self.speed = speed or Speed()
        self.shortcuts = shortcuts or Shortcuts()
        self.spent = Spent()
        self._last_class = -1  # that is asked for; read once, not at every verdict

    def generate(self, x: Tensor, y: Tensor) -> Tensor:
        """Adversarial images (N, C, H, W) float32 in [0, 1]; unchanged where none was found."""
        return self.run(x, y).x_adv

    def run(self, x: Tensor, y: Tensor, progress: Progress | None = None) -> ElasticNetResult:
        """Attack images.

        Args:
            x: (N, C, H, W) float32 in [0, 1].
            y: (N,) int64, the true classes (targeted: the classes wanted).
            progress: called with the number of image iterations just made or skipped;
                binary_search_steps * max_iter in all for every image that is attacked.

        Returns:
            Everything found, on x's device, in x's order.

        Raises:
            ValueError: shapes, types or ranges other than these, of images or outputs; logits or
                gradients that are not numbers, of all images (of some: a warning); no way back
                from the logits to x. A gradient of zero is a warning.
        """
        _check_images(x, y)
        home = x.device
        self.spent = Spent()
        self._last_class = int(y.amax()) if len(y) else -1
        if not len(x):
            return _empty(x)
        # Whatever mode the caller is in: no graph over the run, and gradients where it asks.
        with evaluating(self.model), torch.inference_mode(False), torch.no_grad():
            device = next(self.model.parameters(), x).device
            x, y = x.detach().to(device, copy=True).contiguous(), y.to(device, copy=True)
            margins = self.margins(x, y)
            if margins.isnan().all():
                raise ValueError("the model's logits are not numbers")
            already = margins > 0
            rows = torch.nonzero(~self.is_success(margins)).flatten()
            kind = FistaSearch if self.shortcuts.solver == "fista" else ProjectionSearch
            search = kind(self, x, y, margins, progress)
            search.run(rows)
            if isinstance(search, ProjectionSearch):
                self._second_chance(search, x, y, rows)
            unfound = torch.isinf(search.verdicts.distance)
            _say_lost((search.view.lost & unfound)[rows], len(x))
            _say_flat((search.view.flat & unfound)[rows], len(x))
            return self._result(search, already, home)

    def _second_chance(self, search: ProjectionSearch, x: Tensor, y: Tensor, rows: Tensor) -> None:
        """The published algorithm where the other solver found nothing, so that no image is lost
        by choosing that: where the gradient says little of what lies further on, its long steps
        may still come across a success."""
        lost = torch.isinf(search.verdicts.distance) & ~search.stuck
        rows = rows[lost[rows]]
        if not len(rows):
            return
        again = FistaSearch(self, x[rows], y[rows], search.view.clean_margins[rows], None)
        again.run(torch.arange(len(rows), device=x.device))
        search.verdicts.take(rows, again.verdicts)
        search.view.lost[rows] = again.view.lost
        search.iterations[rows] += again.iterations

    def _result(self, search: Search[Any], already: Tensor, home: torch.device) -> ElasticNetResult:
        found, x = search.verdicts, search.x
        values = (
            found.x_adv,
            torch.isfinite(found.distance),
            already,
            *(distances.measure(name, x, found.x_adv, self.beta) for name in distances.NAMES),
            found.const,
            search.iterations,
        )
        return ElasticNetResult(*(value.to(home) for value in values))

    def margins(self, x: Tensor, y: Tensor) -> Tensor:
        """Margins (N,) of the original network in float32."""
        self.spent.verdicts += len(x)
        self.spent.filled_forwards += filling(len(x), x.device, fill=self.speed.fill)
        with float32():
            outputs = logits(self.model, x, fill=self.speed.fill).float()
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            raise ValueError(f"the model must give (N, K) logits, K >= 2: {tuple(outputs.shape)}")
        if outputs.shape[1] <= self._last_class:
            raise ValueError(f"y must be classes 0 to {outputs.shape[1] - 1} of the model's")
        return margin(outputs, y, self.targeted)

    def is_success(self, margins: Tensor) -> Tensor:
        """Where margins (n,) are those of a success: (n,) bool."""
        return (margins > 0) & (margins >= self.confidence)


class FistaSearch(Search[InFlight]):
    """FISTA for the images in flight, each at its own c, iteration and search step."""

    asks_twice = True

    def __init__(
        self,
        attack: ElasticNet,
        x: Tensor,
        y: Tensor,
        clean_margins: Tensor,
        progress: Progress | None,
    ) -> None:
        super().__init__(attack, x, y, clean_margins, progress)
        judged = EveryIterate if self.shortcuts.screen == "every" else LikelyIterates
        self.screen: Screen = judged(
            self.verdicts,
            clean_margins,
            attack.decision_rule,
            attack.beta,
            attack.confidence,
            attack.max_iter,
        )
        k = torch.arange(attack.max_iter + 1, dtype=torch.float64)
        rates = attack.learning_rate * (1 - k / attack.max_iter).sqrt()
        self.rates = rates.float().to(x.device)
        self.momenta = (k / (k + 3)).float().to(x.device)

    def _board(self, rows: Tensor) -> InFlight:
        return InFlight.board(rows, self.x, self.attack.initial_const)

    def _iterate(self, at: InFlight) -> Tensor:
        """An iteration of Algorithm 1 for every image in flight, each at its own k and c."""
        first = (at.step == 0) & (at.k == 0)
        margins, gradient = self.view.margin_and_gradient(at.momentum, at.row, first)
        self._remember(at, first, margins, gradient)
        over = self.screen.before_step(at, margins, gradient) | self._settled(at, margins)
        self._step(at, margins, gradient, ~over)
        return over | self.screen.after_step(at, ~over) | self._stuck(at)

    def _step(self, at: InFlight, margins: Tensor, gradient: Tensor, which: Tensor) -> None:
        """A FISTA step for the images of `which` (n,) bool, from the momentum point."""
        attack, k = self.attack, at.k.clamp(max=self.attack.max_iter)
        active = margins <= attack.confidence  # the hinge is
        smooth = 2 * (at.momentum - at.x) - per_image(at.const * active) * gradient  # of g, eq. 7
        following = shrink(at.momentum - per_image(self.rates[k]) * smooth, at.x, attack.beta)
        momentum = following + per_image(self.momenta[k]) * (following - at.current)
        at.momentum = torch.where(per_image(which), momentum, at.momentum)
        at.current = torch.where(per_image(which), following, at.current)
        at.k = at.k + which
        self.iterations[at.row] += which
        self.tally.add(which)

    def _next_stage(self, at: InFlight, over: Tensor) -> Tensor:
        """Raise or bisect c where the search step is over, and begin the next one there."""
        attack = self.attack
        while over.any():
            self.verdicts.settle(at.row[over], best=self.shortcuts.warm_start)
            found = self.verdicts.found[at.row]
            at.upper = torch.where(over & found, torch.minimum(at.upper, at.const), at.upper)
            at.lower = torch.where(over & ~found, torch.maximum(at.lower, at.const), at.lower)
            bracketed = at.upper < _UNBOUNDED
            tenfold = (at.const * 10).clamp(max=_UNBOUNDED)
            const = torch.where(bracketed, (at.lower + at.upper) / 2, tenfold)
            at.const = torch.where(over, const, at.const)
            self.verdicts.begin(at.row[over])
            self.tally.add((attack.max_iter - at.k) * over)
            at.step = at.step + over
            over = over & (at.step < attack.binary_search_steps)
            over = self._restart(at, over)
        return at.step < attack.binary_search_steps

    def _restart(self, at: InFlight, which: Tensor) -> Tensor:
        """Back to the start for those of `which` (n,) bool. (n,) bool: where the search step is
        over as soon as begun."""
        warm = torch.isfinite(self.verdicts.distance[at.row]) & self.shortcuts.warm_start
        at.warm = torch.where(which, warm, at.warm)
        start = torch.where(per_image(warm), self.verdicts.x_adv[at.row], at.x)
        at.current = torch.where(per_image(which), start, at.current)
        at.momentum = torch.where(per_image(which), start, at.momentum)
        at.k = at.k.masked_fill(which, 0)
        at.lowest = at.lowest.masked_fill(which, torch.inf)
        at.lowest_k = at.lowest_k.masked_fill(which, 0)
        known = which & ~warm & self.attack.speed.reuse_first_gradient
        clean_margin = self.view.clean_margins[at.row]
        at.lowest = torch.where(known, self._loss(at, clean_margin), at.lowest)
        self._step(at, clean_margin, at.first_gradient, known)
        stuck = known & self._stuck(at)
        return stuck | self.screen.after_step(at, known & ~stuck)

    def _stuck(self, at: InFlight) -> Tensor:
        """Where the first step did not leave the clean image: no later one can, for the gradient
        stays the same and the step size falls."""
        if not self.attack.speed.reuse_first_gradient:
            return torch.zeros_like(at.k, dtype=torch.bool)
        return (at.k == 1) & ~at.warm & (at.current == at.x).flatten(1).all(1)

    def _remember(self, at: InFlight, first: Tensor, margins: Tensor, gradient: Tensor) -> None:
        """What holds for all search steps, of images whose first (n,) bool look this is."""
        at.first_gradient = torch.where(per_image(first), gradient, at.first_gradient)
        if self.shortcuts.first_const == "linear":
            const = linear_const(margins, gradient, self.attack.confidence)
            const = const.clamp(self.attack.initial_const, _UNBOUNDED)
            at.const = torch.where(first, const, at.const)

    def _settled(self, at: InFlight, margins: Tensor) -> Tensor:
        if self.shortcuts.patience is None:
            return torch.zeros_like(at.k, dtype=torch.bool)
        return settled(at, self._loss(at, margins), self.shortcuts.patience)

    def _loss(self, at: InFlight, margins: Tensor) -> Tensor:
        """The loss of eq. 7 (n,) at the momentum points, from their margins (n,)."""
        hinge = (self.attack.confidence - margins).clamp(min=0.0)
        return at.const * hinge + distances.elastic_net(at.x, at.momentum, self.attack.beta)


def shrink(z: Tensor, x: Tensor, beta: float) -> Tensor:
    """Projected shrinkage-thresholding S_beta (eq. 8): values that moved by beta or less return
    to x; others come back by beta and stay in [0, 1]. All (N, C, H, W)."""
    moved = z - x
    nearer = z - beta * moved.sign()
    return torch.where(moved.abs() > beta, nearer.clamp(0.0, 1.0), x)


def _check_images(x: Tensor, y: Tensor) -> None:
    if x.ndim != 4 or x.dtype != torch.float32:
        raise ValueError(f"x must be (N, C, H, W) float32, not {tuple(x.shape)} {x.dtype}")
    if y.shape != x.shape[:1] or y.dtype != torch.int64:
        raise ValueError(f"y must be ({len(x)},) int64, not {tuple(y.shape)} {y.dtype}")
    if len(y) and y.amin() < 0:
        raise ValueError("y must be classes from 0 on")
    if len(x) and not (x.amin() >= 0 and x.amax() <= 1):  # NaN fails as well
        raise ValueError("x must lie in [0, 1]; put any standardisation inside the model")


def _say_lost(lost: Tensor, images: int) -> None:
    """Images without a success that had a gradient which was no number, (n,) bool, of so many in
    all: not robust, not attacked."""
    if not lost.any():
        return
    count = int(lost.sum())
    what = f"the gradient of the model's logits was no number at {count} of {images} images"
    if count == images:
        raise ValueError(what)
    warnings.warn(f"{what}: failures of the attack", stacklevel=3)


def _say_flat(flat: Tensor, images: int) -> None:
    """Images without a success whose gradient was zero, (n,) bool: the network hides it, by
    rounding say, or is constant there. No error: of a dead network that is the finding."""
    if flat.any():
        warnings.warn(
            f"the gradient of the model's logits was zero at {int(flat.sum())} of {images} images: "
            "failures of the attack, unless the model is constant there",
            stacklevel=3,
        )


def _empty(x: Tensor) -> ElasticNetResult:
    none = torch.zeros(0, device=x.device)  # of images there are none
    values = {f.name: none for f in fields(ElasticNetResult)}
    values |= {"x_adv": x, "success": none.bool(), "already": none.bool()}
    return ElasticNetResult(**{**values, "iterations": none.long()})

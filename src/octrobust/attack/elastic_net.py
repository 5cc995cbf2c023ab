"""The Elastic-Net attack (EAD).

Chen, Sharma, Zhang, Yi, Hsieh: *EAD: Elastic-Net Attacks to Deep Neural Networks via
Adversarial Examples*, AAAI 2018. Equation and algorithm numbers below are that paper's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from octrobust.attack import distances
from octrobust.model.predict import logits

DECISION_RULES = ("EN", "L1", "L2")
# Above this, the upper end of a sample's bracket on c counts as unknown (the original's 1e10).
_UNBOUNDED = 1e10


@dataclass(frozen=True)
class ElasticNetResult:
    """What the attack found and what it cost; N images.

    Attributes:
        x_adv: (N, C, H, W) float32 in [0, 1]; the clean image where there is no success.
        success: (N,) bool, verified on `x_adv`; never true where `already` is.
        already: (N,) bool, was wrong (targeted: already at the target) before any change.
        l0, l1, l2, linf: (N,) float32 distances of `x_adv` from x; 0 where there is no success.
        elastic_net: (N,) float32, squared l2 + beta * l1.
        const: (N,) float32, the c at which `x_adv` was found; NaN where there is no success.
        iterations: (N,) int64, gradient steps spent on the image.
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
    by the decision rule. A sample's result does not depend on the others in its batch.

    Args:
        model: images (N, C, H, W) float32 in [0, 1] to logits (N, K), K >= 2. It is put in eval
            mode while the attack runs; its parameters and their gradients are left alone.
        learning_rate: first step size, decayed with the square root of the time left.
        binary_search_steps: values of c tried for a sample.
        max_iter: FISTA iterations for each c.
        beta: weight of the L1 term, and the shrinkage threshold (eq. 8).
        initial_const: first c; times 10 until a success, then bisected.
        confidence: logit margin by which an example must be misclassified.
        decision_rule: EN, L1 or L2.
        targeted: y is the class wanted, not the class to leave.
        batch_size: images attacked at once; changes speed and memory only.

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
        batch_size: int = 32,
    ) -> None:
        for name, value in (
            ("binary_search_steps", binary_search_steps),
            ("max_iter", max_iter),
            ("batch_size", batch_size),
        ):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
        if not learning_rate > 0 or not initial_const > 0:
            raise ValueError("learning_rate and initial_const must be greater than 0")
        if not beta >= 0 or not confidence >= 0:
            raise ValueError("beta and confidence must be 0 or more")
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

    def generate(self, x: Tensor, y: Tensor) -> Tensor:
        """Adversarial images (N, C, H, W) float32 in [0, 1]; unchanged where none was found."""
        return self.run(x, y).x_adv

    def run(
        self, x: Tensor, y: Tensor, progress: Callable[[int], None] | None = None
    ) -> ElasticNetResult:
        """Attack images.

        Args:
            x: (N, C, H, W) float32 in [0, 1].
            y: (N,) int64, the true classes (targeted: the classes wanted).
            progress: called after each iteration with the number of images it advanced;
                at most N * binary_search_steps * max_iter in all.

        Returns:
            Everything found, on x's device, in x's order.

        Raises:
            ValueError: shapes, types or ranges other than these.
        """
        _check_images(x, y)
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            parts = [
                self._run_batch(x[i : i + self.batch_size], y[i : i + self.batch_size], progress)
                for i in range(0, len(x), self.batch_size)
            ]
        finally:
            for module, mode in modes:
                module.training = mode
        if not parts:
            return _empty(x)
        return ElasticNetResult(
            *(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(ElasticNetResult))
        )

    def _run_batch(
        self, x: Tensor, y: Tensor, progress: Callable[[int], None] | None
    ) -> ElasticNetResult:
        home = x.device
        parameter = next(self.model.parameters(), x)
        x, y = x.to(parameter.device), y.to(parameter.device)
        already = self._verdict(x, y, confidence=0.0)
        best = _Best.start(x)
        const = torch.full_like(best.distance, self.initial_const)
        lower, upper = torch.zeros_like(const), torch.full_like(const, _UNBOUNDED)
        todo = torch.nonzero(~already).flatten()
        for _ in range(self.binary_search_steps if len(todo) else 0):
            found = self._search_step(x[todo], y[todo], const[todo], todo, best, progress)
            hit, miss = todo[found], todo[~found]
            upper[hit] = torch.minimum(upper[hit], const[hit])
            lower[miss] = torch.maximum(lower[miss], const[miss])
            bracketed = upper < _UNBOUNDED
            const = torch.where(bracketed, (lower + upper) / 2, (const * 10).clamp(max=_UNBOUNDED))
        return self._result(x, best, already, home)

    def _search_step(
        self,
        x: Tensor,
        y: Tensor,
        const: Tensor,
        rows: Tensor,
        best: _Best,
        progress: Callable[[int], None] | None,
    ) -> Tensor:
        """FISTA at one c for each image: lines 3 to 7 of Algorithm 1. True where one succeeded."""
        found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        current, momentum = x, x
        for k in range(self.max_iter):
            rate = self.learning_rate * (1 - k / self.max_iter) ** 0.5
            step = momentum - rate * self._gradient(momentum, x, y, const)
            following = shrink(step, x, self.beta)
            momentum = following + k / (k + 3) * (following - current)
            current = following
            found |= self._keep_better(current, x, y, const, rows, best, found)
            best.iterations[rows] += 1
            if progress is not None:
                progress(len(x))
        return found

    def _gradient(self, at: Tensor, x: Tensor, y: Tensor, const: Tensor) -> Tensor:
        """Gradient at `at` of the smooth part g of eq. 7: ``c f(at) + ||at - x||_2^2``."""
        with torch.enable_grad():
            at = at.detach().requires_grad_(True)
            hinge = (self.confidence - self._margin(logits(self.model, at), y)).clamp(min=0.0)
            (gradient,) = torch.autograd.grad((const * hinge).sum(), at)
        return gradient + 2 * (at.detach() - x)

    def _margin(self, outputs: Tensor, y: Tensor) -> Tensor:
        """How far beyond the decision boundary, on the attacker's side, in logits: (N,)."""
        own = outputs.gather(1, y[:, None]).squeeze(1)
        others = outputs.scatter(1, y[:, None], -torch.inf).amax(1)
        return own - others if self.targeted else others - own

    def _verdict(self, x: Tensor, y: Tensor, confidence: float) -> Tensor:
        """Which of x the network takes for something other than y (targeted: for y). (N,) bool."""
        with torch.no_grad():
            margin = self._margin(logits(self.model, x), y)
        return (margin > 0) & (margin >= confidence)

    def _keep_better(
        self,
        candidate: Tensor,
        x: Tensor,
        y: Tensor,
        const: Tensor,
        rows: Tensor,
        best: _Best,
        found: Tensor,
    ) -> Tensor:
        """Record each candidate that succeeds closer than the best so far. (n,) bool: succeeded.

        The network is asked only where its answer can matter: no success yet at this c, or a
        smaller distance than the best.
        """
        distance = distances.decision(self.decision_rule, x, candidate, self.beta)
        closer = distance < best.distance[rows]
        ask = torch.nonzero(closer | ~found).flatten()
        success = torch.zeros_like(found)
        if len(ask):
            success[ask] = self._verdict(candidate[ask], y[ask], self.confidence)
        take = success & closer
        best.distance[rows[take]] = distance[take]
        best.x_adv[rows[take]] = candidate[take]
        best.const[rows[take]] = const[take]
        return success

    def _result(
        self, x: Tensor, best: _Best, already: Tensor, home: torch.device
    ) -> ElasticNetResult:
        found = (
            best.x_adv,
            torch.isfinite(best.distance),
            already,
            distances.l0(x, best.x_adv),
            distances.l1(x, best.x_adv),
            distances.l2(x, best.x_adv),
            distances.linf(x, best.x_adv),
            distances.elastic_net(x, best.x_adv, self.beta),
            best.const,
            best.iterations,
        )
        return ElasticNetResult(*(value.to(home) for value in found))


def shrink(z: Tensor, x: Tensor, beta: float) -> Tensor:
    """Projected shrinkage-thresholding S_beta (eq. 8): values that moved by beta or less return
    to x; others come back by beta and stay in [0, 1]. All (N, C, H, W)."""
    moved = z - x
    nearer = z - beta * moved.sign()
    return torch.where(moved.abs() > beta, nearer.clamp(0.0, 1.0), x)


@dataclass
class _Best:
    """Per image of a batch: the closest success so far."""

    x_adv: Tensor
    distance: Tensor
    const: Tensor
    iterations: Tensor

    @classmethod
    def start(cls, x: Tensor) -> _Best:
        unknown = torch.full((len(x),), torch.inf, device=x.device)
        return cls(
            x.clone(),
            unknown,
            torch.full_like(unknown, torch.nan),
            torch.zeros(len(x), dtype=torch.int64, device=x.device),
        )


def _check_images(x: Tensor, y: Tensor) -> None:
    if x.ndim != 4 or x.dtype != torch.float32:
        raise ValueError(f"x must be (N, C, H, W) float32, not {tuple(x.shape)} {x.dtype}")
    if y.shape != x.shape[:1] or y.dtype != torch.int64:
        raise ValueError(f"y must be ({len(x)},) int64, not {tuple(y.shape)} {y.dtype}")
    if len(x) and not (x.amin() >= 0 and x.amax() <= 1):  # NaN fails as well
        raise ValueError("x must lie in [0, 1]; put any standardisation inside the model")


def _empty(x: Tensor) -> ElasticNetResult:
    nothing = torch.zeros(0, device=x.device)
    no, none = nothing.bool(), nothing.long()
    return ElasticNetResult(
        x.clone(), no, no, nothing, nothing, nothing, nothing, nothing, nothing, none
    )

"""Another way to EAD's minimum, in a tenth of the passes: `Shortcuts.solver` = "projection".

The objective is that of Chen et al. 2018 (eq. 7), ``||d||_2^2 + beta ||d||_1`` over changes d that
are misclassified and stay in the box. Where they descend on it with a multiplier c fixed for a
whole search step, this goes, as DeepFool (Moosavi-Dezfooli et al. 2016) and FAB (Croce and Hein
2020) do in other norms, again and again towards the nearest point of the decision boundary as the
gradient at hand shows it, which gives the c of that point with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from octrobust.attack import distances
from octrobust.attack.in_flight import Flight, per_image
from octrobust.attack.search import Search

PATIENCE = 5  # passes
_CLOSER = 0.99  # a distance that counts as progress, as a fraction of the last one
# How far beyond the boundary to aim, as a fraction of the clean image's distance to it in logits:
# at first, after a failure, after a success. The linearised boundary is a little off.
_AIM, _FURTHER, _LESS, _LEAST, _MOST = 0.2, 1.3, 0.6, 0.002, 100.0
# Share of the way to the projection that is gone, before the first success and after it.
_SEEK, _REFINE = 0.25, 0.6
# Weight of L1 beside the squared L2 where the decision rule is L1: nearly L1 alone.
_ALMOST_L1 = 5.0
_BISECTIONS, _LOWEST, _HIGHEST = 20, 1e-5, 1e6  # of c, for a gradient of at most 1


@dataclass
class Projecting(Flight):
    """Images on their way to the boundary.

    Attributes:
        current: (n, C, H, W) the last iterate.
        k: (n,) int64, iterations made.
        const: (n,) c of the last projection.
        beyond: (n,) how far beyond the boundary to aim, in clean margins.
        nearest, nearest_k: (n,) the smallest distance of a success, infinite before the first,
            and its iteration.
    """

    current: Tensor
    k: Tensor
    const: Tensor
    beyond: Tensor
    nearest: Tensor
    nearest_k: Tensor


class ProjectionSearch(Search[Projecting]):
    """At most binary_search_steps x max_iter iterations an image, each one forward and backward;
    an image whose distance has settled leaves earlier. Neither learning rate nor first constant
    is used: the projection sets both. It is in the geometry of the decision rule; by the rule L1
    the published algorithm may end closer, since its own threshold favours few pixels."""

    asks_twice = False  # the margin at every iterate is at hand

    def _board(self, rows: Tensor) -> Projecting:
        images, none = self.x[rows], torch.zeros_like(rows)
        zero = torch.zeros(len(rows), device=self.x.device)
        beyond, infinite = torch.full_like(zero, _AIM), torch.full_like(zero, torch.inf)
        return Projecting(rows, images, self.y[rows], images, none, zero, beyond, infinite, none)

    def _iterate(self, at: Projecting) -> Tensor:
        margins, gradient = self.model.margin_and_gradient(at.current, at.y)
        first = self.first_margins[at.row]
        self.first_margins[at.row] = torch.where(at.k == 0, margins, first)
        self._judge(at, margins)
        at.k = at.k + 1
        self.iterations[at.row] += 1
        goes_on = ~self._is_over(at)
        self._step(at, margins, gradient)
        return goes_on

    def _judge(self, at: Projecting, margins: Tensor) -> None:
        """Offer the iterates that may succeed; aim further after a failure, less far after a
        success."""
        attack = self.attack
        distance = distances.decision(attack.decision_rule, at.x, at.current, attack.beta)
        likely = (at.k > 0) & self._within_reach(margins, at.row)
        rows = torch.nonzero(likely & self.verdicts.matters(at.row, distance)).flatten()
        if len(rows):
            self.verdicts.offer(at.current[rows], at.row[rows], distance[rows], at.const[rows])
        success = attack.is_success(margins)
        closer = success & (distance < _CLOSER * at.nearest)
        at.nearest = torch.where(closer, distance, at.nearest)
        at.nearest_k = torch.where(closer, at.k, at.nearest_k)
        # No nearer to the boundary than the view of the network can be trusted.
        least = max(_LEAST, self.model.slack)
        less, further = (
            (at.beyond * _LESS).clamp(min=least),
            (at.beyond * _FURTHER).clamp(max=_MOST),
        )
        at.beyond = torch.where(at.k > 0, torch.where(success, less, further), at.beyond)

    def _is_over(self, at: Projecting) -> Tensor:
        attack = self.attack
        budget = attack.binary_search_steps * attack.max_iter
        patience = self.shortcuts.patience or PATIENCE
        settled = torch.isfinite(at.nearest) & (at.k - at.nearest_k > patience)
        over = settled | (at.k >= budget)
        if self.progress:
            self.progress(len(at) + int((budget - at.k[over]).sum()))
        return over

    def _step(self, at: Projecting, margins: Tensor, gradient: Tensor) -> None:
        """Some of the way to the projection onto the boundary as linearised here."""
        short = (self.attack.confidence - self.first_margins[at.row]).clamp(min=1e-3)
        wanted = self.attack.confidence + at.beyond * short
        # <gradient, d> that takes the linearised margin of x + d there.
        needed = wanted - margins + distances.total(gradient * (at.current - at.x))
        weight = {"EN": self.attack.beta, "L1": _ALMOST_L1, "L2": 0.0}[self.attack.decision_rule]
        change, at.const = project(gradient, at.x, needed, weight)
        share = torch.where(torch.isfinite(at.nearest), _REFINE, _SEEK)
        step = per_image(share) * (at.x + change - at.current)
        at.current = (at.current + step).clamp(0.0, 1.0)


def project(gradient: Tensor, x: Tensor, needed: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """The elastic-net projection onto a half-space within the box.

    Minimises ``||d||_2^2 + beta ||d||_1`` subject to ``<gradient, d> >= needed`` and x + d in
    [0, 1]. With the multiplier c of the first constraint the Lagrangian falls apart by pixel:
    ``|d_i| = min(max(c |g_i| - beta, 0) / 2, room_i)``, along the gradient; c is bisected, since
    the left side grows with it.

    Args:
        gradient, x: (n, C, H, W) float32, x in [0, 1].
        needed: (n,); where it is 0 or less, d is 0.

    Returns:
        d (n, C, H, W), as far as the box allows where nothing in it satisfies the constraint, and
        c (n,).
    """
    largest = gradient.abs().flatten(1).amax(1).clamp(min=1e-12)
    slope = gradient.abs() / per_image(largest)
    room = torch.where(gradient > 0, 1 - x, x)

    def size(const: Tensor) -> Tensor:
        return torch.minimum((per_image(const) * slope - beta).clamp(min=0.0).mul(0.5), room)

    low, high = torch.full_like(needed, _LOWEST), torch.full_like(needed, _HIGHEST)
    for _ in range(_BISECTIONS):
        # A square root rounds alike wherever it stands in a vector; a power or logarithm does not.
        middle = (low * high).sqrt()
        enough = distances.total(slope * size(middle)) >= needed / largest
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    const = torch.where(needed > 0, high, 0.0)
    return size(const) * gradient.sign(), const / largest

"""The attack that the paper's notebooks call `elastic_net`: Carlini and Wagner's L2 (2017).

Kept for the replay of what they ran, see `octrobust.stages.replay`, and for nothing else: it has no
L1 term and no shrinkage, so it is not EAD.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from octrobust.attack import distances
from octrobust.attack.in_flight import per_image
from octrobust.attack.search_model import margin

_INSIDE = 1 - 1e-6  # tanh never reaches the ends of the box


def carlini_wagner_l2(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    learning_rate: float,
    binary_search_steps: int,
    max_iter: int,
    initial_const: float,
) -> Tensor:
    """Untargeted, confidence 0: the nearest image in L2 that was found to turn the answer.

    Minimises ``|x' - x|² + c max(z_y - max_other, 0)`` over w, x' = (tanh w + 1) / 2, by Adam, and
    searches c image by image: halved towards 0 where it succeeded, ten times as large where it
    never did.

    Args:
        model: (N, C, H, W) in [0, 1] to logits (N, K); used in the mode it is in.
        x, y: (N, C, H, W) float32 in [0, 1]; (N,) int64, the true classes.
        learning_rate: Adam's. initial_const: the first c.

    Returns:
        (N, C, H, W) float32 in [0, 1]; an image that never turned comes back as it is.
    """
    const = torch.full((len(x),), initial_const, device=x.device)
    low, high = torch.zeros_like(const), torch.full_like(const, torch.inf)
    best, nearest = x.clone(), torch.full_like(const, torch.inf)
    start = torch.atanh((x * 2 - 1) * _INSIDE)
    for _ in range(binary_search_steps):
        turned = torch.zeros_like(const, dtype=torch.bool)
        w = start.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([w], lr=learning_rate)
        for _ in range(max_iter):
            at = (torch.tanh(w) + 1) / 2
            squared = distances.total((at - x).square())
            beyond = margin(model(at).float(), y, False)
            loss = (squared + const * (-beyond).clamp(min=0)).sum()
            better = (beyond.detach() > 0) & (squared.detach() < nearest)
            best = torch.where(per_image(better), at.detach(), best)
            nearest = torch.where(better, squared.detach(), nearest)
            turned |= beyond.detach() > 0
            (w.grad,) = torch.autograd.grad(loss, w)
            optimizer.step()
        high = torch.where(turned, torch.minimum(high, const), high)
        low = torch.where(turned, low, torch.maximum(low, const))
        const = torch.where(torch.isinf(high), const * 10, (low + high) / 2)
    return best

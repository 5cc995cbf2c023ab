"""Distances between an image and its adversarial form, one number an image."""

from __future__ import annotations

from torch import Tensor


def l0(x: Tensor, x_adv: Tensor) -> Tensor:
    """Number of changed values, (N,) float32, of x and x_adv (N, C, H, W)."""
    return (x_adv != x).flatten(1).sum(1).float()


def l1(x: Tensor, x_adv: Tensor) -> Tensor:
    """Sum of absolute changes, (N,) float32."""
    return (x_adv - x).abs().flatten(1).sum(1)


def l2(x: Tensor, x_adv: Tensor) -> Tensor:
    """Euclidean norm of the change, (N,) float32."""
    return squared_l2(x, x_adv).sqrt()


def squared_l2(x: Tensor, x_adv: Tensor) -> Tensor:
    """Sum of squared changes, (N,) float32: the smooth distance in EAD's objective."""
    return (x_adv - x).square().flatten(1).sum(1)


def linf(x: Tensor, x_adv: Tensor) -> Tensor:
    """Largest absolute change, (N,) float32."""
    return (x_adv - x).abs().flatten(1).amax(1)


def elastic_net(x: Tensor, x_adv: Tensor, beta: float) -> Tensor:
    """``||x_adv - x||_2^2 + beta ||x_adv - x||_1`` (Chen et al. 2018, eq. 7), (N,) float32."""
    return squared_l2(x, x_adv) + beta * l1(x, x_adv)


def decision(rule: str, x: Tensor, x_adv: Tensor, beta: float) -> Tensor:
    """The distance that the decision rule EN, L1 or L2 minimises, (N,) float32."""
    if rule == "L1":
        return l1(x, x_adv)
    if rule == "L2":
        return squared_l2(x, x_adv)
    return elastic_net(x, x_adv, beta)

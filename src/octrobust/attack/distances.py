"""Distances between an image and its adversarial form, one number an image."""

from __future__ import annotations

from torch import Tensor

# The distances recorded of every adversarial image, by the names of the functions below.
NAMES = ("l0", "l1", "l2", "linf", "elastic_net")


def total(values: Tensor) -> Tensor:
    """Sum over an image, (N,) of (N, C, H, W). Rows first: torch splits the sum of a single
    image over its threads, which would round differently from the same image among others."""
    return values.flatten(1, 2).sum(2).sum(1)


def l0(x: Tensor, x_adv: Tensor) -> Tensor:
    """Number of changed values, (N,) float32, of x and x_adv (N, C, H, W)."""
    return total(x_adv != x).float()


def l1(x: Tensor, x_adv: Tensor) -> Tensor:
    """Sum of absolute changes, (N,) float32."""
    return total((x_adv - x).abs())


def l2(x: Tensor, x_adv: Tensor) -> Tensor:
    """Euclidean norm of the change, (N,) float32."""
    return squared_l2(x, x_adv).sqrt()


def squared_l2(x: Tensor, x_adv: Tensor) -> Tensor:
    """Sum of squared changes, (N,) float32: the smooth distance in EAD's objective."""
    return total((x_adv - x).square())


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


def measure(name: str, x: Tensor, x_adv: Tensor, beta: float) -> Tensor:
    """The distance of this name, one of NAMES, (N,) float32."""
    if name == "elastic_net":
        return elastic_net(x, x_adv, beta)
    plain = {"l0": l0, "l1": l1, "l2": l2, "linf": linf}
    return plain[name](x, x_adv)

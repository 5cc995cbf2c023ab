"""Corruptions that a scanner or a file may bring.

Severities are those of Hendrycks and Dietterich 2019, *Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations*; they are for 224 px: on smaller images blur weighs more.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from octrobust.data.jpeg import through_jpeg

SEVERITIES = (1, 2, 3, 4, 5)
_SPECKLE = (0.15, 0.2, 0.35, 0.45, 0.6)  # standard deviation, as a share of the pixel
_BLUR = (1.0, 2.0, 3.0, 4.0, 6.0)  # standard deviation, pixels
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # what is left of it
_JPEG = (25, 18, 15, 10, 7)  # quality


def _speckle(x: Tensor, amount: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return x + x * amount * torch.randn(x.shape, generator=generator)


def _blur(x: Tensor, sigma: float) -> Tensor:
    reach = 2 * min(round(3 * sigma), x.shape[-1] // 2 - 1) + 1
    blurred: Tensor = F.gaussian_blur(x, [reach, reach], [sigma, sigma])
    return blurred


def _contrast(x: Tensor, left: float) -> Tensor:
    middle = x.mean((-3, -2, -1), keepdim=True)
    return middle + left * (x - middle)


def _jpeg(x: Tensor, quality: float) -> Tensor:
    return through_jpeg(x, int(quality))


_KINDS: dict[str, tuple[Callable[[Tensor, float], Tensor], tuple[float, ...]]] = {
    "speckle": (_speckle, _SPECKLE),
    "blur": (_blur, _BLUR),
    "contrast": (_contrast, _CONTRAST),
    "jpeg": (_jpeg, _JPEG),
}
CORRUPTIONS = tuple(_KINDS)


def corrupt(x: Tensor, kind: str, severity: int) -> Tensor:
    """A corrupted copy, (N, C, H, W) float32 in [0, 1].

    Args:
        x: (N, C, H, W) float32 in [0, 1], on the CPU; C is 1 or 3.
        kind: one of CORRUPTIONS.
        severity: 1 (mild) to 5.

    Raises:
        ValueError: another kind or severity.
    """
    if kind not in _KINDS or severity not in SEVERITIES:
        raise ValueError(f"no corruption {kind} of severity {severity}")
    apply, amounts = _KINDS[kind]
    return apply(x, amounts[severity - 1]).clamp(0.0, 1.0)

"""Corruptions that a scanner or a file may bring.

Severities are those of Hendrycks and Dietterich 2019, *Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations*; they are for 224 px: on smaller images blur weighs more.
Images are corrupted one by one, and noise is drawn by the image's row: what an image gets does not
depend on which others are asked about.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from octrobust.data.jpeg import through_jpeg

SEVERITIES = (1, 2, 3, 4, 5)
_SPECKLE = (0.15, 0.2, 0.35, 0.45, 0.6)  # standard deviation, as a share of the pixel
_BLUR = (1.0, 2.0, 3.0, 4.0, 6.0)  # standard deviation, pixels
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # what is left of it
_JPEG = (25, 18, 15, 10, 7)  # quality
Key = tuple[int, int]  # seed and row, that noise is drawn by


def _speckle(image: Tensor, amount: float, key: Key) -> Tensor:
    """Noise that grows with the pixel. Our own: torchvision's gaussian_noise is added whatever the
    pixel, and drawn from torch's global generator; it has no multiplicative one."""
    noise = np.random.default_rng(key).standard_normal(image.shape, dtype=np.float32)
    return image + image * amount * torch.from_numpy(noise)


def _blur(image: Tensor, sigma: float, _: Key) -> Tensor:
    reach = 2 * min(round(3 * sigma), image.shape[-1] // 2 - 1) + 1
    blurred: Tensor = F.gaussian_blur(image, [reach, reach], [sigma, sigma])
    return blurred


def _contrast(image: Tensor, left: float, _: Key) -> Tensor:
    paler: Tensor = F.adjust_contrast(image, left)
    return paler


def _jpeg(image: Tensor, quality: float, _: Key) -> Tensor:
    return through_jpeg(image[None], int(quality))[0]


# Each takes one image, (C, H, W) float32 in [0, 1], and gives another, which may leave [0, 1].
_KINDS: dict[str, tuple[Callable[[Tensor, float, Key], Tensor], tuple[float, ...]]] = {
    "speckle": (_speckle, _SPECKLE),
    "blur": (_blur, _BLUR),
    "contrast": (_contrast, _CONTRAST),
    "jpeg": (_jpeg, _JPEG),
}
CORRUPTIONS = tuple(_KINDS)


def corrupt(x: Tensor, kind: str, severity: int, *, first_row: int = 0, seed: int = 0) -> Tensor:
    """A corrupted copy, (N, C, H, W) float32 in [0, 1].

    Args:
        x: (N, C, H, W) float32 in [0, 1], on the CPU; C is 1 or 3.
        kind: one of CORRUPTIONS.
        severity: 1 (mild) to 5.
        first_row: row in the split of x[0], 0 or more; the others follow it.
        seed: of the noise, 0 or more: an image's own depends on this and its row alone.

    Raises:
        ValueError: another kind or severity.
    """
    if kind not in _KINDS or severity not in SEVERITIES:
        raise ValueError(f"no corruption {kind} of severity {severity}")
    apply, amounts = _KINDS[kind]
    amount = amounts[severity - 1]
    found = [apply(image, amount, (seed, row)) for row, image in enumerate(x, first_row)]
    return torch.stack(found).clamp_(0.0, 1.0)

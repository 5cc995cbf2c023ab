"""Images as a JPEG file would hold them."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F


def through_jpeg(images: Tensor, quality: int) -> Tensor:
    """Through a JPEG file and back.

    Args:
        images: (N, C, H, W) float32 in [0, 1], C 1 or 3, on any device.
        quality: 1 to 100.

    Returns:
        (N, C, H, W) float32 in [0, 1], on the same device.
    """
    pixels = (images * 255).round().to(torch.uint8).cpu()
    back = torch.stack([F.jpeg(one, quality) for one in pixels])
    return (back.float() / 255).to(images.device)

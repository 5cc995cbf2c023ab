"""Images for training: augmented from memory-mapped arrays, every draw fixed by its own seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms.v2 import functional as F

from octrobust.config import Augmentation

Draw = tuple[int, int]  # (epoch, position): what a training image depends on, with the seed


@dataclass(frozen=True)
class Source:
    """Labelled images for training.

    Attributes:
        load: position to image, (C, H, W) float32 in [0, 1], C = 1 or 3, any H and W.
        targets: (N,) int64, 0 or 1.
    """

    load: Callable[[int], NDArray[np.float32]]
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class GreyPixels:
    """Load from stored scans, (N, H, W) uint8, as `channels` equal channels."""

    pixels: NDArray[np.uint8]
    channels: int = 1

    def __call__(self, position: int) -> NDArray[np.float32]:
        image = self.pixels[position][None].astype(np.float32) / 255.0
        return np.repeat(image, self.channels, axis=0)


@dataclass(frozen=True)
class StoredFloats:
    """Load from (N, C, H, W) float32 in [0, 1], read-only where it is a memory map."""

    images: NDArray[np.float32]

    def __call__(self, position: int) -> NDArray[np.float32]:
        return np.array(self.images[position])


class Augmented(Dataset[tuple[Tensor, int]]):
    """Random resized crop and flip, as in the paper's notebooks; beyond them, rotation and changes
    of brightness and contrast, where `how` has them.

    An item is addressed by (epoch, position) and depends on these and the seed alone, so that
    loader workers, resumed runs and ranks all see the same images.
    """

    def __init__(self, sources: Sequence[Source], size: int, how: Augmentation, seed: int) -> None:
        self.sources = [source for source in sources if len(source)]
        self.starts = np.cumsum([0] + [len(source) for source in self.sources])
        self.targets = np.concatenate([source.targets for source in self.sources])
        self.size, self.how, self.seed = size, how, seed

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        epoch, position = draw
        part = int(np.searchsorted(self.starts, position, side="right")) - 1
        image = self.sources[part].load(position - int(self.starts[part]))
        rng = np.random.default_rng((self.seed, epoch, position))
        return self._augment(torch.from_numpy(image), rng), int(self.targets[position])

    def _augment(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        if self.how.rotation:
            angle = rng.uniform(-self.how.rotation, self.how.rotation)
            image = F.rotate(image, angle, F.InterpolationMode.BILINEAR)
        top, left, height, width = _crop(
            image.shape[-2], image.shape[-1], self.how.crop_scale_min, rng
        )
        size = [self.size, self.size]
        image = F.resized_crop(image, top, left, height, width, size, antialias=True)
        if rng.random() < self.how.flip:
            image = F.horizontal_flip(image)
        if self.how.contrast:
            brighter, steeper = rng.uniform(1 - self.how.contrast, 1 + self.how.contrast, 2)
            image = F.adjust_contrast(F.adjust_brightness(image, brighter), steeper)
        return image.clamp_(0.0, 1.0)


def _crop(
    height: int, width: int, scale_min: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Box (top, left, height, width) as torchvision's RandomResizedCrop draws it, from `rng`."""
    for _ in range(10):
        area = height * width * rng.uniform(scale_min, 1.0)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


class BalancedBatches(Sampler[list[Draw]]):
    """Batches with the classes in equal shares, the rarer one repeated; seeded by epoch.

    An epoch draws each image of the largest class once, but for the last incomplete batch, which
    is dropped: `last_bn` cannot be trained on a batch of one.
    """

    def __init__(self, targets: NDArray[np.int64], batch_size: int, seed: int) -> None:
        self.classes = [np.flatnonzero(targets == label) for label in np.unique(targets)]
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0
        self.largest = max(len(members) for members in self.classes)

    def __len__(self) -> int:
        return self.largest * len(self.classes) // self.batch_size

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        columns = []
        for members in self.classes:
            rounds = -(-self.largest // len(members))
            order = np.concatenate([rng.permutation(members) for _ in range(rounds)])
            columns.append(order[: self.largest])
        order = np.stack(columns, axis=1).ravel()
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield [(self.epoch, int(i)) for i in order[start : start + self.batch_size]]

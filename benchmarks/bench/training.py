"""A training step: the published notebooks' way, ours, and the convolutions alone."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.utils.data import DataLoader

from bench import floor
from bench.machine import has_bf16
from octrobust.config import Augmentation, Fit, Model
from octrobust.data.arrays import decode, stored_side
from octrobust.model.build import OCTClassifier, build, inception_resnet_v1
from octrobust.training import fit as fit_loop
from octrobust.training.datasets import Augmented, GreyPixels, Source

WARM_UP = 2  # steps before the clock counts
RATE, MOMENTUM = 0.001, 0.9  # the notebooks' SGD
NOTEBOOKS_BATCH = 8
Spec = dict[str, Any]


def measure_notebooks(spec: Spec) -> Spec:
    """ImageFolder, decoding and resizing every epoch, DataLoader as it is by default, and the
    network as facenet-pytorch builds it: float32, torch's own layout."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop, ToTensor

    torch.manual_seed(0)
    steps = [RandomResizedCrop(spec["size"]), RandomHorizontalFlip(), ToTensor()]
    data = ImageFolder(spec["images"], Compose(steps))
    loader = TimedLoader(data, batch_size=NOTEBOOKS_BATCH, shuffle=True, drop_last=True)
    network = inception_resnet_v1()(classify=True, num_classes=2).train()
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=MOMENTUM)
    criterion, stamps = nn.CrossEntropyLoss(), []
    while len(stamps) <= WARM_UP + spec["steps"]:
        for x, y in loader:
            stamps.append(time.perf_counter())
            optimizer.zero_grad()
            criterion(network(x), y).backward()
            optimizer.step()
    return _summary(stamps, NOTEBOOKS_BATCH, spec["steps"])


def measure_ours(spec: Spec) -> Spec:
    """`octrobust.training.fit` on arrays as `prepare` writes them; same optimiser and
    augmentation. `prepare_seconds`: of decoding an image, once for all epochs and models."""
    started = time.perf_counter()
    pixels, targets = _scans(Path(spec["images"]), stored_side(spec["size"]))
    prepared = (time.perf_counter() - started) / len(targets)
    batch, steps = spec["batch"], WARM_UP + spec["steps"] + 1
    rows = np.arange(batch * steps) % len(targets)
    settings = _settings(batch, spec["precision"])
    sources = [Source(GreyPixels(pixels[rows]), targets[rows])]
    data = Augmented(sources, spec["size"], settings.augmentation, settings.seed)
    model = build(Model(weights="none", standardisation="none", dropout=0.6), seed=1)
    model.to(memory_format=torch.channels_last)
    objective = Stamped()

    validation = [(np.zeros((2, 1, spec["size"], spec["size"]), np.float32), np.array([0, 1]))]

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(fit_loop, "DataLoader", TimedLoader),
    ):
        checkpoint = Path(folder) / "checkpoint"
        result = fit_loop.fit(
            model, data, validation, settings, checkpoint=checkpoint, objective=objective
        )
    found = _summary(objective.stamps, batch, spec["steps"])
    return {**found, "bf16": result.bf16, "prepare_seconds": prepared}


def measure_training_floor(spec: Spec) -> Spec:
    """Milliseconds an image of every convolution of the network alone, channels-last, at its real
    shape: forward, and the gradients of its input (but the first's) and weight."""
    network = OCTClassifier().eval()
    shapes = floor.convolutions(network, torch.rand(1, 1, spec["size"], spec["size"]))
    types = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if has_bf16("cpu") else {})
    return {
        name: 1e3
        / spec["batch"]
        * sum(
            times * _one_convolution(shape, spec["batch"], dtype, spec["best_of"])
            for shape, times in shapes.items()
        )
        for name, dtype in types.items()
    }


class TimedLoader(DataLoader[Any]):
    """A DataLoader that remembers how long each batch was waited for, seconds."""

    waits: ClassVar[list[float]] = []

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            self.waits.append(time.perf_counter() - started)
            yield batch


class Stamped(fit_loop.Clean):
    """Cross-entropy that remembers when each step asked for it."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def loss(self, model: nn.Module, *step: Any) -> tuple[Tensor, Tensor]:
        self.stamps.append(time.perf_counter())
        return super().loss(model, *step)


def _summary(stamps: list[float], batch: int, steps: int) -> Spec:
    """Of the steps after the first ones; a step lasts from its loss to the next one's."""
    counted = slice(WARM_UP, WARM_UP + steps)
    times = np.diff(stamps)[counted].tolist()
    waits = TimedLoader.waits[WARM_UP + 1 :][: len(times)]
    return {
        "seconds": sum(times),
        "step_seconds": median(times),
        "images_per_second": batch / median(times),
        "wait_share": sum(waits) / sum(times),
    }


def _settings(batch: int, precision: str) -> Fit:
    return Fit(
        optimizer="sgd",
        learning_rate=RATE,
        momentum=MOMENTUM,
        weight_decay=0.0,
        schedule="constant",
        batch_size=batch,
        epochs=1,
        precision=precision,  # type: ignore[arg-type]
        seed=1,
        augmentation=Augmentation(
            crop_scale_min=0.08, flip=0.5, rotation=0.0, contrast=0.0
        ),  # torchvision's default
    )


def _scans(folder: Path, side: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    paths = [(path, n) for n, label in enumerate(classes) for path in sorted(label.iterdir())]
    pixels = np.stack([decode(path, side) for path, _ in paths])
    return pixels, np.array([target for _, target in paths], dtype=np.int64)


def _one_convolution(
    shape: floor.Convolution, batch: int, dtype: torch.dtype, best_of: int
) -> float:
    """Seconds forward and back."""

    def tensor(*size: int) -> Tensor:
        return torch.rand(size).to(dtype, memory_format=torch.channels_last)

    x, weight = tensor(batch, *shape.image), tensor(*shape.weight)
    stride, padding = list(shape.stride), list(shape.padding)
    gradient = torch.rand_like(conv2d(x, weight, None, stride, padding))
    to_input = shape.image[0] != 3  # the first has no gradient to hand on

    def back() -> Any:
        return torch.ops.aten.convolution_backward(
            *(gradient, x, weight, None, stride, padding, [1, 1]),
            *(False, [0, 0], 1, [to_input, True, False]),
        )

    with torch.no_grad():
        there = floor.best(
            lambda: conv2d(x, weight, None, stride, padding), torch.device("cpu"), best_of
        )
        return there + floor.best(back, torch.device("cpu"), best_of)

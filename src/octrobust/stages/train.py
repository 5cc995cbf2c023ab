"""Train one freeze configuration on the clean training images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from octrobust.config import Model, Params
from octrobust.data.arrays import ImageSet, open_split
from octrobust.distributed.place import is_first
from octrobust.errors import UserError
from octrobust.files import write_csv, write_json
from octrobust.model.build import (
    OCTClassifier,
    build,
    calibrate_batch_norm,
    count_parameters,
)
from octrobust.model.device import select_device
from octrobust.model.store import save_model
from octrobust.model.weights import weights_sha256
from octrobust.stages.common import arithmetic, array_files, clean_batches, scratch_for
from octrobust.training.datasets import Augmented, GreyPixels, Source
from octrobust.training.fit import FitResult, fit

CALIBRATION_IMAGES = 256
ROOMS = (".", "data", "distributed", "model", "training", "stages")


def train(
    params: Params, variant: str, arrays: Path, out: Path, history: Path, metrics: Path
) -> Path:
    """Train `variant` and write the model to `out`, its curves and its numbers.

    Returns:
        The folder of the finished work, to be kept until dvc.lock has the result.

    Raises:
        UserError: no such variant, weights that cannot be had, too few images.
    """
    if variant not in params.train.variants:
        raise UserError(f"train.variants has no '{variant}': {', '.join(params.train.variants)}")
    settings, frozen = params.train.fit(), params.train.variants[variant].freeze_through
    device = select_device(params.compute)
    images = open_split(arrays, "train", params.data.image_size)
    model = new_model(params.model, frozen, settings.seed, images, device)
    dataset = Augmented(
        [Source(GreyPixels(images.pixels), images.targets)],
        params.data.image_size,
        settings.augmentation,
        settings.seed,
    )
    initial = weights_sha256(params.model.weights)
    scratch = scratch_for(
        f"train-{variant}",
        ROOMS,
        *array_files(arrays, "train", "validation"),
        [params.model.model_dump(), initial],
        [settings.model_dump(), frozen, params.data.image_size],
        arithmetic(settings.precision, device),
    )
    result = fit(
        model,
        dataset,
        clean_batches(arrays, "validation", params),
        settings,
        checkpoint=scratch / "checkpoint.pt",
        workers=params.compute.workers,
        label=variant,
    )
    made_by = {
        "stage": f"train@{variant}",
        "classes": list(params.data.classes),
        "image_size": params.data.image_size,
        "model": params.model.model_dump(),
        "initial_weights_sha256": initial,
        "train": settings.model_dump(),
    }
    if is_first():
        write_fit(model, result, len(dataset), made_by, out, history, metrics)
    return scratch


def new_model(
    own: Model,
    frozen: str | None,
    seed: int,
    images: ImageSet,
    device: torch.device,
    parameter: str = "model.weights",
) -> OCTClassifier:
    """The network before training, as `own` says; BatchNorm's statistics are those of
    some of the images where it has no weights yet. For `parameter` see `build`."""
    # Channels-last is what oneDNN and cuDNN convolve fastest.
    model: OCTClassifier = build(own, frozen, seed, parameter).to(
        device,
        memory_format=torch.channels_last,  # type: ignore[call-overload]
    )
    if own.weights == "none":
        calibrate_batch_norm(model, lambda: _some_views(images, device))
    return model


def _some_views(images: ImageSet, device: torch.device) -> Iterator[Tensor]:
    count = min(CALIBRATION_IMAGES, len(images))
    rows = torch.linspace(0, len(images) - 1, count).long().numpy()
    for start in range(0, count, 64):
        yield torch.from_numpy(images.views(rows[start : start + 64])).to(device)


def write_fit(
    model: OCTClassifier,
    result: FitResult,
    images: int,
    made_by: dict[str, Any],
    out: Path,
    history: Path,
    metrics: Path,
    validated: Mapping[str, float] | None = None,
) -> None:
    """Store a fitted model, its curves (a row an epoch) and its numbers; `validated`: those on
    validation images, if the model is not quite what its best epoch left.

    Where it learnt on several ranks, the model says on how many: its last bits depend on that.
    """
    if result.ranks != [1]:
        made_by = {**made_by, "ranks": result.ranks}
    write_csv(history, result.history, list(result.history[0]))
    best = {**result.history[result.best_epoch - 1], **(validated or {})}
    numbers = {
        **count_parameters(model),
        "train_seconds": result.train_seconds,
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "train_accuracy": best["train_accuracy"],
        "validation_accuracy": best["validation_accuracy"],
        "validation_loss": best["validation_loss"],
        "images": images,
        "bf16": result.bf16,
    }
    write_json(metrics, numbers)
    save_model(out, model, {**made_by, "epoch": result.best_epoch})
    tqdm.write(
        f"{made_by['stage']}: best epoch {result.best_epoch}, validation accuracy "
        f"{best['validation_accuracy']:.3f}, {result.train_seconds:.0f} s"
    )

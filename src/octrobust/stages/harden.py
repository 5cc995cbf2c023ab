"""Harden the model, in each variant's way, with the one fit loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from octrobust.attack.shards import AdversarialSet, open_adversarial
from octrobust.config import STARTS, Defence, Params
from octrobust.data.arrays import Batches, ImageSet, open_split
from octrobust.distributed.place import is_first
from octrobust.errors import UserError
from octrobust.files import project_home, sha256_file, user_path
from octrobust.model.build import OCTClassifier
from octrobust.model.device import select_device
from octrobust.model.predict import outputs
from octrobust.model.store import WEIGHTS, load_model
from octrobust.model.weights import weights_sha256
from octrobust.stages.common import arithmetic, array_files, clean_batches, scratch_for
from octrobust.stages.train import new_model, write_fit
from octrobust.training import defences
from octrobust.training.datasets import Augmented, GreyPixels, Source
from octrobust.training.fit import fit
from octrobust.training.objectives import Clean, Objective
from octrobust.training.threshold import place_threshold

ROOMS = (
    *(".", "attack", "data", "distributed", "model", "training", "training/defences"),
    "stages",
)


def harden(
    params: Params,
    variant: str,
    arrays: Path,
    adversarial: Path,
    model: Path,
    out: Path,
    history: Path,
    metrics: Path,
) -> Path:
    """Train the attacked model further, or a new one, as `harden.variants` says.

    Args:
        variant: its key there. Every method learns from train and extra; one with `inner` attacks
            them afresh every step, others add what `octrobust.training.defences` says.
        adversarial: the stored set of the train split, read by methods without `inner`.
        model: folder of the attacked model, where the weights start unless `starts_from` is
            ``fresh``, then as those of train.variants did, or a file of weights; with nothing
            frozen in both.

    Returns:
        The folder of the finished work, to be kept until dvc.lock has the result.

    Raises:
        UserError: no such variant.
    """
    if variant not in params.harden.variants:
        raise UserError(f"harden.variants has no '{variant}': {', '.join(params.harden.variants)}")
    own, settings = params.harden.variants[variant], params.harden.fit(variant)
    weights = own.first_weights(params.model.weights)
    fresh = own.starts_from == "fresh"
    named = "model.weights" if fresh else f"harden.variants.{variant}.starts_from"
    _refuse_own_models(weights, named)
    initial = weights and weights_sha256(weights)
    found = None if own.inner else open_adversarial(adversarial)
    device = select_device(params.compute)
    scratch = scratch_for(
        f"harden-{variant}",
        ROOMS,
        *array_files(arrays, "train", "extra", "validation"),
        *([adversarial / "manifest.json"] if found else []),
        model / WEIGHTS,
        [params.model.model_dump(), initial],
        [own.model_dump(), settings.model_dump(), params.data.image_size, params.attack.channels],
        arithmetic(settings.precision, device),
    )
    train, extra = (open_split(arrays, name, params.data.image_size) for name in ("train", "extra"))
    dataset, counts = _dataset(params, variant, train, extra, found, scratch)
    if weights is None:
        network = load_model(model, device)
    else:
        began = params.model.model_copy(update={"weights": weights})
        network = new_model(began, None, settings.seed, train, device, named)
    validation = clean_batches(arrays, "validation", params)
    result = fit(
        network,
        dataset,
        validation,
        settings,
        checkpoint=scratch / "checkpoint.pt",
        objective=objective(own, settings.precision),
        patience=own.patience,
        average=own.average,
        line_moves=own.threshold == "moved",
        workers=params.compute.workers,
        label=out.name,
    )
    moved = 0.0
    if own.threshold == "moved":
        seen = (clean_batches(arrays, name, params) for name in ("train", "extra"))
        moved = place_threshold(network, objective(own, settings.precision), validation, *seen)
    if is_first():
        validated = _validated(network, validation) if moved else {}
        made_by = {
            "stage": f"harden@{variant}",
            "classes": list(params.data.classes),
            "image_size": params.data.image_size,
            "started_from": None if weights else model.name,
            "started_from_sha256": None if weights else sha256_file(model / WEIGHTS),
            "initial_weights_sha256": initial,
            "adversarial_set": found.manifest["made_by"] if found else None,
            **counts,
            "harden": settings.model_dump(),
            "variant": _told(own),
            "threshold_moved": moved,
        }
        write_fit(network, result, len(dataset), made_by, out, history, metrics, validated)
    return scratch


def _dataset(
    params: Params,
    variant: str,
    train: ImageSet,
    extra: ImageSet,
    found: AdversarialSet | None,
    scratch: Path,
) -> tuple[Augmented, dict[str, int]]:
    """What the variant learns from, and how many images of which kind that is."""
    own, settings = params.harden.variants[variant], params.harden.fit(variant)
    channels = 1 if params.attack.channels == "grey" else 3
    sources = [_originals(part, channels) for part in (train, extra)]
    counts: dict[str, int] = {"clean_images": len(train) + len(extra)}
    if found:
        added, of_these = defences.named(own.method).added(found, train, channels, scratch)
        sources.append(added)
        counts |= of_these
    made = Augmented(sources, params.data.image_size, settings.augmentation, settings.seed)
    return made, counts


def _told(variant: Defence) -> dict[str, Any]:
    """The variant's settings. The same bytes wherever a file of weights lies: its sum is told."""
    start = variant.starts_from if variant.starts_from in STARTS else "file"
    return {**variant.model_dump(), "starts_from": start}


def _validated(network: OCTClassifier, validation: Batches) -> dict[str, float]:
    """What the best epoch's row has, once more, as the model is with its line moved."""
    batches = [(outputs(network, torch.from_numpy(x)), torch.from_numpy(y)) for x, y in validation]
    logits, targets = (torch.cat(part).cpu() for part in zip(*batches, strict=True))
    return {
        "validation_accuracy": (logits.argmax(1) == targets).double().mean().item(),
        "validation_loss": cross_entropy(logits, targets).item(),
    }


def _refuse_own_models(weights: str | None, named: str) -> None:
    models = project_home() / "models"
    if weights and user_path(weights).resolve().is_relative_to(models.resolve()):
        raise UserError(
            f"{named}: {weights} lies in models/, which the pipeline makes anew: copy it to "
            "another folder"
        )


def objective(variant: Defence, precision: str) -> Objective:
    """What the fit loop minimises, in this precision where it attacks."""
    if variant.inner is None:
        return Clean()
    made: Objective = defences.named(variant.method).objective(variant.inner, precision)
    return made


def _originals(images: ImageSet, channels: int) -> Source:
    return Source(GreyPixels(images.pixels, channels), images.targets)

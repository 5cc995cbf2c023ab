"""Harden the model, in each variant's way, with the one fit loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from octrobust.attack.shards import AdversarialSet, open_adversarial
from octrobust.config import Defence, Params
from octrobust.data.arrays import ImageSet, open_split
from octrobust.distributed.place import is_first
from octrobust.errors import UserError
from octrobust.files import sha256_file
from octrobust.model.device import select_device
from octrobust.model.store import WEIGHTS, load_model
from octrobust.model.weights import weights_sha256
from octrobust.stages.common import array_files, scratch_for, validation_batches
from octrobust.stages.train import new_model, write_fit
from octrobust.training.adversarial import Online, Trades
from octrobust.training.datasets import Augmented, GreyPixels, Source, StoredFloats
from octrobust.training.fit import fit
from octrobust.training.objectives import Clean, Objective
from octrobust.training.threshold import place_threshold

ROOMS = (".", "attack", "data", "distributed", "model", "training", "stages")


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
        variant: its key there. Methods: ``static``, on train, extra and the adversarial form of
            train (the paper's); ``duplicates``, its control: those images once more as they are
            in place of their adversarial form; ``online`` and ``trades``, on train and extra,
            attacked afresh every step.
        adversarial: the stored set of the train split, read by the first two; images keep their
            true labels.
        model: folder of the attacked model, where the weights start unless `starts_from` is
            ``fresh``: then as those of train.variants did, with nothing frozen.

    Returns:
        The folder of the finished work, to be removed once the result is recorded.

    Raises:
        UserError: no such variant.
    """
    if variant not in params.harden.variants:
        raise UserError(f"harden.variants has no '{variant}': {', '.join(params.harden.variants)}")
    own, settings = params.harden.variants[variant], params.harden.fit(variant)
    found = None if own.inner else open_adversarial(adversarial)
    scratch = scratch_for(
        f"harden-{variant}",
        ROOMS,
        *array_files(arrays, "train", "extra", "validation"),
        *([adversarial / "manifest.json"] if found else []),
        model / WEIGHTS,
        [params.model.model_dump(), weights_sha256(params.model.weights)],
        [own.model_dump(), settings.model_dump(), params.data.image_size, params.attack.channels],
    )
    train, extra = (open_split(arrays, name, params.data.image_size) for name in ("train", "extra"))
    channels = 1 if params.attack.channels == "grey" else 3
    sources = [_originals(part, channels) for part in (train, extra)]
    counts: dict[str, int] = {"clean_images": len(train) + len(extra)}
    if found:
        sources.append(_added(own, found, train, channels, scratch))
        counts |= _counts(own, found)
    device = select_device(params.compute)
    fresh = own.starts_from == "fresh"
    network = (
        new_model(params, None, settings.seed, train, device)
        if fresh
        else load_model(model, device)
    )
    dataset = Augmented(sources, params.data.image_size, settings.augmentation, settings.seed)
    result = fit(
        network,
        dataset,
        validation_batches(arrays, params),
        settings,
        checkpoint=scratch / "checkpoint.pt",
        objective=objective(own, settings.precision),
        patience=own.patience,
        average=own.average,
        workers=params.compute.workers,
        label=out.name,
    )
    moved = 0.0
    if own.threshold == "validation":
        aim, images = objective(own, settings.precision), validation_batches(arrays, params)
        moved = place_threshold(network, aim, images)
    made_by: dict[str, Any] = {
        "stage": f"harden@{variant}",
        "classes": list(params.data.classes),
        "image_size": params.data.image_size,
        "started_from": None if fresh else model.name,
        "started_from_sha256": None if fresh else sha256_file(model / WEIGHTS),
        "initial_weights_sha256": weights_sha256(params.model.weights) if fresh else None,
        "adversarial_set": found.manifest["made_by"] if found else None,
        **counts,
        "harden": settings.model_dump(),
        "variant": own.model_dump(),
        "threshold_moved": moved,
    }
    if is_first():
        write_fit(network, result, len(dataset), made_by, out, history, metrics)
    return scratch


def objective(variant: Defence, precision: str) -> Objective:
    """What the fit loop minimises, in this precision where it attacks."""
    if variant.inner is None:
        return Clean()
    kind = Trades if variant.method == "trades" else Online
    return kind(variant.inner, precision)


def _originals(images: ImageSet, channels: int) -> Source:
    return Source(GreyPixels(images.pixels, channels), images.targets)


def _added(
    variant: Defence, found: AdversarialSet, train: ImageSet, channels: int, scratch: Path
) -> Source:
    if variant.method == "duplicates":
        rows = found.records["row"]
        return Source(GreyPixels(train.pixels[rows], channels), train.targets[rows])
    return Source(StoredFloats(found.unpack(scratch / "adversarial.npy")), found.records["target"])


def _counts(variant: Defence, found: AdversarialSet) -> dict[str, int]:
    if variant.method == "duplicates":
        return {"duplicates": len(found)}
    succeeded = int(found.records["success"].sum())
    return {"adversarial_images": succeeded, "unchanged_by_the_attack": len(found) - succeeded}

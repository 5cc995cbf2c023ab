"""Craft the adversarial form of a split on one model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from octrobust.attack import ElasticNet, Shortcuts, Speed
from octrobust.attack.search_model import resolve_precision
from octrobust.attack.shards import AdversarialSet, Clean, craft, crafting_cost
from octrobust.config import Attack, Compute, Params
from octrobust.data.arrays import ImageSet, open_split
from octrobust.distributed.place import is_first
from octrobust.evaluation.distortion import distortion
from octrobust.files import digest, sha256_file, write_json
from octrobust.model.build import OCTClassifier
from octrobust.model.device import select_device
from octrobust.model.store import WEIGHTS, load_model
from octrobust.stages.common import array_files, scratch_for

ROOMS = (".", "attack", "data", "distributed", "model", "stages")


def attack_split(
    params: Params,
    split: str,
    per_class: int | None,
    arrays: Path,
    model: Path,
    out: Path,
    metrics: Path,
) -> Path:
    """Attack images of `split` (train or test) on the model in folder `model`.

    Args:
        per_class: images of each class; None: all.

    Returns:
        The folder of the finished work, to be kept until dvc.lock has the result.
    """
    images = open_split(arrays, split, params.data.image_size)
    found, scratch = attack_model(
        params,
        images,
        spread_rows(images, per_class),
        model,
        out,
        key=digest(*array_files(arrays, split)),
    )
    if is_first():
        _write_numbers(metrics, found, crafting_cost(scratch))
    return scratch


def _write_numbers(metrics: Path, found: AdversarialSet, cost: dict[str, float]) -> None:
    attacked = ~found.records["already_misclassified"]
    iterations = found.records["iterations"][attacked]
    write_json(
        metrics,
        {
            **distortion(found.records),
            "seconds": cost["seconds"],
            "images_per_second": len(found) / cost["seconds"],
            "passes_per_image": {
                name: cost[name] / len(found) for name in ("gradients", "screens", "verdicts")
            },
            "iterations_per_attacked_image": float(iterations.mean()) if len(iterations) else None,
        },
    )


def attack_model(
    params: Params,
    images: ImageSet,
    rows: NDArray[np.int64],
    model: Path,
    out: Path,
    *,
    key: str,
) -> tuple[AdversarialSet, Path]:
    """Attack `rows` of `images` on the model in folder `model` and store the set in `out`.

    Returns the set and the folder of the finished work.

    Args:
        key: what identifies the images, for resuming.
    """
    settings = params.attack
    device = select_device(params.compute)
    network = load_model(model, device)
    channels = 1 if settings.channels == "grey" else 3
    speed = Speed(precision=settings.precision)
    weights = sha256_file(model / WEIGHTS)
    made_by = {
        "attack": "EAD",
        "crafted_on": model.name,
        "crafted_on_sha256": weights,
        "split": images.name,
        **settings.model_dump(exclude={"target", "images_per_class"}),
        # What `auto` means here: a run resumed on another machine must not mix two.
        "precision": resolve_precision(network, channels, device, speed),
    }
    unfinished = scratch_for(
        f"attack-{images.name}-{model.name}",
        ROOMS,
        key,
        made_by,
        rows.tolist(),
        params.compute.shard_size,
    )
    found = craft(
        build_attack(network, settings, params.compute),
        Clean(images.views, images.targets, rows),
        channels=settings.channels,
        shard_size=params.compute.shard_size,
        unfinished=unfinished,
        out=out,
        made_by=made_by,
        label=f"EAD on {model.name}, {images.name}",
    )
    return found, unfinished


def build_attack(
    model: OCTClassifier, settings: Attack, compute: Compute, *, fill: bool = True
) -> ElasticNet:
    """The attack of params.yaml, untargeted, on `model`; `fill` as in `Speed`."""
    return ElasticNet(
        model,
        learning_rate=settings.learning_rate,
        binary_search_steps=settings.binary_search_steps,
        max_iter=settings.max_iter,
        beta=settings.beta,
        initial_const=settings.initial_const,
        confidence=settings.confidence,
        decision_rule=settings.decision_rule,
        batch_size=compute.attack_batch_size,
        speed=Speed(precision=settings.precision, fill=fill),
        shortcuts=Shortcuts(**settings.shortcuts.model_dump()),
    )


def spread_rows(images: ImageSet, per_class: int | None) -> NDArray[np.int64]:
    """Rows to attack: all, or `per_class` of each class, evenly spread over the split."""
    if per_class is None:
        return np.arange(len(images))
    chosen = []
    for label in np.unique(images.targets):
        members = np.flatnonzero(images.targets == label)
        count = min(per_class, len(members))
        chosen.append(members[np.linspace(0, len(members) - 1, count).round().astype(int)])
    return np.sort(np.concatenate(chosen))

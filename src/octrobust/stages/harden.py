"""Adversarial training: go on from the attacked model on clean originals plus adversarials."""

from __future__ import annotations

from pathlib import Path

from octrobust.attack.shards import open_adversarial
from octrobust.config import Fit, Params
from octrobust.data.arrays import open_split
from octrobust.files import sha256_file
from octrobust.model.device import select_device
from octrobust.model.store import WEIGHTS, load_model
from octrobust.stages.common import array_files, scratch_for, validation_batches
from octrobust.stages.train import write_fit
from octrobust.training.datasets import Augmented, GreyPixels, Source, StoredFloats
from octrobust.training.fit import fit

ROOMS = (".", "attack", "data", "model", "training", "stages")


def harden(
    params: Params,
    arrays: Path,
    adversarial: Path,
    model: Path,
    out: Path,
    history: Path,
    metrics: Path,
) -> Path:
    """Train the attacked model further on train, extra and the adversarial form of train.

    Args:
        adversarial: the stored set of the train split; images keep their true labels.
        model: folder of the attacked model, where the weights start.

    Returns:
        The folder of the finished work, to be removed once the result is recorded.
    """
    settings = Fit.model_validate(params.harden.model_dump())
    found = open_adversarial(adversarial)
    scratch = scratch_for(
        "harden",
        ROOMS,
        *array_files(arrays, "train", "extra", "validation"),
        adversarial / "manifest.json",
        model / WEIGHTS,
        [settings.model_dump(), params.data.image_size],
    )
    network = load_model(model, select_device(params.compute))
    channels = found.manifest["shape"][0]
    clean = [open_split(arrays, name, params.data.image_size) for name in ("train", "extra")]
    sources = [Source(GreyPixels(part.pixels, channels), part.targets) for part in clean]
    unpacked = found.unpack(scratch / "adversarial.npy")
    sources.append(Source(StoredFloats(unpacked), found.records["target"]))
    dataset = Augmented(sources, params.data.image_size, settings.augmentation, settings.seed)
    result = fit(
        network,
        dataset,
        validation_batches(arrays, params),
        settings,
        checkpoint=scratch / "checkpoint.pt",
        workers=params.compute.workers,
        label="hardened",
    )
    made_by = {
        "stage": "harden",
        "classes": list(params.data.classes),
        "image_size": params.data.image_size,
        "started_from": model.name,
        "started_from_sha256": sha256_file(model / WEIGHTS),
        "adversarial_set": found.manifest["made_by"],
        "clean_images": len(dataset) - len(found),
        "adversarial_images": int(found.records["success"].sum()),
        "unchanged_by_the_attack": int((~found.records["success"]).sum()),
        "harden": settings.model_dump(),
    }
    write_fit(network, result, len(dataset), made_by, out, history, metrics)
    return scratch

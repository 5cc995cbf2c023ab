"""Every model on clean and static adversarial test images; the hardened one adaptively too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from octrobust.attack.shards import AdversarialSet, open_adversarial
from octrobust.config import Params
from octrobust.data.arrays import ImageSet, open_split
from octrobust.evaluation.distortion import distortion, histogram
from octrobust.evaluation.metrics import classification
from octrobust.files import atomic_folder, digest, write_csv, write_json
from octrobust.model.build import OCTClassifier
from octrobust.model.device import select_device
from octrobust.model.predict import probabilities
from octrobust.model.store import load_model
from octrobust.stages.attack import attack_model, spread_rows
from octrobust.stages.common import array_files

HARDENED = "hardened"
PLOTS = ("confusion", "distortion.csv")


def evaluate(
    params: Params,
    arrays: Path,
    models: Path,
    static: Path,
    adaptive: Path,
    metrics: Path,
    plots: Path,
) -> Path:
    """Measure all models.

    Args:
        models: folder of model folders, one a train variant and ``hardened``.
        static: the stored adversarial test set, made on attack.target.
        adaptive: where the fresh attack on the hardened model is stored.
        metrics: metrics/evaluation.json.
        plots: folder for confusion/MODEL_DATA.csv (actual, predicted) and distortion.csv.

    Returns:
        The folder of the finished attack, to be removed once the result is recorded.
    """
    device = select_device(params.compute)
    images = open_split(arrays, "test", params.data.image_size)
    static_set = open_adversarial(static)
    fresh, scratch = attack_model(
        params,
        images,
        spread_rows(images, params.evaluate.adaptive_images_per_class),
        models / HARDENED,
        adaptive,
        key=digest(*array_files(arrays, "test"), "adaptive"),
    )
    scores: dict[str, dict[str, NDArray[np.floating[Any]]]] = {}
    for name in (*params.train.variants, HARDENED):
        network = load_model(models / name, device)
        scores[name] = {
            "clean": _clean(network, images, params.compute.predict_batch_size),
            "static": _adversarial(network, static_set),
        }
        if name == HARDENED:
            scores[name]["adaptive"] = _adversarial(network, fresh)
    targets = {
        "clean": images.targets,
        "static": static_set.records["target"],
        "adaptive": fresh.records["target"],
    }
    crafted_on = {"clean": None, "static": params.attack.target, "adaptive": HARDENED}
    results = {
        name: {
            data: {
                **classification(targets[data], positive, params.evaluate.confidence_level),
                "crafted_on": crafted_on[data],
            }
            for data, positive in by_data.items()
        }
        for name, by_data in scores.items()
    }
    _write_plots(plots, params, scores, targets, static_set, fresh)
    write_json(
        metrics,
        {
            "classes": list(params.data.classes),
            "positive": params.data.classes[1],
            "confidence_level": params.evaluate.confidence_level,
            "models": results,
            "distortion": {
                "static": distortion(static_set.records),
                "adaptive": distortion(fresh.records),
            },
        },
    )
    return scratch


def _clean(network: OCTClassifier, images: ImageSet, batch: int) -> NDArray[np.floating[Any]]:
    parts = []
    for start in range(0, len(images), batch):
        rows = np.arange(start, min(start + batch, len(images)))
        parts.append(probabilities(network, torch.from_numpy(images.views(rows)))[:, 1])
    return np.concatenate(parts)


def _adversarial(network: OCTClassifier, found: AdversarialSet) -> NDArray[np.floating[Any]]:
    shards = (found.shard(number) for number in range(len(found.manifest["shards"])))
    return np.concatenate(
        [probabilities(network, torch.from_numpy(images))[:, 1] for images in shards]
    )


def _write_plots(
    plots: Path,
    params: Params,
    scores: dict[str, dict[str, NDArray[np.floating[Any]]]],
    targets: dict[str, NDArray[np.int64]],
    static: AdversarialSet,
    adaptive: AdversarialSet,
) -> None:
    names = params.data.classes
    with atomic_folder(plots / PLOTS[0]) as folder:
        for model, by_data in scores.items():
            for data, positive in by_data.items():
                rows = [
                    {"actual": names[int(t)], "predicted": names[int(p > 0.5)]}
                    for t, p in zip(targets[data], positive, strict=True)
                ]
                write_csv(folder / f"{model}_{data}.csv", rows, ("actual", "predicted"))
    bins = histogram(
        {
            f"static, made on {params.attack.target}": _l2(static),
            f"adaptive, made on {HARDENED}": _l2(adaptive),
        }
    )
    write_csv(plots / PLOTS[1], bins, ("set", "from", "to", "images"))


def _l2(found: AdversarialSet) -> NDArray[np.floating[Any]]:
    values: NDArray[np.floating[Any]] = found.records["l2"][found.records["success"]]
    return values

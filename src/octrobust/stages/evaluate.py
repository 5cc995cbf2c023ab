"""Every model on the clean test images and on every adversarial form of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from octrobust.attack.shards import AdversarialSet, open_adversarial
from octrobust.config import CLEAN, Params, middle
from octrobust.data.arrays import ImageSet, open_split
from octrobust.distributed.group import dealt, put_together
from octrobust.distributed.place import is_first
from octrobust.evaluation.corruptions import CORRUPTIONS, corrupt
from octrobust.evaluation.distortion import distortion, histogram
from octrobust.evaluation.intervals import accuracy_interval
from octrobust.evaluation.metrics import classification, reliability
from octrobust.files import atomic_folder, write_csv, write_json
from octrobust.model.build import OCTClassifier
from octrobust.model.device import select_device
from octrobust.model.predict import predict, probabilities
from octrobust.model.store import load_model
from octrobust.stages import compare

PLOTS = ("confusion", "distortion.csv", "matrix.csv", "reliability.csv")
Scores = dict[str, dict[str, NDArray[np.floating[Any]]]]  # by model, then by test set
Rows = dict[str, NDArray[np.int64]]  # of the test split, by test set
Corrupted = dict[str, dict[str, dict[str, float]]]  # by corruption, then by severity


def evaluate(
    params: Params,
    arrays: Path,
    models: Path,
    static: Path,
    adaptive: Path,
    batteries: Path,
    metrics: Path,
    plots: Path,
) -> None:
    """Measure all models on all test sets. Ranks of a stage take models in turn.

    A test set is the clean one, or an adversarial one by the name of the model that it was made
    on: for that model it is adaptive, for all others static.

    Args:
        models: folder of model folders, see `Params.models`.
        static: the stored adversarial test set, made on attack.target.
        adaptive: folder of the sets made on the models of evaluate.adaptive.
        batteries: folder of the battery's records, MODEL.csv.
        metrics: metrics/evaluation.json.
        plots: folder for confusion/MODEL_on_SET.csv (actual, predicted), distortion.csv,
            matrix.csv (model, made_on, accuracy) and reliability.csv.
    """
    device = select_device(params.compute)
    images = open_split(arrays, "test", params.data.image_size)
    sets = {params.attack.target: open_adversarial(static)}
    sets |= {name: open_adversarial(adaptive / name) for name in params.evaluate.adaptive}
    rows = {CLEAN: np.arange(len(images))}
    rows |= {name: found.records["row"] for name, found in sets.items()}
    validation = open_split(arrays, "validation", params.data.image_size)
    budget = middle(params.evaluate.battery.l2)
    own: dict[str, dict[str, Any]] = {}
    for name in tqdm(dealt(params.models()), "evaluate", unit="model", leave=False):
        network = load_model(models / name, device)
        positive = {CLEAN: clean_scores(network, images, params.compute.predict_batch_size)}
        positive |= {source: adversarial_scores(network, found) for source, found in sets.items()}
        own[name] = {
            "positive": {data: values.tolist() for data, values in positive.items()},
            "corrupted": corrupted_accuracies(params, network, images),
            # What a defence is chosen by: the test images are there to measure it.
            "validated": compare.pgd_accuracies(params, network, validation, [budget])
            if name in params.hardened()
            else [],
        }
    measured = put_together(own)
    if not is_first():
        return
    measured = {name: measured[name] for name in params.models()}
    scores: Scores = {
        name: {data: np.array(p, np.float32) for data, p in one["positive"].items()}
        for name, one in measured.items()
    }
    results = _classified(params, scores, images, rows)
    _write_plots(plots, params.data.classes, scores, results, images.targets, rows)
    _write_distances(plots, sets)
    write_json(
        metrics,
        {
            "classes": list(params.data.classes),
            "positive": params.data.classes[1],
            "confidence_level": params.evaluate.confidence_level,
            "target": params.attack.target,
            "models": results,
            "distortion": {name: distortion(found.records) for name, found in sets.items()},
            "corruptions": {name: one["corrupted"] for name, one in measured.items()},
            "distortion_ratios": compare.distortion_ratios(params, sets, images.patients),
            "validation_robust": {
                "l2": budget,
                "accuracy": {name: measured[name]["validated"][0] for name in params.hardened()},
            },
            **_compared(params, scores, images, rows, batteries),
        },
    )


def _classified(
    params: Params, scores: Scores, images: ImageSet, rows: Rows
) -> dict[str, dict[str, Any]]:
    """The metrics of every model on every test set."""
    return {
        name: {
            data: classification(
                images.targets[rows[data]],
                positive,
                [images.patients[int(row)] for row in rows[data]],
                params.evaluate.confidence_level,
            )
            for data, positive in by_set.items()
        }
        for name, by_set in scores.items()
    }


def _compared(
    params: Params, scores: Scores, images: ImageSet, rows: Rows, batteries: Path
) -> dict[str, list[Any]]:
    """Tests between models, and the flags that the figures raise."""
    right = {
        name: {data: (p > 0.5) == (images.targets[rows[data]] == 1) for data, p in by_set.items()}
        for name, by_set in scores.items()
    }
    predicted = {name: (by_set[CLEAN] > 0.5).astype(np.int64) for name, by_set in scores.items()}
    attacked, survivors = compare.survivors_of(params, right, batteries)
    flags = compare.flags(params, right, rows, predicted, images.patients, survivors, attacked)
    return {
        "mcnemar": list(compare.tests(right, params.attack.target, survivors)),
        "flags": [vars(flag) for flag in flags],
    }


def clean_scores(network: OCTClassifier, images: ImageSet, batch: int) -> NDArray[np.floating[Any]]:
    """Probabilities (N,) of the positive class, `batch` images in memory at a time."""
    return np.concatenate(
        [probabilities(network, torch.from_numpy(x))[:, 1] for x, _ in images.batches(batch)]
    )


def corrupted_accuracies(params: Params, network: nn.Module, images: ImageSet) -> Corrupted:
    """Accuracy on corrupted clean images, with accuracy_low and accuracy_high over patients."""
    size = params.compute.predict_batch_size

    def score(kind: str, severity: int) -> dict[str, float]:
        right = np.zeros(len(images), dtype=bool)
        for row, (x, y) in zip(range(0, len(images), size), images.batches(size), strict=True):
            corrupted = corrupt(torch.from_numpy(x), kind, severity, first_row=row)
            right[row : row + size] = predict(network, corrupted) == y
        level = params.evaluate.confidence_level
        low, high = accuracy_interval(right, images.patients, level)
        return {"accuracy": float(right.mean()), "accuracy_low": low, "accuracy_high": high}

    severities = params.evaluate.corruption_severities
    return {kind: {str(s): score(kind, s) for s in severities} for kind in CORRUPTIONS}


def adversarial_scores(network: OCTClassifier, found: AdversarialSet) -> NDArray[np.floating[Any]]:
    """As `clean_scores`, of a stored set, a shard in memory at a time."""
    shards = (found.shard(number) for number in range(len(found.manifest["shards"])))
    return np.concatenate(
        [probabilities(network, torch.from_numpy(images))[:, 1] for images in shards]
    )


def _write_plots(
    plots: Path,
    classes: tuple[str, str],
    scores: Scores,
    results: dict[str, Any],
    targets: NDArray[np.int64],
    rows: Rows,
) -> None:
    matrix, bins = [], []
    with atomic_folder(plots / PLOTS[0]) as folder:
        for model, by_set in scores.items():
            for data, positive in by_set.items():
                truth = targets[rows[data]]
                lines = [
                    {"actual": classes[int(t)], "predicted": classes[int(p > 0.5)]}
                    for t, p in zip(truth, positive, strict=True)
                ]
                write_csv(folder / f"{model}_on_{data}.csv", lines, ("actual", "predicted"))
                accuracy = results[model][data]["accuracy"]
                matrix.append({"model": model, "made_on": data, "accuracy": accuracy})
                if data in (CLEAN, model):
                    own = reliability(truth, positive)
                    bins += [{"model": model, "made_on": data, **row} for row in own]
    write_csv(plots / PLOTS[2], matrix, ("model", "made_on", "accuracy"))
    columns = ("model", "made_on", "from", "to", "confidence", "accuracy", "images")
    write_csv(plots / PLOTS[3], bins, columns)


def _write_distances(plots: Path, sets: dict[str, AdversarialSet]) -> None:
    distances = histogram(
        {
            f"made on {name}": found.records["l2"][found.records["success"]]
            for name, found in sets.items()
        }
    )
    write_csv(plots / PLOTS[1], distances, ("set", "from", "to", "images"))

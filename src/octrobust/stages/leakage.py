"""What a split by image flatters: one configuration trained under both splits."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from tqdm import tqdm

from octrobust.config import Params
from octrobust.data.arrays import open_split, prepare
from octrobust.data.index import read_index
from octrobust.data.look_alikes import look_alikes
from octrobust.data.split import split
from octrobust.errors import UserError
from octrobust.evaluation.metrics import classification
from octrobust.files import read_csv, write_json
from octrobust.model.device import select_device
from octrobust.model.store import load_model
from octrobust.stages.common import arithmetic, scratch_for
from octrobust.stages.evaluate import clean_scores
from octrobust.stages.repeat import reseeded
from octrobust.stages.train import train

ROOMS = (".", "data", "distributed", "evaluation", "model", "training", "stages")
SPLITS = ("patient", "image")
READINGS = ("accuracy", "mcc", "auc")


def leakage(params: Params, variant: str, repeats: int, raw: Path, metrics: Path) -> Path:
    """Train `variant` on splits by patient and by image, and measure both on their test images.

    Both splits have the same numbers of images. Repeat k adds k to split.seed and train.seed, for
    both splits alike, so that they are pairs.

    Args:
        raw: data/raw, as `ingest` leaves it.
        metrics: JSON: for each split the runs (accuracy, mcc, auc, patients and look-alikes in
            train and test both) and their means; `inflation`, image minus patient, mean and
            deviation of the pairs.

    Returns:
        The folder of the finished work, to be removed once the result is recorded.

    Raises:
        UserError: no such variant, no data, or images that cannot be split by patient.
    """
    if variant not in params.train.variants:
        raise UserError(f"train.variants has no '{variant}': {', '.join(params.train.variants)}")
    index = raw / "index.csv"
    read_index(index)  # says what to do where there is none
    room = scratch_for(
        "leakage",
        ROOMS,
        index,
        params.model_dump(include={"data", "split", "model", "train"}),
        [variant, repeats],
        arithmetic(params.train.precision, select_device(params.compute)),
    )
    runs: dict[str, list[dict[str, Any]]] = {by: [] for by in SPLITS}
    todo = [(number, by) for number in range(repeats) for by in SPLITS]
    for number, by in tqdm(todo, "leakage", unit="run", leave=False):
        runs[by].append(_run(params, variant, by, number, raw, room / f"{by}-{number}"))
    means = {by: {name: _mean(found, name) for name in READINGS} for by, found in runs.items()}
    inflation = {name: _inflation(runs, name) for name in READINGS}
    write_json(
        metrics,
        {
            "variant": variant,
            "source": params.data.source,
            "repeats": repeats,
            "runs": runs,
            "mean": means,
            "inflation": inflation,
        },
    )
    return room


def _mean(runs: list[dict[str, Any]], name: str) -> float | None:
    values = [run[name] for run in runs if run[name] is not None]
    return mean(values) if values else None


def _inflation(runs: dict[str, list[dict[str, Any]]], name: str) -> dict[str, float | None]:
    """Image minus patient, pair by pair: mean, and standard deviation of the pairs."""
    pairs = zip(runs["image"], runs["patient"], strict=True)
    found = [a[name] - b[name] for a, b in pairs if None not in (a[name], b[name])]
    return {
        "mean": mean(found) if found else None,
        "deviation": stdev(found) if len(found) > 1 else None,
    }


def _run(
    params: Params, variant: str, by: str, number: int, raw: Path, room: Path
) -> dict[str, Any]:
    """One split, trained and measured; what a killed run finished is kept."""
    again = reseeded(params, params.train.seed + number)
    dealt = params.split.model_copy(update={"by": by, "seed": params.split.seed + number})
    splits, arrays, model = (room / name for name in ("splits", "arrays", "model"))
    if not arrays.exists():
        split(raw / "index.csv", dealt, params.data.classes, splits, room / "split.json")
        prepare(raw, splits, params.data, arrays, room / "prepare.json", params.compute.threads)
    if not model.exists():
        outs = (model, room / "history.csv", room / "train.json")
        shutil.rmtree(train(again, variant, arrays, *outs))
    images = open_split(arrays, "test", params.data.image_size)
    network = load_model(model, select_device(params.compute))
    scores = classification(
        images.targets,
        clean_scores(network, images, params.compute.predict_batch_size),
        images.patients,
        params.evaluate.confidence_level,
    )
    return {
        **{name: scores[name] for name in READINGS},
        "test_images": len(images),
        **_shared(splits),
    }


def _shared(splits: Path) -> dict[str, int]:
    """Patients, and pairs of look-alikes, that train and test have in common."""
    rows = [(name, row) for name in ("train", "test") for row in read_csv(splits / f"{name}.csv")]
    homes = [name for name, _ in rows]
    patients = [
        {row["patient"] for name, row in rows if name == home} for home in ("train", "test")
    ]
    pairs = look_alikes([row["phash"] for _, row in rows], across=homes)
    return {
        "patients_in_both": len((patients[0] & patients[1]) - {""}),
        "look_alikes_in_both": len(pairs),
    }

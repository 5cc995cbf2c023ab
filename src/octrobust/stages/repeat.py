"""The experiment once more from another seed: how far the numbers depend on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from octrobust.attack.shards import open_adversarial
from octrobust.config import Params
from octrobust.data.arrays import open_split
from octrobust.distributed.group import dealt, put_together
from octrobust.distributed.place import is_first
from octrobust.files import write_json
from octrobust.model.device import select_device
from octrobust.model.store import load_model
from octrobust.model.weights import weights_sha256
from octrobust.stages.attack import attack_split
from octrobust.stages.common import arithmetic, array_files, discard, scratch_for
from octrobust.stages.compare import pgd_accuracies
from octrobust.stages.evaluate import adversarial_scores, clean_scores
from octrobust.stages.harden import harden
from octrobust.stages.train import train

# What `compare.pgd_accuracies` takes of evaluate.battery; so in dvc.yaml.
PGD_OF_BATTERY = {"channels", "images_per_class", "l2", "restarts", "seed", "steps"}
ROOMS = (
    *(".", "attack", "data", "distributed", "evaluation", "model", "training"),
    *("training/defences", "stages"),
)


def repeat(params: Params, seed: int, arrays: Path, metrics: Path) -> Path:
    """Train attack.target, attack it, and harden it in every variant, all from `seed`; weights that
    come from a file are the same for every seed.

    The split stays as it is. Of each model, on the test images: accuracy clean, on the static EAD
    set, and under PGD made on that model within each L2 budget of the battery, on the battery's
    images, in the first of its channels.

    Returns:
        The folder of the finished work, to be kept until dvc.lock has the result.
    """
    params, device = reseeded(params, seed), select_device(params.compute)
    room = scratch_for(
        f"repeat-{seed}",
        ROOMS,
        *array_files(arrays, "train", "validation", "test", "extra"),
        params.model_dump(exclude={"compute", "replay", "evaluate"}),
        params.evaluate.battery.model_dump(include=PGD_OF_BATTERY),
        [
            weights_sha256(way.first_weights(params.model.weights) or "none")
            for way in params.harden.variants.values()
        ],
        arithmetic(params.train.precision, device),
        arithmetic(params.attack.precision, device),
    )
    models, target = room / "models", room / "models" / params.attack.target
    # What a killed run finished is there as a whole.
    if not target.exists():
        discard(train(params, target.name, arrays, target, *_numbers(room, target.name)))
    for split in ("train", "test"):
        out = room / "adversarial" / split
        if not out.exists():
            per_class = getattr(params.attack.images_per_class, split)
            numbers = room / f"{split}.json"
            discard(attack_split(params, split, per_class, arrays, target, out, numbers))
    for name, variant in zip(params.hardened(), params.harden.variants, strict=True):
        if not (models / name).exists():
            adversarial = room / "adversarial" / "train"
            outs = (models / name, *_numbers(room, name))
            discard(harden(params, variant, arrays, adversarial, target, *outs))
    measured = put_together(_measure(params, arrays, room))
    if is_first():
        write_json(metrics, {"seed": seed, "models": measured})
    return room


def reseeded(params: Params, seed: int) -> Params:
    """The same parameters with `seed` for training and hardening."""
    return params.model_copy(
        update={
            "train": params.train.model_copy(update={"seed": seed}),
            "harden": params.harden.model_copy(update={"seed": seed}),
        }
    )


def _numbers(room: Path, name: str) -> tuple[Path, Path]:
    return room / f"{name}.csv", room / f"{name}.json"


def _measure(params: Params, arrays: Path, room: Path) -> dict[str, Any]:
    """Accuracies by model: clean, static, and pgd_l2_BUDGET; of this rank's models."""
    device = select_device(params.compute)
    images = open_split(arrays, "test", params.data.image_size)
    static = open_adversarial(room / "adversarial" / "test")
    budgets, found = sorted(params.evaluate.battery.l2), {}
    own = dealt([params.attack.target, *params.hardened()])
    for name in tqdm(own, "repeat: measured", unit="model", leave=False):
        network = load_model(room / "models" / name, device)
        clean = clean_scores(network, images, params.compute.predict_batch_size)
        left = pgd_accuracies(params, network, images, budgets)
        found[name] = {
            "clean": _accuracy(clean, images.targets),
            "static": _accuracy(adversarial_scores(network, static), static.records["target"]),
            **{f"pgd_l2_{b:g}": value for b, value in zip(budgets, left, strict=True)},
        }
    return found


def _accuracy(positive: NDArray[np.floating[Any]], targets: NDArray[np.int64]) -> float:
    return float(((positive > 0.5) == (targets == 1)).mean())

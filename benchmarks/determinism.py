"""What changes the bytes of a result on one machine, and by how much.

Trains, attacks and predicts on the pipeline's own images (`dvc repro prepare` first) with one
setting changed at a time, and prints a table: how far each is from the reference, which has one
thread, fp32 and no loader workers. See docs/explanation/determinism.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from octrobust import config
from octrobust.data.arrays import ImageSet, open_split
from octrobust.model.predict import probabilities
from octrobust.model.store import WEIGHTS, load_model
from octrobust.stages.attack import attack_model, spread_rows
from octrobust.stages.train import train

ARRAYS = Path("data/arrays").resolve()
REFERENCE = {
    "device": "cpu",
    "threads": 1,
    "workers": 0,
    "precision": "fp32",
    "attack_batch_size": 16,
    "shard": 128,
}
CHANGES: dict[str, Mapping[str, Any]] = {
    "the same once more": {},
    "loader workers: 2": {"workers": 2},
    "attack_batch_size: 32": {"attack_batch_size": 32},
    "shard_size: 3": {"shard": 3},
    "threads: 2": {"threads": 2},
    "precision: bf16": {"precision": "bf16"},
}


@dataclass(frozen=True)
class Result:
    """Weights by name; probabilities (N, 2) of the test images by the reference model; per
    attacked image, on that model too, success and L2."""

    weights: dict[str, NDArray[np.floating[Any]]]
    validation: float
    scores: NDArray[np.float32]
    success: NDArray[np.bool_]
    l2: NDArray[np.float64]


def parameters(
    base: config.Params, how: Mapping[str, Any], epochs: int, images: int
) -> config.Params:
    values = base.model_dump()
    values["compute"] |= {
        "device": how["device"],
        "threads": how["threads"],
        "workers": how["workers"],
        "attack_batch_size": how["attack_batch_size"],
        "shard_size": how["shard"],
    }
    values["train"] |= {"precision": how["precision"], "epochs": epochs}
    values["attack"] |= {"precision": how["precision"]}
    values["attack"]["images_per_class"] |= {"test": images}
    return config.Params.model_validate(values)


def run(params: config.Params, test: ImageSet, reference: Path | None, room: Path) -> Result:
    """Everything once, in an empty folder: unfinished work of another run must not be found."""
    room.mkdir()
    (room / "dvc.yaml").touch()
    os.chdir(room)
    model = room / "config_1"
    train(params, "config_1", ARRAYS, model, room / "curve.csv", room / "train.json")
    shared = reference or model
    with torch.inference_mode():
        network = load_model(shared, params.compute.device)
        scores = probabilities(network, torch.from_numpy(test.views(slice(None))))
    rows = spread_rows(test, params.attack.images_per_class.test)
    found, _ = attack_model(params, test, rows, shared, room / "set", key="test")
    history = np.genfromtxt(room / "curve.csv", delimiter=",", names=True)
    return Result(
        load_file(model / WEIGHTS),
        float(np.atleast_1d(history["validation_loss"])[-1]),
        scores,
        found.records["success"],
        found.records["l2"].astype(np.float64),
    )


def apart(found: Result, reference: Result) -> list[str]:
    """The row of the table; an empty difference is said as such."""
    change = any(not np.array_equal(found.weights[k], v) for k, v in reference.weights.items())
    learnt = [name for name in reference.weights if name.endswith((".weight", ".bias"))]
    before = np.concatenate([reference.weights[name].ravel() for name in learnt])
    after = np.concatenate([found.weights[name].ravel() for name in learnt])
    distance = float(np.linalg.norm(after - before) / np.linalg.norm(before))
    loss = abs(found.validation - reference.validation) / reference.validation
    score = float(np.abs(found.scores - reference.scores).max())
    both = found.success & reference.success
    l2 = np.abs(found.l2 - reference.l2)[both] / reference.l2[both]
    other = int((found.success != reference.success).sum())
    same = "same bytes"
    return [
        f"{distance:.1e}; {100 * loss:.1g} %" if change else same,
        f"{score:.1e}" if score else same,
        f"{100 * np.median(l2):.1g} % ({100 * l2.max():.1g} %), {other} of {len(found.success)}"
        if other or l2.any()
        else same,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="or cuda")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=12, help="attacked, of each class")
    parser.add_argument("--only", choices=CHANGES, action="append", help="these rows alone")
    chosen = parser.parse_args()
    base = config.load()
    test = open_split(ARRAYS, "test", base.data.image_size)
    rows = [(name, CHANGES[name]) for name in chosen.only or CHANGES]
    head = ["changed", "weights, relative L2 distance; validation loss"]
    head += ["probabilities", "L2 of successes: median (largest); other verdicts"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    with tempfile.TemporaryDirectory() as temporary:
        first: Result | None = None
        for number, (name, change) in enumerate([("", {}), *rows]):
            params = parameters(
                base, {**REFERENCE, "device": chosen.device, **change}, chosen.epochs, chosen.images
            )
            room = Path(temporary) / str(number)
            model = Path(temporary) / "0" / "config_1" if first else None
            found = run(params, test, model, room)
            if first is None:
                first = found
                continue
            print(f"| {name} | {' | '.join(apart(found, first))} |", flush=True)


if __name__ == "__main__":
    main()

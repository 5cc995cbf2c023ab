"""What is attacked: a trained network and images that it gets right, kept from run to run."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from octrobust.config import Augmentation, Fit, Model
from octrobust.data import phantom
from octrobust.data.arrays import decode, open_split, stored_side
from octrobust.errors import UserError
from octrobust.files import atomic_folder, digest, scratch
from octrobust.model.build import OCTClassifier, build, calibrate_batch_norm
from octrobust.model.predict import predict
from octrobust.model.store import load_model, save_model
from octrobust.training.datasets import Augmented, GreyPixels, Source
from octrobust.training.fit import fit

PATIENTS, HELD_OUT_PATIENTS, SCANS = 110, 35, 4  # of each class, and scans of each patient
SEED = 11
SMALL = 96  # networks for larger images learn most of it at this size: four times as fast
MIN_ACCURACY = 0.9
AUGMENTATION = Augmentation(crop_scale_min=0.6, flip=0.5, rotation=0.0, contrast=0.0)
LEARN = Fit(
    optimizer="adamw",
    learning_rate=1e-3,
    momentum=0.9,
    weight_decay=0.01,
    schedule="cosine",
    batch_size=16,
    epochs=4,
    precision="auto",
    seed=SEED,
    augmentation=AUGMENTATION,
)
ADAPT = LEARN.model_copy(update={"epochs": 2, "learning_rate": 2e-4})  # to the full size


@dataclass(frozen=True)
class Pool:
    """A network on disk, and held-out images to choose from.

    x: (N, 1, S, S) float32 in [0, 1]; y: (N,) int64; origin: one line for the tables.
    """

    folder: Path
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    origin: str


def trained(size: int) -> Pool:
    """The benchmark's own network for `size` px, trained on phantom scans where it is not yet.

    Raises:
        UserError: it does not learn to tell its held-out images apart.
    """
    key = digest(LEARN.model_dump(), ADAPT.model_dump(), [PATIENTS, SCANS, SEED, SMALL], size)
    folder = scratch("benchmarks") / f"network-{size}-{key}"
    if not folder.exists():
        with atomic_folder(folder) as temporary:
            _train(size, temporary)
    with np.load(folder / "held_out.npz", allow_pickle=False) as held_out:
        x, y = held_out["x"], held_out["y"]
    origin = f"trained by benchmarks/bench/network.py on phantom scans at {size} px"
    return Pool(folder / "model", x, y, origin)


def stored(model: Path, arrays: Path, split: str, size: int) -> Pool:
    """A network and a split of the pipeline's, e.g. ``models/config_1`` and ``data/arrays``."""
    images = open_split(arrays, split, size)
    x = images.views(np.arange(len(images)))
    return Pool(model, x, images.targets, f"{model}, {split} images of {arrays}")


def choose(pool: Pool, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The first `count` images that the network gets right, in turn from each class.

    Raises:
        UserError: there are not so many.
    """
    right = predict(load_model(pool.folder), torch.from_numpy(pool.x)) == pool.y
    members = [np.flatnonzero(right & (pool.y == label)) for label in np.unique(pool.y)]
    each = -(-count // len(members))
    if min(len(of_class) for of_class in members) < each:
        raise UserError(f"--images {count}: only {sum(map(len, members))} are right to begin with")
    rows = np.stack([of_class[:each] for of_class in members], axis=1).ravel()[:count]
    return pool.x[rows], pool.y[rows]


def _train(size: int, out: Path) -> None:
    """Write ``out/model`` and ``out/held_out.npz``."""
    model = build(Model(weights="none", standardisation="facenet", dropout=0.6), seed=SEED)
    model.to(memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as raw:
        phantom.write_phantom(Path(raw), phantom.LABELS, PATIENTS, SCANS, SEED)
        small = min(size, SMALL)
        _fit(model, _scans(Path(raw), small), small, LEARN, calibrate=True)
        data = _scans(Path(raw), size)
        if size > small:
            _fit(model, data, size, ADAPT)
    _, (pixels, y) = data
    x = _views(pixels, size)
    accuracy = float((predict(model, torch.from_numpy(x)) == y).mean())
    if accuracy < MIN_ACCURACY:
        raise UserError(f"the network at {size} px is right on {accuracy:.0%} only: train longer")
    np.savez(out / "held_out.npz", x=x, y=y)
    save_model(out / "model", model, {"held_out_accuracy": accuracy, "size": size})


Scans = tuple[NDArray[np.uint8], NDArray[np.int64]]  # pixels (N, R, R), classes (N,)


def _scans(raw: Path, size: int) -> tuple[Scans, Scans]:
    """Training and held-out scans for networks of `size` px; no patient is in both."""
    parts: tuple[list[tuple[Path, int]], ...] = ([], [])
    for target, label in enumerate(phantom.LABELS):
        paths = sorted((raw / label).glob("*.jpeg"))
        cut = (PATIENTS - HELD_OUT_PATIENTS) * SCANS
        parts[0].extend((path, target) for path in paths[:cut])
        parts[1].extend((path, target) for path in paths[cut:])
    train, held_out = (
        (
            np.stack([decode(path, stored_side(size)) for path, _ in part]),
            np.array([target for _, target in part], dtype=np.int64),
        )
        for part in parts
    )
    return train, held_out


def _fit(
    model: OCTClassifier,
    data: tuple[Scans, Scans],
    size: int,
    settings: Fit,
    calibrate: bool = False,
) -> None:
    (pixels, targets), (held_out, held_out_targets) = data
    train = Augmented(
        [Source(GreyPixels(pixels), targets)], size, settings.augmentation, settings.seed
    )
    if calibrate:
        sample = torch.from_numpy(_views(pixels[:: len(pixels) // 128], size))
        calibrate_batch_norm(model, lambda: iter(sample.split(32)))

    parts = [slice(start, start + 32) for start in range(0, len(held_out), 32)]
    validation = [(_views(held_out[part], size), held_out_targets[part]) for part in parts]

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint"
        fit(model, train, validation, settings, checkpoint=checkpoint, label=f"{size} px")


def _views(pixels: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """Centre crops, (N, 1, S, S) float32 in [0, 1], as `ImageSet.views` takes them."""
    start = round((pixels.shape[1] - size) / 2)
    inside = slice(start, start + size)
    return pixels[:, None, inside, inside].astype(np.float32) / np.float32(255)

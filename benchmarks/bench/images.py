"""Phantom scans on disk, kept from run to run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from octrobust.data.phantom import LABELS, write_phantom
from octrobust.files import atomic_folder, atomic_path, scratch

SEED = 11


def phantoms(patients: int, scans: int = 4) -> Path:
    """A folder of CLASS/CLASS-PATIENT-N.jpeg with so many patients of each class."""
    folder = scratch("benchmarks") / f"scans-{patients}x{scans}"
    if not folder.exists():
        with atomic_folder(folder) as temporary:
            write_phantom(temporary, LABELS, patients, scans, SEED)
    return folder


def variations(folder: Path, patients: int, scans: int, base: Path) -> None:
    """Write ``folder/CLASS/CLASS-PATIENT-N.jpeg``, as large as the scans in `base`, cheaply.

    A patient is two base scans of its class, one over the other at a share of its own, shifted
    and lit as only its scans are; from scan to scan it moves a few pixels. So bytes differ always,
    and perceptual hashes as those of other patients do. What is there already is kept.
    """
    for kind, label in enumerate(LABELS):
        paths = sorted((base / label).glob("*.jpeg"))
        (folder / label).mkdir(parents=True, exist_ok=True)
        for patient in range(patients):
            number = 1001 + len(LABELS) * patient + kind
            rng, drawn = _rng(patient, kind), None
            moves = _rng(patient, kind, 0).permutation(13 * 13)  # no two of a patient's alike
            for scan in range(1, scans + 1):
                target = folder / label / f"{label}-{number}-{scan}.jpeg"
                if target.exists():
                    continue
                drawn = _patient(rng, paths) if drawn is None else drawn
                shift = divmod(int(moves[scan - 1]), 13)
                image = Image.fromarray(np.roll(drawn, (shift[0] - 6, shift[1] - 6), (0, 1)))
                with atomic_path(target, of_many=True) as temporary:
                    image.save(temporary, format="JPEG", quality=75)


def _rng(*numbers: int) -> np.random.Generator:
    return np.random.default_rng((SEED, *numbers))


def _patient(rng: np.random.Generator, paths: list[Path]) -> NDArray[np.uint8]:
    """(496, W) uint8."""
    with Image.open(paths[rng.integers(len(paths))]) as one:
        first = one.convert("L")
    with Image.open(paths[rng.integers(len(paths))]) as other:
        second = other.convert("L").resize(first.size)
    mixed = np.asarray(Image.blend(first, second, float(rng.uniform(0.2, 0.8))))
    if rng.random() < 0.5:
        mixed = mixed[:, ::-1]
    height, width = mixed.shape
    moved = np.roll(mixed, rng.integers(-height // 6, height // 6), 0)
    light = 1 + rng.normal(0, 0.25) * np.sin(np.linspace(0, np.pi * rng.uniform(0.5, 3), width))
    light = light * (1 + rng.normal(0, 0.25) * np.linspace(-1, 1, height)[:, None])
    return np.clip(moved * light.astype(np.float32), 0, 255).astype(np.uint8)

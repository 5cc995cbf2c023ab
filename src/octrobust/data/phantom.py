"""Synthetic OCT B-scans of the retina: data to try the whole pipeline on, without a download.

`scan` draws one picture, `write_phantom` a data set with Kermany's file names. What a scan looks
like depends on (seed, label, patient, number) alone.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from octrobust.data.phantom_anatomy import HEIGHT, Eye, Layer, Section, draw_eye, draw_section
from octrobust.data.phantom_lesions import add_lesions, draw_disease
from octrobust.errors import UserError
from octrobust.files import atomic_path

LABELS = ("NORMAL", "CNV")
JPEG_QUALITY = 75
FIRST_PATIENT = 1001

# The normal distribution's quantiles: a look-up of random bytes is the fastest noise.
_NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], dtype=np.float32)
# A layer's edge is spread over these rows about its place.
_BLUR = (-0.8, 0.8)


def scan(label: str, patient: int, number: int, seed: int) -> NDArray[np.uint8]:
    """Draw scan `number` of `patient`: (496, W) uint8 grey, W one of 512, 768 and 1536.

    Scans of one patient share the eye, its disease and its size; patients of different labels
    have nothing in common, even with equal numbers.

    Raises:
        UserError: the phantom has no such label.
    """
    _check_labels([label])
    kind = LABELS.index(label)
    of_patient = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(kind, patient)))
    of_scan = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(kind, patient, number)))
    eye = draw_eye(of_patient)
    device = _draw_device(of_patient)
    section = draw_section(of_scan, eye)
    if label == "CNV":
        add_lesions(of_scan, section, draw_disease(of_patient))
    section.reflectivity = np.maximum(section.reflectivity, 0) ** np.float32(device.gamma)
    image = _layers(section)
    _spots(image, section, eye)
    _choroid(of_scan, image, section, eye)
    return _wedges(of_scan, _expose(of_scan, image, device))


def write_phantom(
    out: Path,
    classes: Sequence[str],
    patients_per_class: int,
    images_per_patient: int,
    seed: int,
    workers: int = 0,
    progress: bool = True,
) -> None:
    """Write ``out/CLASS/CLASS-PATIENT-N.jpeg``, 8-bit grey, N from 1.

    Patient numbers are disjoint between the classes, and more patients or images leave the
    others as they were. The bytes are the same for any number of `workers` (processes; 0 and 1:
    this one). `progress`: a bar on stderr. Files already in `out` are kept or replaced.

    Raises:
        UserError: the phantom has no such class.
    """
    _check_labels(classes)
    tasks = [
        _Task(out, label, _patient_number(label, index), number, seed)
        for label in classes
        for index in range(patients_per_class)
        for number in range(1, images_per_patient + 1)
    ]
    with tqdm(total=len(tasks), desc="phantom", unit="image", disable=not progress) as bar:
        for _ in _run(tasks, workers):
            bar.update()


@dataclass(frozen=True)
class _Task:
    out: Path
    label: str
    patient: int
    number: int
    seed: int


def _run(tasks: Sequence[_Task], workers: int) -> Iterator[None]:
    if workers <= 1:
        yield from map(_write, tasks)
        return
    # Spawned, not forked: the caller may have threads of its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(_write, tasks, chunksize=8)


def _write(task: _Task) -> None:
    image = Image.fromarray(scan(task.label, task.patient, task.number, task.seed))
    name = f"{task.label}-{task.patient}-{task.number}.jpeg"
    with atomic_path(task.out / task.label / name, of_many=True) as temporary:
        image.save(temporary, format="JPEG", quality=JPEG_QUALITY)


def _patient_number(label: str, index: int) -> int:
    return FIRST_PATIENT + len(LABELS) * index + LABELS.index(label)


def _check_labels(labels: Sequence[str]) -> None:
    unknown = [label for label in labels if label not in LABELS]
    if unknown:
        raise UserError(
            f"data.classes: the phantom has no {', '.join(unknown)}: "
            f"use {' and '.join(LABELS)}, or another data.source"
        )


@dataclass(frozen=True)
class _Device:
    """How the patient's scans were taken."""

    exposure: float  # mean grey of a scan
    gamma: float  # over the reflectivities: below 1 flattens, above 1 steepens
    grain: float  # strength of the multiplicative speckle
    noise: float  # of the detector, as a share of full light


def _draw_device(rng: np.random.Generator) -> _Device:
    return _Device(
        exposure=rng.uniform(25, 52),
        gamma=rng.uniform(0.75, 1.1),
        grain=rng.uniform(0.16, 0.4),
        noise=rng.uniform(0.015, 0.065),
    )


def _layers(section: Section) -> NDArray[np.float32]:
    """Fill the layers, (HEIGHT, W) float32, with antialiased edges.

    The picture is the running sum, down each column, of the steps at the layers' edges.
    """
    steps = np.zeros((HEIGHT + 1, section.x.size), dtype=np.float32)
    steps[0] = section.reflectivity[Layer.VITREOUS]
    columns = np.arange(section.x.size)
    jumps = np.diff(section.reflectivity, axis=0) / np.float32(len(_BLUR))
    for top, jump in zip(section.tops()[1:], jumps, strict=True):
        for offset in _BLUR:
            edge = np.clip(top + np.float32(offset), 0, HEIGHT - 1)
            row = edge.astype(np.int64)
            part = edge - row
            steps[row, columns] += jump * (1 - part)
            steps[row + 1, columns] += jump * part
    return steps[:HEIGHT].cumsum(axis=0, dtype=np.float32)


def _spots(image: NDArray[np.float32], section: Section, eye: Eye) -> None:
    """Draw cysts and foci: ellipses with soft edges."""
    for position, row, half_length, half_height, value in section.spots:
        column = eye.width / 2 + position * eye.stretch
        half_width = half_length * eye.stretch
        left, right = max(int(column - half_width), 0), max(int(column + half_width) + 2, 0)
        top, bottom = max(int(row - half_height), 0), max(int(row + half_height) + 2, 0)
        window = image[top:bottom, left:right]
        y, x = np.ogrid[top : top + window.shape[0], left : left + window.shape[1]]
        inside = 1 - ((x - column) / half_width) ** 2 - ((y - row) / half_height) ** 2
        cover = np.clip(inside * min(half_width, half_height) * 0.25, 0, 1)
        window += cover * (value - window)


def _choroid(
    rng: np.random.Generator, image: NDArray[np.float32], section: Section, eye: Eye
) -> None:
    """Below Bruch's membrane: dark vessels, and light that fades with depth. In place."""
    first = int(np.clip(section.floor.min(), 0, HEIGHT - 1))
    below = image[first:]
    depth = np.arange(first, HEIGHT, dtype=np.float32)[:, None] - section.floor
    vessels = _clouds(rng, below.shape, rng.uniform(9, 17), rng.uniform(16, 30) * eye.stretch)
    dark = np.clip(0.2 + 0.7 * vessels, 0, 1) * eye.choroid_vessels
    np.maximum(depth, 0, out=depth)
    # Vessels lie under the fine network of the capillaries, not within it.
    dark *= np.minimum(depth * np.float32(1 / 12), 1)
    below *= (1 - dark) * np.exp(depth * np.float32(-1 / eye.choroid_depth))


def _clouds(
    rng: np.random.Generator, shape: tuple[int, int], high: float, wide: float
) -> NDArray[np.float32]:
    """Smooth noise of mean 0 with blobs of that size, `shape` float32."""
    small = rng.standard_normal(
        (int(shape[0] / high) + 2, int(shape[1] / wide) + 2), dtype=np.float32
    )
    size = (shape[1], shape[0])
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


def _expose(
    rng: np.random.Generator, image: NDArray[np.float32], device: _Device
) -> NDArray[np.uint8]:
    """Speckle, detector noise and gain: uint8, with a mean grey near the device's.

    The gain is set from the picture itself, as an instrument does. It also leaves the mean grey
    without a word on the disease.
    """
    height, width = image.shape
    # The same numbers serve twice, some columns apart, where nobody sees it.
    fine = _NORMAL[rng.integers(0, 256, (height + 1, width + 9), dtype=np.uint8)]
    pairs = fine[:, :width] + fine[:, 1 : width + 1]
    speckle = pairs[1:] + pairs[:-1]  # a grain is some two pixels wide and high
    speckle *= np.float32(device.grain / 2)
    speckle += 1
    image = image * speckle
    detector = fine[1:, 9:] + np.float32(rng.uniform(0.2, 0.9))
    detector *= np.float32(device.noise * rng.uniform(0.7, 1.3))
    image += detector
    np.maximum(image, 0, out=image)
    target = device.exposure * rng.uniform(0.85, 1.15)
    image *= np.float32(target / image.mean())
    return np.minimum(image, 255).astype(np.uint8)


def _wedges(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill with white what a scan turned or shifted into place has left empty, in most scans."""
    if rng.random() < 0.3:
        return image
    height, width = image.shape
    turn = rng.normal(0, 0.05) * 512
    shift = rng.normal(0, 14)
    page = Image.fromarray(image)
    draw = ImageDraw.Draw(page)
    left, right = shift - turn / 2, shift + turn / 2
    draw.polygon([(0, -1), (width, -1), (width, right), (0, left)], fill=255)
    draw.polygon([(0, height), (width, height), (width, height + right), (0, height + left)], 255)
    if rng.random() < 0.5:
        edge = int(rng.integers(1, 4))
        start = 0 if rng.random() < 0.5 else width - edge
        draw.rectangle((start, 0, start + edge - 1, height), fill=255)
    return np.array(page)

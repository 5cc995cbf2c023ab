"""Choroidal neovascularisation for the phantom: what it adds to a healthy section.

Every function draws a random lesion into a `Section`, in place. Heights and widths are large
enough to be seen when 496 rows are shrunk to 91, since a demo network sees no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from octrobust.data.phantom_anatomy import Curve, Layer, Section, ripple

KINDS = ("detachment", "fluid", "matter", "cysts")


@dataclass(frozen=True)
class Disease:
    """What the scans of one patient share: where the lesion lies and what it is made of."""

    centre: float  # px from the picture's centre
    kinds: frozenset[str]
    strength: float  # multiplies heights
    content: float  # reflectivity under the epithelium: dark if serous, bright if fibrous
    roughness: float  # of the epithelium, 0 to 1


def draw_disease(rng: np.random.Generator) -> Disease:
    count = rng.choice((1, 2, 3, 4), p=(0.3, 0.35, 0.25, 0.1))
    kinds = rng.choice(KINDS, size=count, replace=False, p=(0.34, 0.26, 0.2, 0.2))
    return Disease(
        centre=rng.uniform(-85, 85),
        kinds=frozenset(str(kind) for kind in kinds),
        strength=rng.uniform(0.8, 1.3),
        content=rng.uniform(0.04, 0.5),
        roughness=rng.uniform(0.2, 1),
    )


def add_lesions(rng: np.random.Generator, section: Section, disease: Disease) -> None:
    """Draw `disease` as this scan meets it."""
    centre = disease.centre + rng.normal(0, 15)
    # A scan need not pass through all of it; something always shows.
    present = [kind for kind in KINDS if kind in disease.kinds and rng.random() < 0.85]
    present = present or [next(kind for kind in KINDS if kind in disease.kinds)]
    # Several lesions on top of one another are each a little lower.
    strength = disease.strength * rng.uniform(0.85, 1.2) * len(present) ** -0.25
    _break_bands(rng, section, centre, disease.roughness)
    if "detachment" in present:
        _detach(rng, section, centre, strength, disease)
    if "matter" in present:
        _deposit(rng, section, centre, strength)
    if "fluid" in present:
        _flood(rng, section, centre, strength)
    if "cysts" in present:
        _swell(rng, section, centre, strength)
    _drape(section)
    if rng.random() < 0.5:
        _scatter_foci(rng, section, centre)


def _dome(rng: np.random.Generator, x: Curve, centre: float, half: float, height: float) -> Curve:
    """A bump of that height and half-width, with a flatter or sharper top; 0 elsewhere."""
    distance = np.abs((x - centre) / half)
    base = np.clip(1 - distance ** rng.uniform(1.8, 3), 0, None)
    dome: Curve = (height * base ** rng.uniform(0.8, 1.4)).astype(np.float32)
    return dome


def _around(section: Section, centre: float, half: float) -> Curve:
    nearness: Curve = np.exp(-(((section.x - centre) / half) ** 4)).astype(np.float32)
    return nearness


def _break_bands(
    rng: np.random.Generator, section: Section, centre: float, roughness: float
) -> None:
    """IS-OS and limiting membrane fade, the epithelium thins, thickens and lets light through."""
    x = section.x
    near = _around(section, centre, rng.uniform(70, 170))
    lost = np.clip(near * (rng.uniform(0.5, 1.1) + ripple(rng, x, 40, 0.3)), 0, 1)
    for layer in (Layer.LIMITING_MEMBRANE, Layer.ELLIPSOID, Layer.OUTER_SEGMENTS):
        band = section.reflectivity[layer]
        band += lost * (section.reflectivity[Layer.OUTER_NUCLEAR] * 1.3 - band)
    rough = roughness * near
    uneven = 0.5 * ripple(rng, x, 24, 1) + ripple(rng, x, 60, 1)
    section.thickness[Layer.EPITHELIUM] *= np.clip(1 + 0.5 * rough * uneven, 0.2, 2.5)
    section.reflectivity[Layer.EPITHELIUM] *= np.clip(1 + 0.3 * rough * uneven, 0.3, 1.3)
    # Where the epithelium is thin more light reaches the choroid, and less where it is thick.
    through = np.clip(1 - 0.4 * rough * ripple(rng, x, 30, 1), 0.3, 2.2)
    section.reflectivity[Layer.CAPILLARIES :] *= through


def _detach(
    rng: np.random.Generator, section: Section, centre: float, strength: float, disease: Disease
) -> None:
    """Pigment-epithelial detachment: one to three domes under the epithelium."""
    x = section.x
    height = np.zeros_like(x)
    for i in range(rng.integers(1, 4)):
        tall = rng.uniform(34, 68) if i == 0 else rng.uniform(12, 40)
        place = centre if i == 0 else centre + rng.choice((-1, 1)) * rng.uniform(40, 120)
        dome = _dome(rng, x, place, rng.uniform(45, 105), tall * strength)
        height = np.maximum(height, dome)
    height *= np.clip(1 + disease.roughness * ripple(rng, x, 35, 0.12), 0.6, 1.4)
    section.thickness[Layer.DETACHMENT] += height
    section.reflectivity[Layer.DETACHMENT] = disease.content * (1 + ripple(rng, x, 50, 0.12))
    _press(section, height, 0.25)
    section.reflectivity[Layer.CAPILLARIES :] *= 1 - rng.uniform(0, 0.6) * np.tanh(height / 25)


def _deposit(rng: np.random.Generator, section: Section, centre: float, strength: float) -> None:
    """Hyperreflective material between the retina and the epithelium."""
    x = section.x
    place = centre + rng.normal(0, 25)
    height = _dome(rng, x, place, rng.uniform(40, 100), rng.uniform(28, 52) * strength)
    height *= np.clip(1 + ripple(rng, x, 40, 0.12), 0.5, 1.5)
    section.thickness[Layer.MATTER] += height
    section.reflectivity[Layer.MATTER] = rng.uniform(0.45, 0.95) * (1 + ripple(rng, x, 40, 0.12))
    _press(section, height, 0.45)
    section.reflectivity[Layer.EPITHELIUM :] *= 1 - rng.uniform(0.1, 0.6) * np.tanh(height / 20)


def _flood(rng: np.random.Generator, section: Section, centre: float, strength: float) -> None:
    """Subretinal fluid: a dark dome under the retina."""
    place = centre + rng.normal(0, 30)
    half, tall = rng.uniform(70, 140), rng.uniform(30, 58) * strength
    height = _dome(rng, section.x, place, half, tall)
    section.thickness[Layer.FLUID] += height
    _press(section, height, 0.2)


def _swell(rng: np.random.Generator, section: Section, centre: float, strength: float) -> None:
    """Intraretinal fluid: the nuclear layers thicken around dark cysts."""
    place, half = centre + rng.normal(0, 25), rng.uniform(60, 120)
    swelling = _dome(rng, section.x, place, half * 1.3, rng.uniform(25, 50) * strength)
    section.thickness[Layer.OUTER_NUCLEAR] += 0.65 * swelling
    section.thickness[Layer.INNER_NUCLEAR] += 0.35 * swelling
    tops = section.tops()
    position = place - half * rng.uniform(0.6, 1)
    while position < place + half * 0.8:
        half_width = rng.uniform(7, 22)
        position += half_width
        column = int(np.abs(section.x - position).argmin())
        top = tops[Layer.INNER_NUCLEAR, column]
        bottom = tops[Layer.LIMITING_MEMBRANE, column] - 2
        half_height = max((bottom - top) / 2 * rng.uniform(0.45, 0.95), 5)
        row = rng.uniform(top + half_height, max(bottom - half_height, top + half_height))
        section.spots.append((position, row, half_width, half_height, rng.uniform(0.01, 0.08)))
        position += half_width + rng.uniform(1, 10)


def _drape(section: Section) -> None:
    """The retina bends smoothly over whatever is rough below it: fluid or nuclei fill the gaps."""
    columns_per_px = 1 / float(section.x[1] - section.x[0])
    reach = round(18 * columns_per_px)
    kernel = np.hanning(2 * reach + 1).astype(np.float32)
    kernel /= kernel.sum()
    below = section.thickness[Layer.FLUID : Layer.CAPILLARIES].sum(axis=0)
    smooth = np.convolve(np.pad(below, reach, mode="edge"), kernel, mode="valid")
    fluid = section.thickness[Layer.FLUID]
    in_fluid = np.where(fluid > 4, np.maximum(smooth - below, 2 - fluid), 0)
    fluid += in_fluid
    nuclei = section.thickness[Layer.OUTER_NUCLEAR]
    nuclei += np.maximum(smooth - below - in_fluid, 3 - nuclei)


def _scatter_foci(rng: np.random.Generator, section: Section, centre: float) -> None:
    """Small bright points in the retina."""
    tops = section.tops()
    for _ in range(rng.integers(2, 10)):
        position = centre + rng.normal(0, 60)
        column = int(np.abs(section.x - position).argmin())
        row = rng.uniform(tops[Layer.GANGLION, column], tops[Layer.ELLIPSOID, column])
        size = rng.uniform(1.5, 4)
        section.spots.append((position, row, size * 1.3, size, rng.uniform(0.6, 1)))


def _press(section: Section, lifted: Curve, share: float) -> None:
    """A retina that is lifted is also pressed: its layers give up to `share` of the height."""
    retina = section.thickness[Layer.NERVE_FIBRES : Layer.FLUID]
    whole = retina.sum(axis=0)
    retina *= np.clip(1 - share * lifted / np.maximum(whole, 1), 0.45, 1)

"""The healthy eye of the phantom: its layers, and how one B-scan cuts through them.

Lengths are in pixels of a 496-row B-scan, some 4 um deep each. Reflectivities have no unit:
0 is black, and 1 a typical pigment epithelium.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float32]  # (W,): one value a column

HEIGHT = 496
# Kermany's own widths and about their shares. The widest samples the eye more densely.
WIDTHS = (512, 768, 1536)
WIDTH_SHARES = (0.64, 0.23, 0.13)
DENSE_STRETCH = 1.7


class Layer(IntEnum):
    """From the vitreous down. The three between brackets are empty in a healthy eye."""

    VITREOUS = 0
    NERVE_FIBRES = 1
    GANGLION = 2
    INNER_NUCLEAR = 3
    OUTER_PLEXIFORM = 4
    OUTER_NUCLEAR = 5
    LIMITING_MEMBRANE = 6
    MYOID = 7
    ELLIPSOID = 8  # the IS-OS band
    OUTER_SEGMENTS = 9
    FLUID = 10  # (subretinal fluid)
    MATTER = 11  # (subretinal hyperreflective material)
    EPITHELIUM = 12  # the RPE band
    DETACHMENT = 13  # (what lifts the epithelium off Bruch's membrane)
    BRUCH = 14
    CAPILLARIES = 15
    CHOROID = 16


INNER = (Layer.NERVE_FIBRES, Layer.GANGLION, Layer.INNER_NUCLEAR, Layer.OUTER_PLEXIFORM)
# Thickness beside the fovea and reflectivity, in the order of `Layer`. The vitreous and the
# choroid have no thickness of their own: they go on to the picture's edge.
_THICKNESS = (0, 8, 25, 10, 9, 21, 2, 3.5, 4, 5.5, 0, 0, 7, 0, 1.5, 9, 0)
_REFLECTIVITY = (
    *(0.01, 0.6, 0.36, 0.2, 0.33, 0.15, 0.26, 0.16, 0.75),
    *(0.36, 0.02, 0.6, 0.9, 0.3, 0.45, 0.4, 0.3),
)


@dataclass(frozen=True)
class Eye:
    """What the scans of one patient share."""

    width: int  # of a scan, in columns
    stretch: float  # columns per pixel length
    thickness: Curve  # (layers,)
    reflectivity: Curve  # (layers,)
    pit_radius: float
    pit_depth: float  # share of the inner layers missing at the fovea's centre
    nasal: int  # side on which the nerve fibres thicken: -1 left, 1 right
    sag: float  # how far the retina's ends curve up, at 256 px from the centre
    choroid_depth: float  # over which its light falls to 1/e
    choroid_vessels: float  # how dark the vessels are, 0 to 1
    vessel_shadows: float  # expected number per 512 px
    haze: float  # of the vitreous


@dataclass
class Section:
    """One B-scan before light and noise; lesions change it in place.

    Attributes:
        x: position of every column from the picture's centre, px.
        floor: row of Bruch's membrane's lower edge.
        fovea: its position on `x`.
        thickness: (layers, W) float32, px.
        reflectivity: (layers, W) float32.
        spots: cysts and foci as (x, row, half-width, half-height, reflectivity).
    """

    x: Curve
    floor: Curve
    fovea: float
    thickness: NDArray[np.float32]
    reflectivity: NDArray[np.float32]
    spots: list[tuple[float, float, float, float, float]] = field(default_factory=list)

    def tops(self) -> NDArray[np.float32]:
        """Row of every layer's upper edge, (layers, W) float32; the vitreous's is unused."""
        below = self.thickness[::-1].cumsum(axis=0, dtype=np.float32)[::-1]
        under_bruch = below[Layer.CAPILLARIES]
        tops: NDArray[np.float32] = self.floor + under_bruch - below
        return tops


def ripple(rng: np.random.Generator, x: Curve, wavelength: float, amplitude: float) -> Curve:
    """A random smooth curve over `x`, of that typical wavelength and standard deviation."""
    waves = 6
    frequency = 2 * np.pi / (wavelength * rng.uniform(0.5, 1.8, (waves, 1)))
    phase = rng.uniform(0, 2 * np.pi, (waves, 1))
    angle = x * frequency.astype(np.float32) + phase.astype(np.float32)
    total: Curve = np.sin(angle).sum(axis=0) * np.float32(amplitude * np.sqrt(2 / waves))
    return total


def draw_eye(rng: np.random.Generator) -> Eye:
    width = int(rng.choice(WIDTHS, p=WIDTH_SHARES))
    size = len(Layer)
    thickness = np.array(_THICKNESS) * rng.uniform(0.85, 1.25) * rng.uniform(0.85, 1.15, size)
    reflectivity = np.array(_REFLECTIVITY) * rng.uniform(0.8, 1.2, size)
    # Eyes differ most in how much light comes back from the vitreous and the choroid.
    reflectivity[Layer.CHOROID] *= rng.uniform(0.5, 1.7)
    return Eye(
        width=width,
        stretch=DENSE_STRETCH if width == max(WIDTHS) else 1.0,
        thickness=thickness.astype(np.float32),
        reflectivity=reflectivity.astype(np.float32),
        pit_radius=rng.uniform(42, 70),
        pit_depth=rng.uniform(0.75, 0.97),
        nasal=int(rng.choice((-1, 1))),
        sag=rng.uniform(-8, 38),
        choroid_depth=rng.uniform(28, 95),
        choroid_vessels=rng.uniform(0.2, 0.7),
        vessel_shadows=rng.uniform(0, 5),
        haze=rng.uniform(0, 0.05),
    )


def draw_section(rng: np.random.Generator, eye: Eye) -> Section:
    """Cut one healthy B-scan through `eye`."""
    columns = np.arange(eye.width, dtype=np.float32)
    x = (columns - eye.width / 2) / np.float32(eye.stretch)
    floor = (
        HEIGHT * rng.uniform(0.46, 0.66)
        + rng.normal(0, 0.07) * x
        - eye.sag * rng.uniform(0.7, 1.3) * (x / 256) ** 2
        + ripple(rng, x, 350, 3)
        + ripple(rng, x, 60, 0.3)
    )
    fovea = rng.normal(0, 65)
    thickness = _layers(rng, eye, x, fovea)
    texture = np.stack([ripple(rng, x, 45, 0.08) for _ in Layer])
    reflectivity = eye.reflectivity[:, None] * (1 + texture)
    reflectivity[Layer.VITREOUS] += eye.haze * rng.uniform(0.2, 1)
    reflectivity[Layer.NERVE_FIBRES] *= 1 + ripple(rng, x, 160, 0.25)
    reflectivity[Layer.CAPILLARIES :] *= 1 + ripple(rng, x, 25, 0.07)
    _shadow(rng, eye, x, reflectivity)
    # The beam is not equally bright from side to side.
    reflectivity *= np.clip(1 + ripple(rng, x, 700, 0.16), 0.5, 1.5)
    section = Section(x, floor.astype(np.float32), fovea, thickness, reflectivity)
    _float_in_vitreous(rng, section)
    return section


def _layers(rng: np.random.Generator, eye: Eye, x: Curve, fovea: float) -> NDArray[np.float32]:
    """Thickness of every layer, (layers, W) float32, with the pit at `fovea`."""
    distance = (x - fovea) / eye.pit_radius
    # Every fourth scan passes beside the fovea and has a shallow pit or none.
    depth = eye.pit_depth * (rng.uniform(0, 0.7) if rng.random() < 0.25 else 1.0)
    pit = depth * np.exp(-(np.abs(distance) ** 1.8))
    shoulder = 1 + 0.15 * np.exp(-((np.abs(distance) - 2.3) ** 2) / 3)
    slope = 1 - 0.12 * np.tanh(np.abs(distance) / 6)
    thickness = eye.thickness[:, None] * np.ones_like(x)
    for layer in INNER:
        thickness[layer] *= (1 - pit) * shoulder * slope * (1 + ripple(rng, x, 250, 0.04))
    thickness[Layer.NERVE_FIBRES] *= 1 + 0.8 * np.tanh(eye.nasal * distance / 4)
    thickness[Layer.OUTER_NUCLEAR] *= 1 + 0.55 * pit + ripple(rng, x, 250, 0.05)
    thickness[Layer.OUTER_SEGMENTS] *= 1 + 0.7 * pit
    return thickness.astype(np.float32)


def _shadow(
    rng: np.random.Generator, eye: Eye, x: Curve, reflectivity: NDArray[np.float32]
) -> None:
    """Blood vessels of the inner retina darken what lies below them; media may darken all."""
    for _ in range(rng.poisson(eye.vessel_shadows * np.ptp(x) / 512)):
        centre, half = rng.uniform(x[0], x[-1]), rng.uniform(2, 7)
        dip = rng.uniform(0.15, 0.6) * np.exp(-(((x - centre) / half) ** 2))
        reflectivity[Layer.INNER_NUCLEAR :] *= 1 - dip
    if rng.random() < 0.2:
        centre, half = rng.uniform(x[0], x[-1]), rng.uniform(20, 90)
        reflectivity *= 1 - rng.uniform(0.2, 0.6) * np.exp(-(((x - centre) / half) ** 2))


def _float_in_vitreous(rng: np.random.Generator, section: Section) -> None:
    """Faint specks above the retina, in some scans."""
    if rng.random() < 0.6:
        return
    surface = float(section.tops()[Layer.NERVE_FIBRES].min())
    for _ in range(rng.integers(1, 9)):
        place = rng.uniform(section.x[0], section.x[-1])
        row = rng.uniform(0, max(surface - 15, 1))
        half_width, half_height = rng.uniform(1, 8), rng.uniform(1, 3)
        section.spots.append((place, row, half_width, half_height, rng.uniform(0.05, 0.3)))

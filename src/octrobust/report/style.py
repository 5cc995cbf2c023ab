"""One look for every figure: light or dark, wide or for a phone."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from PIL import Image


@dataclass(frozen=True)
class Look:
    """A variant of a figure, with the page's own colours (templates/style.css)."""

    dark: bool = False
    narrow: bool = False

    @property
    def surface(self) -> str:
        return "#1a2027" if self.dark else "#ffffff"

    @property
    def ink(self) -> str:
        return "#e6eaef" if self.dark else "#1b2430"

    @property
    def muted(self) -> str:
        return "#9aa7b4" if self.dark else "#566270"

    @property
    def series(self) -> tuple[str, ...]:
        """Colours of Okabe and Ito's colour-blind safe set: blue, orange, green, purple, grey."""
        if self.dark:
            return ("#56b4e9", "#e69f00", "#2fc79a", "#e29ac4", "#c7cfd8")
        return ("#0072b2", "#d55e00", "#00805f", "#a8568a", "#5a6673")

    @property
    def heat(self) -> LinearSegmentedColormap:
        """From nothing to blue, never stronger than the ink can be read on."""
        surface, blue = (np.array(to_rgb(colour)) for colour in (self.surface, "#0072b2"))
        return LinearSegmentedColormap.from_list("heat", [surface, 0.4 * surface + 0.6 * blue])


LOOKS = tuple(Look(dark, narrow) for dark in (False, True) for narrow in (False, True))

Draw = Callable[[Any, Look], None]


def render(draw: Draw, size: tuple[float, float], look: Look, *, exact: bool = False) -> bytes:
    """Draw on an empty figure of `size` inches and return a PNG, the same bytes each time.

    Lines and letters make do with a palette, a third of the bytes; `exact`: every colour is kept.
    """
    with mpl.rc_context(_settings(look)):
        figure = Figure(figsize=size, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        draw(figure, look)
        canvas.draw()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    if not exact:
        image = image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def shorten(text: str, limit: int) -> str:
    """`text`, its middle left out where it is longer than `limit`."""
    if len(text) <= limit:
        return text
    keep = limit - 1
    return f"{text[: keep - keep // 2]}…{text[-(keep // 2) :]}"


def _settings(look: Look) -> dict[str, Any]:
    return {
        **mpl.rcParamsDefault,  # not the user's matplotlibrc
        "figure.dpi": 200 if look.narrow else 150,
        "font.family": "DejaVu Sans",
        "font.size": 8.5 if look.narrow else 9.5,
        "axes.titlesize": "medium",
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "text.parse_math": False,  # a file name may hold a dollar sign
        "figure.facecolor": look.surface,
        "axes.facecolor": look.surface,
        "text.color": look.ink,
        "axes.labelcolor": look.ink,
        "axes.edgecolor": look.muted,
        "xtick.color": look.muted,
        "ytick.color": look.muted,
        "xtick.labelcolor": look.ink,
        "ytick.labelcolor": look.ink,
        "grid.color": look.muted,
    }

"""An attacked image as pictures: for the page's slider and gallery, and as one figure."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from octrobust.report.examples import Example
from octrobust.report.style import Look, shorten
from octrobust.report.wording import NBSP


@dataclass(frozen=True)
class Picture:
    """`uri`: a data URI of a PNG; `label`: a few words on it; `alt`: what it shows."""

    uri: str
    label: str
    alt: str


@dataclass(frozen=True)
class Comparison:
    """An example as the page shows it; `change` is in grey, mid-grey where nothing changed."""

    name: str
    before: Picture
    after: Picture
    change: Picture
    caption: str
    of: int


def compare(example: Example) -> Comparison:
    """The three pictures of `example`, at the pixels that the network sees."""
    name, factor = example.name, example.amplification
    distances = f"L2{NBSP}{example.l2:.3g}, L∞{NBSP}{example.linf:.3g}"
    rounding = "survives" if example.survives_rounding else "is undone by"
    return Comparison(
        name,
        before=Picture(
            _png(_levels(example.before)),
            f"before: {example.true_class}",
            f"{name}, the clean scan, predicted {example.true_class}",
        ),
        after=Picture(
            _png(_levels(example.after)),
            f"after: {example.found_class}",
            f"{name}, the attacked scan, predicted {example.found_class}; {distances} away",
        ),
        change=Picture(
            _png(_levels(0.5 + 0.5 * factor * example.difference[None])),
            f"change × {factor}",
            f"{name}, the change alone, amplified {factor} times: "
            f"{100 * example.changed:.3g} % of the pixels differ, at most by "
            f"{255 * example.linf:.3g} of 255 grey levels",
        ),
        caption=f"{example.true_class} → {example.found_class}. {distances}. "
        f"The success {rounding} rounding to 8 bits.",
        of=example.of,
    )


def _levels(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(C, S, S) in [0, 1] as (S, S) or (S, S, 3) grey levels."""
    levels = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1)


def _png(levels: NDArray[np.uint8]) -> str:
    out = io.BytesIO()
    Image.fromarray(levels).save(out, "PNG", optimize=True)  # without loss: the change is small
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def draw_example(figure: Any, _look: Look, example: Example) -> None:
    """Before, after, and the amplified difference with its colour bar."""
    axes = figure.subplot_mosaic([["before", "after", "change"]])
    for key, image in (("before", example.before), ("after", example.after)):
        _show(axes[key], image)
    axes["before"].set_title(f"Before: {shorten(example.true_class, 20)}")
    axes["after"].set_title(f"After: {shorten(example.found_class, 20)}")
    factor = example.amplification
    change = axes["change"].imshow(
        example.difference,
        cmap="gray",
        vmin=-1 / factor,
        vmax=1 / factor,
        interpolation="nearest",
    )
    axes["change"].set_title(f"After − before, × {factor}")
    bar = figure.colorbar(
        change,
        ax=axes["change"],
        extend="both",  # what is stronger gets the end's colour
        fraction=0.046,
        pad=0.03,
        ticks=np.linspace(-1, 1, 5) / factor,
    )
    bar.set_label("change of a pixel (black 0, white 1)")
    bar.outline.set_visible(False)
    bar.ax.grid(False)
    for key in ("before", "after", "change"):
        _bare(axes[key])
    figure.suptitle(f"{shorten(example.name, 44)}     L2 {example.l2:.3g},  L∞ {example.linf:.3g}")


def draw_gallery(
    figure: Any,
    _look: Look,
    least: Sequence[Example],
    most: Sequence[Example],
) -> None:
    """A row an example, the least visible first: before, after and the change, amplified."""
    rows = [*(("least", one) for one in least), *(("most", one) for one in reversed(most))]
    grid = figure.subplots(len(rows), 3, squeeze=False)
    for (which, one), axes in zip(rows, grid, strict=True):
        _show(axes[0], one.before)
        _show(axes[1], one.after)
        factor = one.amplification
        edges = {"vmin": -1 / factor, "vmax": 1 / factor}
        axes[2].imshow(one.difference, cmap="gray", interpolation="nearest", **edges)
        for each in axes:
            _bare(each)
        axes[0].set_title(f"{which} visible: {shorten(one.true_class, 14)}")
        axes[1].set_title(f"{shorten(one.found_class, 14)}, L2 {one.l2:.3g}, L∞ {one.linf:.3g}")
        axes[2].set_title(f"after − before, × {factor}")


def _show(axes: Any, image: NDArray[np.float32]) -> None:
    shown = np.moveaxis(np.broadcast_to(image, (3, *image.shape[1:])), 0, -1)
    axes.imshow(shown, vmin=0, vmax=1, interpolation="nearest")


def _bare(axes: Any) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)

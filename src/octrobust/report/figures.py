"""The report's figures: as PNG files, and inlined in every look the page switches between."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from octrobust.config import Params
from octrobust.files import atomic_folder
from octrobust.report.charts import (
    draw_confusions,
    draw_curves,
    draw_distortion,
    draw_example,
)
from octrobust.report.examples import Example
from octrobust.report.results import ADAPTIVE, CLEAN, HARDENED, STATIC, Results
from octrobust.report.style import LOOKS, Draw, Look, render

Size = tuple[float, float]


@dataclass(frozen=True)
class FigureView:
    """A figure as the page shows it.

    images: PNG bytes by look, empty where there is nothing to draw; then `missing` says why.
    """

    name: str
    title: str
    alt: str
    reading: str
    missing: str = ""
    images: dict[Look, bytes] = field(default_factory=dict)

    def uri(self, *, dark: bool, narrow: bool) -> str:
        """The variant as a data URI."""
        encoded = base64.b64encode(self.images[Look(dark, narrow)]).decode("ascii")
        return f"data:image/png;base64,{encoded}"


def example_figure(number: int, example: Example | None, true: str, found: str) -> FigureView:
    """Figure `number` of the paper: an image of class `true` that the attack turned `found`."""
    name, title = f"figure{number}", f"{true} turned {found}"
    if example is None:
        return FigureView(
            name,
            title,
            alt="",
            reading="",
            missing=f"No picture: the attack turned no correctly classified {true} test image "
            f"into {found}.",
        )
    alt = (
        f"Three squares for {example.name}: the clean scan, predicted {true}; the "
        f"attacked scan, predicted {found}; and their difference, amplified "
        f"{example.amplification} times. L2 {example.l2:.3g}, L-infinity {example.linf:.3g}."
    )
    rounding = (
        "It still succeeds after rounding to the 8 bits an image file holds."
        if example.survives_rounding
        else "It no longer succeeds once rounded to the 8 bits an image file holds."
    )
    reading = (
        f"Of the {example.of} {true} test images that the attack turned {found}, this is the one "
        "of median L2. In the difference, orange pixels became brighter and purple ones darker; "
        f"{100 * example.changed:.3g} % of the pixels differ. The colours are amplified "
        f"{example.amplification} times, the colour bar gives the change as it is; a stronger one "
        "has the colour of the bar's end. "
        f"L∞ {example.linf:.3g} is a largest change of {255 * example.linf:.3g} of 255 grey "
        f"levels. {rounding}"
    )
    return _figure(
        name, title, alt, reading, partial(draw_example, example=example), (10, 3.6), (3.9, 6.0)
    )


def curves_figure(results: Results) -> FigureView:
    curves, count = results.curves, len(results.curves)
    best = ", ".join(
        f"{name}: {numbers['best_epoch']} of {numbers['epochs']}"
        for name, numbers in results.train.items()
    )
    return _figure(
        "training_curves",
        "Training curves",
        "Line charts of training and validation accuracy and loss by epoch for "
        f"{', '.join(curves)}.",
        "Solid: validation, on images never trained on; dashed: training, on augmented images "
        "and with dropout, so it may lie below. The epoch of best validation accuracy was kept "
        f"({best}). The hardened model goes on from the attacked one, so it starts high.",
        partial(draw_curves, curves=curves),
        (2.5 * max(count, 2), 4.4),
        (3.9, 1.75 * count + 0.5),
    )


def confusion_figure(results: Results, params: Params) -> FigureView:
    count = len(results.models)
    sets = {
        CLEAN: "clean",
        STATIC: f"made on {params.attack.target}",
        ADAPTIVE: f"made on {HARDENED}",
    }
    return _figure(
        "confusion_matrices",
        "Confusion matrices",
        "Confusion matrices of every model on clean and on attacked test images; "
        "the same counts are in the table above.",
        "Rows are true classes, columns predictions; each cell has its count and its share of the "
        "row. A good model is dark from top left to bottom right.",
        partial(draw_confusions, results=results, classes=params.data.classes, sets=sets),
        (2.3 * max(count, 2), 6.2),
        (3.9, 1.35 * count + 0.6),
    )


def distortion_figure(results: Results) -> FigureView:
    bins = results.distortion_bins
    name, title = "distortion", "How far the successes had to go"
    if not bins:
        return FigureView(
            name, title, alt="", reading="", missing="No histogram: the attack never succeeded."
        )
    return _figure(
        name,
        title,
        "Histogram of the L2 distances of successful attacks on the undefended and on the "
        "hardened model; quartiles are in the distortion table.",
        "Further right is better for the defender: the attack had to change the image more. Bars "
        "of one set add up to 100 %. Each set has only its own successes.",
        partial(draw_distortion, bins=bins),
        (9.5, 3.6),
        (3.9, 3.6),
    )


def all_figures(
    results: Results, params: Params, examples: tuple[Example | None, Example | None]
) -> dict[str, FigureView]:
    """Every figure by name; `examples` are the pictures of label 0 and of label 1."""
    negative, positive = params.data.classes
    figures = (
        example_figure(2, examples[0], negative, positive),
        example_figure(3, examples[1], positive, negative),
        distortion_figure(results),
        confusion_figure(results, params),
        curves_figure(results),
    )
    return {figure.name: figure for figure in figures}


def write_figures(folder: Path, figures: dict[str, FigureView]) -> None:
    """Leave ``NAME.png``, light and wide, in `folder`, whole; a missing figure has no file."""
    with atomic_folder(folder) as temporary:
        for name, figure in figures.items():
            if figure.images:
                (temporary / f"{name}.png").write_bytes(figure.images[Look()])


def _figure(
    name: str, title: str, alt: str, reading: str, draw: Draw, wide: Size, narrow: Size
) -> FigureView:
    images = {look: render(draw, narrow if look.narrow else wide, look) for look in LOOKS}
    return FigureView(name, title, alt, reading, images=images)

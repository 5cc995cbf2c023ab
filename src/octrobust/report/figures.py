"""The report's figures: as PNG files, and inlined in every look the page switches between."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from octrobust.config import Params
from octrobust.files import atomic_folder
from octrobust.report.charts import (
    draw_confusions,
    draw_curves,
    draw_distortion,
    draw_example,
    draw_matrix,
    draw_reliability,
    draw_robustness,
)
from octrobust.report.examples import Example
from octrobust.report.results import Results
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
        "and with dropout, so it may lie below; where training makes its own adversarial images, "
        "on those. Dotted: validation images under a short attack. The best epoch by validation, "
        f"attacked where it was, was kept ({best}). Hardened models go on from the attacked one, "
        "so they start high.",
        partial(draw_curves, curves=curves),
        (2.5 * max(count, 2), 4.4),
        (3.9, 1.75 * count + 0.5),
    )


def confusion_figure(results: Results, params: Params) -> FigureView:
    models = [results.target, *results.hardened]
    count = len(models)
    return _figure(
        "confusion_matrices",
        "Confusion matrices",
        f"Confusion matrices of {', '.join(models)} on clean and on attacked test images; "
        "the same counts are in the table above.",
        "Rows are true classes, columns predictions; each cell has its count and its share of the "
        "row. A good model is dark from top left to bottom right.",
        partial(draw_confusions, results=results, classes=params.data.classes, models=models),
        (2.3 * max(count, 2), 6.2),
        (3.9, 1.35 * count + 0.6),
    )


def distortion_figure(results: Results) -> FigureView:
    shown = {f"made on {model}" for model in (results.target, *results.hardened)}
    bins = [row for row in results.distortion_bins if row["set"] in shown]
    name, title = "distortion", "How far the successes had to go"
    if not bins:
        return FigureView(
            name, title, alt="", reading="", missing="No histogram: the attack never succeeded."
        )
    return _figure(
        name,
        title,
        "Histogram of the L2 distances of successful attacks on the undefended and on the "
        "hardened models; quartiles are in the distortion table.",
        "Further right is better for the defender: the attack had to change the image more. Bars "
        "of one set add up to 100 %. Each set has only its own successes.",
        partial(draw_distortion, bins=bins),
        (9.5, 3.6),
        (3.9, 3.6),
    )


def matrix_figure(results: Results) -> FigureView:
    sources = results.attacked()
    accuracies = np.array(
        [[results.score(model, name)["accuracy"] for name in sources] for model in results.models]
    )
    return _figure(
        "matrix",
        "Source × victim",
        f"Matrix of the accuracy of {', '.join(results.models)} on the test images as attacked on "
        f"{', '.join(sources)}.",
        "Each row a model, each column the model that EAD, without a budget, was aimed at. Framed: "
        "a model on the images made on itself, the adaptive case; all others are static, that is "
        "transfer. A row that is dark but for its frame resists what was made elsewhere, which "
        "costs an attacker nothing to avoid. Columns may have fewer images than the test split "
        "(the table of the same name has counts and intervals).",
        partial(draw_matrix, accuracies=accuracies, models=results.models, sources=sources),
        (9.5, 0.5 * len(results.models) + 1.0),
        (3.9, 0.42 * len(results.models) + 1.4),
    )


def robustness_figure(results: Results, params: Params) -> FigureView:
    settings = params.evaluate.battery
    first = settings.channels[0]
    curves = {
        name: [row for row in rows if row["channels"] == first]
        for name, rows in results.robustness.items()
    }
    return _figure(
        "robustness",
        "Robust accuracy by budget",
        f"Curves of worst-case accuracy against the L2, L-infinity, L1 and elastic-net budget for "
        f"{', '.join(curves)}; the table of worst cases has the values at the dotted lines.",
        "An image counts until any attack of the battery has turned it within the budget, so the "
        "curves are upper bounds: a better attack can only lower them. Dotted lines: the budgets "
        "that PGD and the like were run at; in L1 and the elastic-net distance only EAD minimises. "
        f"{first.capitalize()} perturbations.",
        partial(draw_robustness, curves=curves, budgets={"l2": settings.l2, "linf": settings.linf}),
        (9.5, 6.6),
        (3.9, 10.5),
    )


def reliability_figure(results: Results) -> FigureView:
    models = [results.target, *results.hardened]
    return _figure(
        "reliability",
        "Calibration",
        f"Reliability plots of {', '.join(models)}: how often the predicted class is right "
        "against its predicted probability; the table of models has the calibration errors.",
        "How often an answer is right against how sure the model is of it, in ten bins; the size "
        "of a dot is its share of the images. On the diagonal a probability means what it says; "
        "below it the model is surer than it should be. Attacked: EAD made on the model itself, "
        "where that was run. EAD ends just beyond the boundary, so its answers are unsure by "
        "construction.",
        partial(draw_reliability, bins=results.reliability, models=models),
        (2.3 * max(len(models), 2), 2.9),
        (3.9, 2.2 * ((len(models) + 1) // 2) + 0.7),
    )


def all_figures(
    results: Results, params: Params, examples: tuple[Example | None, Example | None]
) -> dict[str, FigureView]:
    """Every figure by name; `examples` are the pictures of label 0 and of label 1."""
    negative, positive = params.data.classes
    figures = (
        example_figure(2, examples[0], negative, positive),
        example_figure(3, examples[1], positive, negative),
        robustness_figure(results, params),
        matrix_figure(results),
        distortion_figure(results),
        confusion_figure(results, params),
        reliability_figure(results),
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

"""The report's figures: as PNG files, and inlined in every look the page switches between."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from octrobust.config import Params
from octrobust.files import atomic_folder
from octrobust.report.charts import (
    ABREAST,
    draw_curves,
    draw_distortion,
    draw_reliability,
    draw_robustness,
)
from octrobust.report.examples import Example
from octrobust.report.matrices import draw_confusions, draw_matrix
from octrobust.report.pictures import draw_example, draw_gallery
from octrobust.report.results import Results, main_budget, main_channels
from octrobust.report.style import LOOKS, Draw, Look, render
from octrobust.report.wording import number, percent

Size = tuple[float, float]


@dataclass(frozen=True)
class FigureView:
    """A figure as the page shows it.

    images: PNG bytes by look, empty where there is nothing to draw; then `missing` says why. A
    figure of the light, wide look alone is for its file: the page has its content in another form.
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


def _each(values: Iterable[tuple[str, str]]) -> str:
    return "; ".join(f"{name} {value}" for name, value in values)


def example_figure(figure: int, example: Example | None, true: str, found: str) -> FigureView:
    """Figure number `figure` of the paper: an image of class `true` that was turned `found`."""
    name, title = f"figure{figure}", f"{true} turned {found}"
    if example is None:
        missing = f"No picture: the attack turned no correctly classified {true} test image into "
        return FigureView(name, title, alt="", reading="", missing=f"{missing}{found}.")
    reading = (
        f"Of the {example.of} {true} test images that the attack turned {found}, the one of median "
        f"L2. The change is amplified {example.amplification} times: mid-grey where nothing "
        f"changed ({100 * example.changed:.3g} % of the pixels did), brighter or darker as the "
        f"pixel became."
    )
    draw = partial(draw_example, example=example)
    return _file(name, title, reading, draw, (10, 3.6))


def gallery_figure(least: Sequence[Example], most: Sequence[Example]) -> FigureView:
    name, title = "gallery", "The least and the most visible successes"
    if not least:
        missing = "No gallery: the attack never succeeded."
        return FigureView(name, title, alt="", reading="", missing=missing)
    draw = partial(draw_gallery, least=least, most=most)
    return _file(name, title, "", draw, (9, 3.1 * (len(least) + len(most))))


def curves_figure(results: Results) -> FigureView:
    curves, count = results.curves, len(results.curves)
    best = _each(
        (name, f"{one['best_epoch']} of {one['epochs']}") for name, one in results.train.items()
    )
    reached = _each(
        (name, percent(one["validation_accuracy"])) for name, one in results.train.items()
    )
    return _figure(
        "training_curves",
        "Training curves",
        "Line charts of training and validation accuracy and loss by epoch. Validation accuracy "
        f"of the epoch that was kept: {reached}.",
        "Solid with dots: validation, on images never trained on; dashed with squares: training, "
        "on augmented images and with dropout, so it may lie below; where training makes its own "
        "adversarial images, on those. Dotted with triangles: validation images under a short "
        "attack. The epoch that did best on validation images was kept: by accuracy, under attack "
        "where they were attacked, or, where the line between the classes was moved afterwards, "
        f"by how well it orders the attacked ones ({best}). A hardened model that goes on from the "
        "attacked one starts high.",
        partial(draw_curves, curves=curves),
        (9.5, 3.6 * -(-count // ABREAST) + 0.6),
        (3.9, 1.75 * count + 0.5),
    )


def confusion_figure(results: Results, params: Params) -> FigureView:
    models = [results.target, *results.hardened]
    count, negative = len(models), params.data.classes[0]
    wrong = _each(
        (f"{model}, {_on(data)}:", f"{fn} and {fp}")
        for model in models
        for data in results.main_sets(model)
        for (_, fp), (fn, _) in [results.score(model, data)["confusion"]]
    )
    return _figure(
        "confusion_matrices",
        "Confusion matrices",
        f"Confusion matrices. {params.data.classes[1]} missed, and {negative} taken for it: "
        f"{wrong}.",
        "Rows are true classes, columns predictions; each cell has its count and its share of the "
        "row. A good model is blue from top left to bottom right alone. Attacked by EAD without a "
        "budget: adaptive where made on itself, static where made on another.",
        partial(draw_confusions, results=results, classes=params.data.classes, models=models),
        (2.3 * max(count, 2), 6.2),
        (3.9, 1.35 * count + 0.6),
    )


def _on(data: str) -> str:
    return "clean" if data == "clean" else f"EAD made on {data}"


def distortion_figure(results: Results) -> FigureView:
    models = [model for model in (results.target, *results.hardened) if model in results.attacked()]
    shown = {f"made on {model}" for model in models}
    bins = [row for row in results.distortion_bins if row["set"] in shown]
    name, title = "distortion", "How far the successes had to go"
    if not bins:
        return FigureView(
            name, title, alt="", reading="", missing="No histogram: the attack never succeeded."
        )
    found = {model: results.distortion(model)["l2"] for model in models}
    medians = _each((model, number(one["median"] if one else None)) for model, one in found.items())
    return _figure(
        name,
        title,
        "Histogram of the L2 distances of successful EAD attacks, adaptive, by the model they were "
        f"made on. Medians: {medians}.",
        "Further right is better for the defender: the attack had to change the image more. Bars "
        "of one set add up to 100 %. Each set has only its own successes (EAD, no budget, "
        "adaptive).",
        partial(draw_distortion, bins=bins),
        (9.5, 3.6),
        (3.9, 3.6),
    )


def matrix_figure(results: Results) -> FigureView:
    sources = results.attacked()
    accuracies = np.array(
        [[results.score(model, name)["accuracy"] for name in sources] for model in results.models]
    )
    return _file(
        "matrix",
        "Source × victim",
        "Each row a model, each column the model that EAD, without a budget, was aimed at. Framed: "
        "a model on the images made on itself, the adaptive case; all others are static, that is "
        "transfer. A row strong in colour but for its frame resists what was made elsewhere, "
        "which costs an attacker nothing to avoid.",
        partial(draw_matrix, accuracies=accuracies, models=results.models, sources=sources),
        (9.5, 0.5 * len(results.models) + 1.0),
    )


def robustness_figure(results: Results, params: Params) -> FigureView:
    settings = params.evaluate.battery
    first = settings.channels[0]
    curves = {
        name: [row for row in rows if row["channels"] == first]
        for name, rows in results.robustness.items()
    }
    left = _each(
        (name, percent(main_channels(one)["worst_case"]["l2"][main_budget(params)]["accuracy"], 0))
        for name, one in results.battery.items()
    )
    return _figure(
        "robustness",
        "Robust accuracy, and the attacks' success, by budget",
        "Curves of worst-case accuracy against the L2, L-infinity, L1 and elastic-net budget. "
        f"Within L2 {main_budget(params)} are left: {left}.",
        "Worst of the battery, adaptive: an image counts until any attack on this very model has "
        "turned it within the budget, so the curves are upper bounds, and a better attack can only "
        "lower them. Right-hand scale: the rest, that is turned, or wrong when clean. Dotted "
        "lines: the budgets that PGD and the like were run at; in L1 and the elastic-net distance "
        f"only EAD minimises. {first.capitalize()} perturbations.",
        partial(draw_robustness, curves=curves, budgets={"l2": settings.l2, "linf": settings.linf}),
        (9.5, 6.6),
        (3.9, 10.5),
    )


def reliability_figure(results: Results) -> FigureView:
    models = [results.target, *results.hardened]
    errors = _each((name, number(results.score(name, "clean")["ece"])) for name in models)
    return _figure(
        "reliability",
        "Calibration",
        "Reliability plots: how often the predicted class is right against its predicted "
        f"probability. Expected calibration error on clean test images: {errors}.",
        "How often an answer is right against how sure the model is of it, in ten bins; the size "
        "of a dot is its share of the images. On the diagonal a probability means what it says; "
        "below it the model is surer than it should be. Squares, attacked: EAD (no budget, "
        "adaptive) made on the model itself, where that was run. EAD ends just beyond the "
        "boundary, so its answers are unsure by construction.",
        partial(draw_reliability, bins=results.reliability, models=models),
        (2.3 * max(len(models), 2), 2.9),
        (3.9, 2.2 * ((len(models) + 1) // 2) + 0.7),
    )


def all_figures(
    results: Results,
    params: Params,
    examples: tuple[Example | None, Example | None],
    gallery: tuple[Sequence[Example], Sequence[Example]],
) -> dict[str, FigureView]:
    """Every figure by name; `examples` are the pictures of label 0 and of label 1, `gallery` the
    least and the most visible successes."""
    negative, positive = params.data.classes
    figures = (
        partial(example_figure, 2, examples[0], negative, positive),
        partial(example_figure, 3, examples[1], positive, negative),
        partial(gallery_figure, *gallery),
        partial(robustness_figure, results, params),
        partial(matrix_figure, results),
        partial(distortion_figure, results),
        partial(confusion_figure, results, params),
        partial(reliability_figure, results),
        partial(curves_figure, results),
    )
    drawn = [draw() for draw in tqdm(figures, "report", unit="figure", leave=False)]
    return {figure.name: figure for figure in drawn}


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


def _file(name: str, title: str, reading: str, draw: Draw, size: Size) -> FigureView:
    image = render(draw, size, Look(), exact=True)
    return FigureView(name, title, "", reading, images={Look(): image})

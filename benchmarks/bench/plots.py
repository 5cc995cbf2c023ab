"""The curve of time to quality."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench import statistics
from bench.implementations import PROJECTION
from bench.statistics import Document
from octrobust.files import atomic_path

# Okabe and Ito's colours, safe for the colour-blind; a library keeps its colour, and early abort
# and shortcuts are dashed, the projection solver dash-dotted.
COLOURS = {
    "octrobust": "#d55e00",
    "advertorch": "#0072b2",
    "foolbox": "#009e73",
    "torchattacks": "#cc79a7",
    "art": "#555555",
}
MARKS = {"octrobust": "o", "advertorch": "s", "foolbox": "^", "torchattacks": "D", "art": "v"}


def quality(document: Document, path: Path) -> None:
    """Best median elastic-net distance so far over seconds, a line an implementation."""
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ends = [end for name in statistics.names(document) if (end := _line(axes, document, name))]
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):  # 0.5 rather than 5 x 10^-1
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds, all images")
    axes.set_ylabel("median elastic-net distance so far, all images")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    _label(axes, ends)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight", metadata={"Software": None})


End = tuple[str, str, float, float]  # name, colour, last seconds, last median


def _line(axes: Axes, document: Document, name: str) -> End | None:
    points = [(x, y) for x, y in statistics.curve(document, name) if math.isfinite(y)]
    if not points:
        return None
    library = statistics.of(document, name)[0]["library"]
    colour = COLOURS[library]
    # Steps: nothing is known between two budgets.
    axes.step(
        *zip(*points, strict=True),
        where="post",
        color=colour,
        marker=MARKS[library],
        linestyle=_dashes(name, library),
        linewidth=2 if library == "octrobust" else 1.3,
        markersize=5,
    )
    return name, colour, *points[-1]


def _dashes(name: str, library: str) -> str:
    if name == PROJECTION:
        return "-."
    return "--" if "," in name and library != "art" else "-"


def _label(axes: Axes, ends: list[End]) -> None:
    """Each line's name to the right of the plot, at its end's height, moved apart where tight."""
    low, high = (math.log(y) for y in axes.get_ylim())
    gap = 0.055
    bottom = -math.inf
    for name, colour, x, y in sorted(ends, key=lambda end: end[3]):
        bottom = max((math.log(y) - low) / (high - low), bottom + gap)
        axes.annotate(
            name,
            xy=(x, y),
            xytext=(1.02, bottom),
            textcoords="axes fraction",
            color=colour,
            va="center",
            fontsize=9,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.4, "linewidth": 0.7},
        )

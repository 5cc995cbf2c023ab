"""What the figures of matrices draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from octrobust.report.results import Results
from octrobust.report.style import Look, shorten

# matplotlib has no types of its own that strict checking could use.
Axes = Any
Figure = Any


def draw_confusions(
    figure: Figure, look: Look, results: Results, classes: Sequence[str], models: Sequence[str]
) -> None:
    """A matrix for each model, on clean images, on those made on attack.target, and on its own."""
    rows = ("clean", f"made on {results.target}", "made on itself")
    shape = (len(models), len(rows)) if look.narrow else (len(rows), len(models))
    grid = figure.subplots(*shape, squeeze=False)
    columns = grid if look.narrow else grid.T  # models x sets, whichever way they are laid out
    for model, cells in zip(models, columns, strict=True):
        scores = [results.score(model, data) for data in results.main_sets(model)]
        for number, (name, axes) in enumerate(zip(rows, cells, strict=True)):
            heading, side = (name, model) if look.narrow else (model, name)
            if axes in grid[0]:
                axes.set_title(shorten(heading, 18), fontsize="small" if look.narrow else None)
            if axes in grid[:, 0]:
                axes.set_ylabel(f"{shorten(side, 20)}\ntrue class")
            if number >= len(scores):
                _empty(axes, "see\nabove" if model == results.target else "not\nmeasured")
                continue
            below = axes in grid[-1] or (not look.narrow and number == len(scores) - 1)
            counts = np.array(scores[number]["confusion"])
            _matrix(axes, look, counts, classes, axes in grid[:, 0], below)


def _matrix(
    axes: Axes, look: Look, counts: Any, classes: Sequence[str], names_left: bool, names_below: bool
) -> None:
    total = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(total, 1)
    axes.imshow(shares, cmap=look.heat, vmin=0, vmax=1)
    for (i, j), share in np.ndenumerate(shares):
        axes.text(
            j,
            i,
            f"{counts[i, j]}\n{share:.0%}",
            ha="center",
            va="center",
            fontsize="small",
        )
    short = [shorten(name, 8) for name in classes]
    axes.set_xticks([0, 1], short if names_below else ["", ""], fontsize="small")
    axes.set_yticks(
        [0, 1], short if names_left else ["", ""], rotation=90, va="center", fontsize="small"
    )
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set(visible=True, linewidth=0.5)
    if names_below:
        axes.set_xlabel("predicted")


def _empty(axes: Axes, text: str) -> None:
    axes.set(xticks=[], yticks=[], aspect="equal", xlim=(0, 1), ylim=(0, 1))
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize="small", alpha=0.7)


def draw_matrix(
    figure: Figure, look: Look, accuracies: Any, models: Sequence[str], sources: Sequence[str]
) -> None:
    """Accuracy of every model (row) on images attacked on every source (column)."""
    axes = figure.subplots()
    axes.imshow(accuracies, cmap=look.heat, vmin=0, vmax=1, aspect="auto")
    for (i, j), accuracy in np.ndenumerate(accuracies):
        own = models[i] == sources[j]
        axes.text(
            j,
            i,
            f"{accuracy:.0%}",
            ha="center",
            va="center",
            weight="bold" if own else "normal",
        )
        if own:
            corner, colour = (j - 0.48, i - 0.48), look.series[1]
            axes.add_patch(Rectangle(corner, 0.96, 0.96, fill=False, edgecolor=colour, lw=2.5))
    axes.set_xticks(range(len(sources)), [shorten(name, 18) for name in sources])
    axes.set_yticks(range(len(models)), [shorten(name, 18) for name in models])
    axes.set(xlabel="images attacked on", ylabel="accuracy of")
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.grid(False)
    axes.spines[:].set_visible(False)

"""What the figures of curves draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from octrobust.report.style import Look, shorten

# matplotlib has no types of its own that strict checking could use.
Axes = Any
Figure = Any


ABREAST = 3  # models beside one another on a wide page


def draw_curves(figure: Figure, look: Look, curves: Mapping[str, list[dict[str, str]]]) -> None:
    """Accuracy and loss by epoch, a pair of panels a model, training and validation."""
    panels = _pairs(figure, look, len(curves))
    for (name, rows), pair in zip(curves.items(), panels, strict=True):
        for axes, kind in zip(pair, ("accuracy", "loss"), strict=True):
            _curve(axes, look, rows, kind)
            axes.set_title(f"{shorten(name, 18)}, {kind}")
        pair[0].set_ylim(0, 1.03)
    losses = [pair[1].dataLim.y1 for pair in panels]
    for loss, (_, axes) in zip(losses, panels, strict=True):
        axes.set_ylim(0, 1.08 * (max(losses) if look.narrow else loss))
    named = {
        label: handle
        for axes in panels.ravel()
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.supxlabel("epoch", fontsize="medium")
    figure.legend(named.values(), named, loc="outside upper center", ncols=len(named))


def _pairs(figure: Figure, look: Look, count: int) -> Any:
    """(count, 2) panels: a pair abreast on a phone, else one above the other, three pairs a row."""
    if look.narrow:
        return figure.subplots(count, 2, squeeze=False, sharey="col")
    columns = min(count, ABREAST)
    rows = -(-count // columns)
    grid = figure.subplots(2 * rows, columns, squeeze=False)
    for axes in grid[-2:, columns - (rows * columns - count) :].ravel():
        axes.set_visible(False)
    return grid.reshape(rows, 2, columns).swapaxes(1, 2).reshape(-1, 2)[:count]


def _curve(axes: Axes, look: Look, rows: Sequence[Mapping[str, str]], kind: str) -> None:
    epochs = [float(row["epoch"]) for row in rows]
    blue, orange, green = look.series[:3]
    lines = [("train", orange, "s--"), ("validation", blue, "o-")]
    if f"validation_robust_{kind}" in rows[0]:
        lines.append(("validation_robust", green, "^:"))
    for part, colour, line in lines:
        values = [float(row[f"{part}_{kind}"]) for row in rows]
        label = part.replace("_robust", ", attacked")
        axes.plot(epochs, values, line, color=colour, ms=3.5, label=label)
    axes.set_xlim(epochs[0] - 0.3, epochs[-1] + 0.3)  # also where there is one alone
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def draw_robustness(
    figure: Figure,
    look: Look,
    curves: Mapping[str, Sequence[Mapping[str, str]]],
    budgets: Mapping[str, Sequence[float]],
) -> None:
    """Worst-case robust accuracy against the budget, a panel a distance (`budgets`: those of the
    battery, which PGD and the like were run at)."""
    names = {"l2": "L2", "linf": "L∞", "l1": "L1", "elastic_net": "elastic net"}
    panels = figure.subplots(*((4, 1) if look.narrow else (2, 2)), squeeze=False).ravel()
    for axes, (distance, title) in zip(panels, names.items(), strict=True):
        end = 1.5 * max(budgets[distance]) if distance in budgets else 0.0
        for (name, rows), (colour, line) in zip(curves.items(), _styles(look), strict=False):
            mine = [row for row in rows if row["distance"] == distance]
            x = [float(row["budget"]) for row in mine]
            y = [100 * float(row["robust_accuracy"]) for row in mine]
            if distance not in budgets:  # not to the last image, which may be far away
                half = next((at for at, left in zip(x, y, strict=True) if left <= 50), x[-1])
                end = max(end, 2 * half)
            x, y = [*x, 1e9], [*y, y[-1]]  # a step function goes on
            axes.step(x, y, line, where="post", color=colour, label=shorten(name, 24))
        for budget in budgets.get(distance, ()):
            axes.axvline(budget, color=look.muted, lw=0.8, ls=":")
        axes.set(xlim=(0, end or 1), ylim=(0, 103), xlabel=f"budget, {title}")
        # Small budgets have long numbers: 0.005, 0.010 and so on would touch.
        axes.xaxis.get_major_locator().set_params(nbins=4 if look.narrow else 6)
        axes.set_ylabel("robust accuracy, %")
        turned = axes.secondary_yaxis("right", functions=(_rest, _rest))
        turned.set_ylabel("turned or wrong, %")
        turned.spines[:].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=1 if look.narrow else 4)


def _rest(share: Any) -> Any:
    return 100 - share


def draw_distortion(figure: Figure, look: Look, bins: Sequence[Mapping[str, str]]) -> None:
    """Share of each set's successes by L2 distance, on common logarithmic bins."""
    axes = figure.subplots()
    names = list(dict.fromkeys(row["set"] for row in bins))
    for name, (colour, line) in zip(names, _styles(look), strict=False):
        rows = _filled([row for row in bins if row["set"] == name])
        if not rows:
            continue
        counts = np.array([float(row["images"]) for row in rows])
        edges = [float(row["from"]) for row in rows] + [float(rows[-1]["to"])]
        label = f"{name} ({int(counts.sum())} successes)"
        heights = 100 * counts / max(counts.sum(), 1)
        axes.stairs(heights, edges, color=colour, alpha=0.15, fill=True)
        axes.stairs(heights, edges, color=colour, lw=2, ls=line, label=label)
    axes.set_xscale("log")
    axes.set(xlabel="L2 distance to the clean image (logarithmic)", ylabel="successes, %")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside upper left", ncols=1 if look.narrow else 2)


def _styles(look: Look) -> Iterator[tuple[str, str]]:
    """Colours with line styles, twenty pairs before one comes again."""
    return zip(cycle(look.series), cycle(("-", "--", "-.", ":")), strict=False)


def _filled(rows: Sequence[Mapping[str, str]]) -> Sequence[Mapping[str, str]]:
    """Without the empty bins before the first image and after the last."""
    full = [i for i, row in enumerate(rows) if float(row["images"]) > 0]
    return rows[full[0] : full[-1] + 1] if full else []


def draw_reliability(
    figure: Figure, look: Look, bins: Sequence[Mapping[str, str]], models: Sequence[str]
) -> None:
    """Accuracy against confidence, a panel a model, clean and attacked on itself."""
    columns = 2 if look.narrow else len(models)
    panels = figure.subplots(
        -(-len(models) // columns), columns, squeeze=False, sharex=True, sharey=True
    )
    for axes in panels.flat[len(models) :]:
        axes.set_visible(False)
    for name, axes in zip(models, panels.flat, strict=False):
        axes.plot([50, 100], [50, 100], ":", color=look.muted, lw=0.8)
        kinds = (("clean", "clean", "o"), (name, "attacked", "s"))
        for colour, (data, label, marker) in zip(look.series, kinds, strict=False):
            rows = [row for row in bins if row["model"] == name and row["made_on"] == data]
            if not rows:
                continue
            images = np.array([float(row["images"]) for row in rows])
            x, y = ([100 * float(row[key]) for row in rows] for key in ("confidence", "accuracy"))
            axes.plot(x, y, color=colour, lw=1, alpha=0.6)
            size = 12 + 60 * images / images.sum()
            axes.scatter(x, y, size, color=colour, marker=marker, label=label, zorder=3)
        axes.set(title=shorten(name, 18), xlim=(48, 102), ylim=(-4, 104))
    for axes in panels[-1]:
        axes.set_xlabel("probability, %")
    for axes in panels[:, 0]:
        axes.set_ylabel("right, %")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)

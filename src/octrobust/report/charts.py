"""What each figure draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from octrobust.report.examples import Example
from octrobust.report.results import Results
from octrobust.report.style import Look

# matplotlib has no types of its own that strict checking could use.
Axes = Any
Figure = Any


def shorten(text: str, limit: int) -> str:
    """`text`, its middle left out where it is longer than `limit`."""
    if len(text) <= limit:
        return text
    keep = limit - 1
    return f"{text[: keep - keep // 2]}…{text[-(keep // 2) :]}"


def draw_example(figure: Figure, look: Look, example: Example) -> None:
    """Before, after, and the amplified difference with its colour bar."""
    if look.narrow:
        axes = figure.subplot_mosaic(
            [["before", "after"], ["change", "change"]], height_ratios=[1, 1.6]
        )
    else:
        axes = figure.subplot_mosaic([["before", "after", "change"]])
    for key, image in (("before", example.before), ("after", example.after)):
        shown = np.moveaxis(np.broadcast_to(image, (3, *image.shape[1:])), 0, -1)
        axes[key].imshow(shown, vmin=0, vmax=1, interpolation="nearest")
    axes["before"].set_title(f"Before: {shorten(example.true_class, 20)}")
    axes["after"].set_title(f"After: {shorten(example.found_class, 20)}")
    factor = example.amplification
    change = axes["change"].imshow(
        example.difference,
        cmap="PuOr_r",
        vmin=-1 / factor,
        vmax=1 / factor,
        interpolation="nearest",
    )
    axes["change"].set_title(f"After − before, × {factor}")
    bar = figure.colorbar(
        change,
        ax=axes["change"],
        location="bottom" if look.narrow else "right",
        extend="both",  # what is stronger gets the end's colour
        fraction=0.046,
        pad=0.03,
        ticks=np.linspace(-1, 1, 5) / factor,
    )
    bar.set_label("change of a pixel (black 0, white 1)")
    bar.outline.set_visible(False)
    bar.ax.grid(False)
    for key in ("before", "after", "change"):
        axes[key].set(xticks=[], yticks=[])
        axes[key].grid(False)
        axes[key].spines[:].set_visible(False)
    figure.suptitle(
        f"{shorten(example.name, 44)}{chr(10) if look.narrow else '     '}"
        f"L2 {example.l2:.3g},  L∞ {example.linf:.3g}"
    )


def draw_curves(figure: Figure, look: Look, curves: Mapping[str, list[dict[str, str]]]) -> None:
    """Accuracy and loss by epoch, a pair of panels a model, training and validation."""
    kinds = ("accuracy", "loss")
    if look.narrow:
        panels = figure.subplots(len(curves), 2, squeeze=False, sharey="col")
    else:
        panels = figure.subplots(2, len(curves), squeeze=False, sharey="row").T
    for (name, rows), pair in zip(curves.items(), panels, strict=True):
        for axes, kind in zip(pair, kinds, strict=True):
            _curve(axes, look, rows, kind)
        if look.narrow:
            pair[0].set_ylabel(shorten(name, 16))
        else:
            pair[0].set_title(shorten(name, 22))
            pair[1].set_xlabel("epoch")
    for column, kind in enumerate(kinds):
        panels[0][column].set_ylim(0, 1.03 if kind == "accuracy" else None)
        if look.narrow:
            panels[0][column].set_title(kind)
            panels[-1][column].set_xlabel("epoch")
        else:
            panels[0][column].set_ylabel(kind)
    named = {
        label: handle
        for axes in panels.ravel()
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named, loc="outside upper center", ncols=len(named))


def _curve(axes: Axes, look: Look, rows: Sequence[Mapping[str, str]], kind: str) -> None:
    epochs = [float(row["epoch"]) for row in rows]
    blue, orange, green = look.series[:3]
    lines = [("train", orange, "--"), ("validation", blue, "-")]
    if f"validation_robust_{kind}" in rows[0]:
        lines.append(("validation_robust", green, ":"))
    for part, colour, line in lines:
        values = [float(row[f"{part}_{kind}"]) for row in rows]
        label = part.replace("_robust", ", attacked")
        axes.plot(epochs, values, line, color=colour, marker="o", ms=3.5, label=label)
    axes.xaxis.get_major_locator().set_params(integer=True)


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
            _matrix(axes, counts, classes, axes in grid[:, 0], below)


def _matrix(
    axes: Axes, counts: Any, classes: Sequence[str], names_left: bool, names_below: bool
) -> None:
    total = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(total, 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else "#1b2430"
        axes.text(
            j,
            i,
            f"{counts[i, j]}\n{share:.0%}",
            ha="center",
            va="center",
            color=colour,
            fontsize="small",
        )
    short = [shorten(name, 8) for name in classes]
    axes.set_xticks([0, 1], short if names_below else ["", ""], fontsize="small")
    axes.set_yticks(
        [0, 1], short if names_left else ["", ""], rotation=90, va="center", fontsize="small"
    )
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
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
    axes.imshow(accuracies, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), accuracy in np.ndenumerate(accuracies):
        own = models[i] == sources[j]
        axes.text(
            j,
            i,
            f"{accuracy:.0%}",
            ha="center",
            va="center",
            color="white" if accuracy > 0.55 else "#1b2430",
            weight="bold" if own else "normal",
        )
        if own:
            corner, colour = (j - 0.48, i - 0.48), look.series[1]
            axes.add_patch(Rectangle(corner, 0.96, 0.96, fill=False, edgecolor=colour, lw=2.5))
    limit = 12 if look.narrow else 18
    axes.set_xticks(range(len(sources)), [shorten(name, limit) for name in sources])
    if look.narrow:
        axes.tick_params(axis="x", labelrotation=90)
    axes.set_yticks(range(len(models)), [shorten(name, 18) for name in models])
    axes.set(xlabel="images attacked on", ylabel="accuracy of")
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.grid(False)
    axes.spines[:].set_visible(False)


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
            if distance not in budgets:
                end = max(end, x[-1])
            x, y = [*x, 1e9], [*y, y[-1]]  # a step function goes on
            axes.step(x, y, line, where="post", color=colour, label=shorten(name, 24))
        for budget in budgets.get(distance, ()):
            axes.axvline(budget, color=look.muted, lw=0.8, ls=":")
        axes.set(xlim=(0, end or 1), ylim=(0, 103), xlabel=f"budget, {title}")
        axes.set_ylabel("robust accuracy, %")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=1 if look.narrow else 4)


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

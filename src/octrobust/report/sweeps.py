"""A sweep as one picture: headline and distortion along the parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from octrobust.experiments.read import ROBUST
from octrobust.experiments.sweep import Sweep, is_number
from octrobust.report.style import Look, render

Curve = tuple[str, str]  # metric, and what it is called
Panel = tuple[str, str, tuple[Curve, ...]]  # title, unit, curves
PANELS: tuple[Panel, ...] = (
    (
        "Accuracy",
        "%",
        (
            ("accuracy_config_1", "config_1, clean"),
            ("accuracy_hardened_clean", "hardened the paper's way, clean"),
            ("accuracy_hardened", "hardened the paper's way, on EAD made on attack.target"),
            ("accuracy_attacked", "attack.target, on EAD made on it"),
            (ROBUST, "best defence, validation, PGD on it"),
        ),
    ),
    (
        "Success rate of EAD on attack.target",
        "%",
        (
            ("attack@test.success_rate", "in float32"),
            ("attack@test.success_rate_8bit", "after rounding to 8 bits"),
        ),
    ),
    *(
        (
            f"Distance that EAD needs: {called}",
            "",
            ((f"attack@test.{norm}.median", "median"), (f"attack@test.{norm}.mean", "mean")),
        )
        for norm, called in (("l2", "L2"), ("l1", "L1"), ("linf", "L∞"), ("l0", "L0, pixels"))
    ),
    (
        "What it costs",
        "",
        (("attack@test.iterations_per_attacked_image", "iterations for an image"),),
    ),
)
METRICS = tuple(metric for _, _, curves in PANELS for metric, _ in curves)
COUNTS = ("attack@test.images", "attack@test.attacked")  # what the rates are of
STYLES = ("-", "--", ":", "-.")
MARKERS = "osD^v"
COLUMNS = 2
MOST_LABELS = 12  # on an axis of this width


def draw(sweep: Sweep, note: str) -> bytes:
    """A PNG. `note`: what the figures can and cannot speak about."""
    panels = [panel for panel in PANELS if _measured(sweep, panel[2])]
    rows = -(-max(len(panels), 1) // COLUMNS)
    draw_them = partial(_draw, sweep=sweep, panels=panels, rows=rows, note=note)
    return render(draw_them, (10, 0.6 + 4.2 * rows), Look())


def _measured(sweep: Sweep, curves: Sequence[Curve]) -> bool:
    """Along the parameter, at more than one value."""
    found = (sweep.values(line, metric) for line in sweep.lines for metric, _ in curves)
    return any(len(values) > 1 for values in found)


def _draw(
    figure: Any, look: Look, *, sweep: Sweep, panels: Sequence[Panel], rows: int, note: str
) -> None:
    count = len(sweep.experiments())
    figure.suptitle(f"{sweep.parameter}: {count} experiments", fontweight="bold")
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _panel(axes, look, sweep, *panel)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel(note, fontsize="small", color=look.muted, wrap=True)


def _panel(
    axes: Any, look: Look, sweep: Sweep, title: str, unit: str, curves: Sequence[Curve]
) -> None:
    factor = 100.0 if unit else 1.0
    for number, (metric, called) in enumerate(curves):
        for line, style in zip(sweep.lines, STYLES, strict=False):
            found = sweep.values(line, metric)
            if not found:
                continue
            places = [x if sweep.numeric else sweep.xs.index(x) for x, *_ in found]
            means = [factor * value for _, value, _, _ in found]
            label = f"{called} ({line})" if len(sweep.lines) > 1 else called
            color, marker = look.series[number], MARKERS[number]
            axes.plot(places, means, style, marker=marker, markersize=4, color=color, label=label)
            if any(low < high for _, _, low, high in found):
                bounds = [[factor * one[k] for one in found] for k in (2, 3)]
                axes.fill_between(places, *bounds, color=color, alpha=0.15, linewidth=0)
    axes.set_title(f"{title}, {unit}" if unit else title)
    axes.set_xlabel(sweep.parameter)
    axes.set_ylim(*((-4, 104) if unit else (0, 1.08 * axes.get_ylim()[1])))
    _x_axis(axes, sweep)
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16), handlelength=3.5)


def _x_axis(axes: Any, sweep: Sweep) -> None:
    if sweep.log:
        axes.set_xscale("log")
        axes.minorticks_off()
    places = list(sweep.xs if sweep.numeric else range(len(sweep.xs)))
    axes.set_xticks(places, _labels(places, sweep))


def _labels(places: Sequence[float], sweep: Sweep) -> list[str]:
    """A value where there is room for it beside the one before."""
    spots = [math.log(place) for place in places] if sweep.log else places
    room = (max(spots) - min(spots)) / MOST_LABELS
    labels: list[str] = []
    last = -math.inf
    for spot, value in zip(spots, sweep.xs, strict=True):
        labels.append(_text(value) if spot - last >= room else "")
        last = spot if labels[-1] else last
    return labels


def _text(value: Any) -> str:
    return f"{value:g}" if is_number(value) else str(value)

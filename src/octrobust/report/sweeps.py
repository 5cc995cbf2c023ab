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
PANELS: tuple[tuple[str, str, tuple[Curve, ...]], ...] = (
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
    (
        "Distance that EAD needs: L2",
        "",
        (("attack@test.l2.median", "median"), ("attack@test.l2.mean", "mean")),
    ),
    (
        "Distance that EAD needs: L1",
        "",
        (("attack@test.l1.median", "median"), ("attack@test.l1.mean", "mean")),
    ),
)
METRICS = tuple(metric for _, _, curves in PANELS for metric, _ in curves)
STYLES = ("-", "--", ":", "-.")
MARKERS = "osD^v"
MOST_LABELS = 12  # on an axis of this width


def draw(sweep: Sweep, note: str) -> bytes:
    """A PNG. `note`: what the figures can and cannot speak about."""
    return render(partial(_draw, sweep=sweep, note=note), (10, 9), Look())


def _draw(figure: Any, look: Look, *, sweep: Sweep, note: str) -> None:
    count = len(sweep.experiments())
    figure.suptitle(f"{sweep.parameter}: {count} experiments", fontweight="bold")
    for axes, panel in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        _panel(axes, look, sweep, *panel)
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
    if axes.lines:
        axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16))
    else:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=look.muted)


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

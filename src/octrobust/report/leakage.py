"""The leakage audit in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from octrobust.files import read_json
from octrobust.report.wording import NBSP, percent

_SOURCES = {
    "phantom": "synthetic images: nothing about patients",
    "kermany": "Kermany 2018 only",
}


def lines(metrics: Path) -> Iterator[str]:
    """A line a run, then the means and what the split by image flatters."""
    found = read_json(metrics)
    yield f"{found['variant']}, clean test images, {found['repeats']} pairs of splits"
    for by, runs in found["runs"].items():
        for number, run in enumerate(runs, 1):
            yield _line(
                f"split by {by}, {number}",
                run,
                f"{run['patients_in_both']} patients and {run['look_alikes_in_both']} look-alikes "
                "in train and test both",
            )
    for by, mean in found["mean"].items():
        yield _line(f"split by {by}, mean", mean, "")
    pairs = found["inflation"]
    spread = pairs["accuracy"]["deviation"]
    note = "" if spread is None else f"accuracy ± {100 * spread:.1f} points over the pairs; "
    yield _line(
        "inflation (image - patient)",
        {name: one["mean"] for name, one in pairs.items()},
        note + _SOURCES.get(found["source"], "these images only"),
    )


def _line(title: str, readings: dict[str, float | None], note: str) -> str:
    accuracy = percent(readings["accuracy"]).replace(NBSP, " ")
    rest = "  ".join(f"{name.upper()} {_decimals(readings[name])}" for name in ("mcc", "auc"))
    return f"  {title:<28} accuracy {accuracy:>7}  {rest}  {note}".rstrip()


def _decimals(value: float | None) -> str:
    return "    –" if value is None else f"{value:5.3f}"

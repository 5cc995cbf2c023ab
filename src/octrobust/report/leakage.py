"""The leakage audit in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from octrobust.config import Params
from octrobust.files import read_json
from octrobust.report.tables import Table
from octrobust.report.wording import NBSP, NONE, percent

METRICS = Path("metrics/audit/leakage.json")
_SOURCES = {
    "phantom": "synthetic images: nothing about patients",
    "kermany": "Kermany 2018 only",
}
_TITLES = {"accuracy": "Accuracy", "mcc": "MCC", "auc": "AUC"}


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
        note + _reach(found["source"]),
    )


def audit_table(project: Path, params: Params) -> Table | None:
    """Both splits side by side; None where no audit was run on this source of images."""
    path = project / METRICS
    found = read_json(path) if path.exists() else None
    if found is None or found["source"] != params.data.source:
        return None
    rows = [
        (
            f"split by {by}",
            *(_reading(name, found["mean"][by][name]) for name in _TITLES),
            _both(found["runs"][by], "patients_in_both"),
            _both(found["runs"][by], "look_alikes_in_both"),
        )
        for by in ("patient", "image")
    ]
    gained = [_gain(name, **found["inflation"][name]) for name in _TITLES]
    rows.append(("inflation: image minus patient", *gained, NONE, NONE))
    return Table(
        ("", *_TITLES.values(), "Patients in both", "Look-alikes in both"),
        rows,
        f"{found['variant']} on clean test images, means of {found['repeats']} pairs of splits; "
        "± is the standard deviation over the pairs. In both: in train and in test, run by run. "
        f"{_reach(found['source']).capitalize()}.",
    )


def _reach(source: str) -> str:
    return _SOURCES.get(source, "these images only")


def _reading(name: str, value: float | None) -> str:
    return percent(value) if name == "accuracy" else _decimals(value).strip()


def _gain(name: str, mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return NONE
    scale, digits, unit = (100, 1, " points") if name == "accuracy" else (1, 3, "")
    spread = "" if deviation is None else f" ± {scale * deviation:.{digits}f}"
    return f"{scale * mean:+.{digits}f}{spread}{unit}".replace(" ", NBSP)


def _both(runs: list[dict[str, int]], key: str) -> str:
    return ", ".join(str(run[key]) for run in runs)


def _line(title: str, readings: dict[str, float | None], note: str) -> str:
    accuracy = percent(readings["accuracy"]).replace(NBSP, " ")
    rest = "  ".join(f"{name.upper()} {_decimals(readings[name])}" for name in ("mcc", "auc"))
    return f"  {title:<28} accuracy {accuracy:>7}  {rest}  {note}".rstrip()


def _decimals(value: float | None) -> str:
    return "    –" if value is None else f"{value:5.3f}"

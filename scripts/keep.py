"""Keep the figures of a finished run for the documents, with where they come from:

    python -m scripts.keep CHECKOUT NAME PRESET

writes docs/explanation/results/NAME.json from the metrics of CHECKOUT, a folder in which
`dvc repro` has ended. PRESET is what its parameters are set beside: how they differ is kept too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from octrobust import config
from octrobust.data.index import index_rows
from octrobust.errors import UserError, one_line_errors
from octrobust.files import read_json, read_yaml, write_json
from octrobust.machine import processor
from octrobust.model.device import select_device, use_bf16
from scripts.blocks import RESULTS


def main(checkout: Path, name: str, preset: Path) -> None:
    params = config.load(checkout / "params.yaml")
    metrics = checkout / "metrics"
    found = read_json(metrics / "evaluation.json")
    target = found["target"]
    # As far as it ran: what lies there of other models, or is not up to date, is another run's.
    stale = _stale(checkout)
    if "evaluate" in stale:
        raise UserError(f"{checkout}: evaluate is not up to date: run `dvc repro` there first")
    battery = {
        name: read_json(metrics / "battery" / f"{name}.json")
        for name in params.evaluate.battery.models
        if f"battery@{name}" not in stale
    }
    flags = [*found["flags"], *(flag for one in battery.values() for flag in one["flags"])]
    write_json(
        RESULTS / f"{name}.json",
        {
            "provenance": provenance(checkout, preset, metrics / "evaluation.json"),
            "target": target,
            "models": {
                model: {
                    "clean": _score(by_set["clean"]),
                    "on_target": _score(by_set[target]),
                    "distance": found["distortion"].get(model, {}).get("l2"),
                    "ratio": found["distortion_ratios"].get(model),
                    "battery": {
                        channels: {"clean": part["clean"], **part["worst_case"]}
                        for channels, part in battery[model]["channels"].items()
                    }
                    if model in battery
                    else {},
                }
                for model, by_set in found["models"].items()
            },
            "battery_images": next(iter(battery.values()))["images"],
            "flags": len(flags),
            "raised": [flag for flag in flags if flag["raised"]],
            "seeds": params.evaluate.seeds,
            "over_seeds": dict(
                _over(
                    [
                        read_json(metrics / "seeds" / f"{seed}.json")["models"]
                        for seed in params.evaluate.seeds
                    ]
                )
            ),
        },
    )


def _stale(checkout: Path) -> set[str]:
    """Stages whose results are not those of what stands in the checkout."""
    told = subprocess.check_output(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout / "src")},
        text=True,
    )
    return set(json.loads(told))


def _over(runs: list[dict[str, dict[str, float]]]) -> Iterator[tuple[str, Any]]:
    """By model and column: every seed's accuracy, their mean and deviation."""
    for model, columns in runs[0].items() if len(runs) > 1 else ():
        values = {name: [run[model][name] for run in runs] for name in columns}
        yield (
            model,
            {
                name: {"each": each, "mean": mean(each), "deviation": stdev(each)}
                for name, each in values.items()
            },
        )


def _score(part: dict[str, Any]) -> dict[str, float]:
    return {
        "accuracy": part["accuracy"],
        "low": part["accuracy_low"],
        "high": part["accuracy_high"],
    }


def provenance(
    checkout: Path, preset: Path, last: Path, command: str = "dvc repro"
) -> dict[str, Any]:
    """Where figures come from. `last`: what the run wrote at its end, whose date is kept."""
    params = config.load(checkout / "params.yaml")
    mixed = use_bf16(params.train.precision, select_device(params.compute))
    return {
        "command": command,
        "preset": str(preset),
        "changed": dict(_changed(read_yaml(checkout / "params.yaml"), read_yaml(preset))),
        "data": _data(checkout, params),
        "date": f"{datetime.fromtimestamp(last.stat().st_mtime, UTC):%Y-%m-%d}",
        "revision": _revision(checkout),
        "machine": f"{processor()}, {os.cpu_count()} cores, {'bf16' if mixed else 'fp32'}, "
        f"torch {version('torch')}",
    }


def _revision(checkout: Path) -> str:
    """The last commit that the project has too: parameters may be committed in the clone alone."""
    command = ["git", "merge-base", "HEAD", "origin/HEAD"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    return (
        done.stdout.strip()
        or subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=checkout, text=True).strip()
    )


def _data(checkout: Path, params: config.Params) -> str:
    rows = list(index_rows(checkout / "data" / "raw" / "index.csv"))
    patients = len({row.patient for row in rows})
    split, size = params.split, params.data.image_size
    used = 2 * sum(getattr(split, name) for name in config.SPLITS)
    tested = {row.patient for row in index_rows(checkout / "data" / "splits" / "test.csv")}
    scans = "synthetic scans (phantom)" if params.data.source == "phantom" else "real scans"
    return (
        f"{used} of {len(rows)} {scans} of {patients} patients at {size} px, split by "
        f"{split.by}; a class {split.train} to train, {split.validation} to validate, "
        f"{split.extra} extra, {split.test} to test, those of {len(tested)} patients"
    )


def _changed(params: dict[str, Any], preset: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Parameters that differ, by dotted name; a part that is gone as a whole by its own."""
    for name in sorted(params.keys() | preset.keys()):
        own, other = params.get(name, "left out"), preset.get(name, {})
        if name in ("compute", "root") or own == other:
            continue
        if isinstance(own, dict) and isinstance(other, dict):
            yield from ((f"{name}.{part}", value) for part, value in _changed(own, other))
        else:
            yield name, "a file" if name == "starts_from" and "/" in str(own) else own


if __name__ == "__main__":
    with one_line_errors():
        main(Path(sys.argv[1]).resolve(), sys.argv[2], Path(sys.argv[3]))

"""The plan against a finished run: `python benchmarks/plan.py CHECKOUT`.

CHECKOUT is a folder in which `dvc repro` has ended on this machine; its stages' times are in its
MLflow store. The plan is made here, now, for that checkout's parameters. JSON and Markdown go to
benchmarks/results/.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from bench import machine, tables

from octrobust import config
from octrobust.errors import UserError, one_line_errors
from octrobust.files import write_json
from octrobust.planning import estimate

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
PACKAGES = ("octrobust", "torch", "adversarial-robustness-toolbox", "mlflow", "dvc")
JUDGED = 5.0  # seconds; shorter stages are start-up and little else
TOTAL = "total"
COMMAND = "python benchmarks/plan.py CHECKOUT"


@app.command()
def main(
    checkout: Annotated[Path, typer.Argument(help="A folder in which dvc repro has ended.")],
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("benchmarks/results"),
) -> None:
    """Planned and measured seconds of every stage, and of the whole run."""
    stages, whole = measured(checkout)
    started = time.perf_counter()
    params = config.load(checkout / "params.yaml")
    lines, rates = estimate.plan(params)
    planned = {line.stage: line.seconds for line in lines}
    runs = [_run(name, planned[name], seconds) for name, seconds in stages.items()]
    total = estimate.total(lines)["seconds"] or 0.0
    runs.append({"name": TOTAL, "planned": total, "measured": whole, "judged": whole > 0})
    text = (
        f"{params.data.source}, {params.data.image_size} px. Measured: by the run's own records, "
        "without a process's start; the report's from the end of the stage before it. "
        "The total is from the first stage's start to the last one's "
        f"end. The calibration took {rates['seconds']:.0f} s; stages under {JUDGED:g} s are not "
        "judged."
    )
    document = {
        "kind": "plan",
        # Where the run lay says nothing to others.
        "machine": machine.describe(len(os.sched_getaffinity(0)), PACKAGES) | {"command": COMMAND},
        "about": {"text": text, "took": time.perf_counter() - started},
        "calibration": rates,
        "runs": runs,
    }
    path = out / f"plan-{params.data.source}-{params.data.image_size}px.json"
    write_json(path, document)
    tables.write(path, document)
    typer.echo(path.with_suffix(".md").read_text(encoding="utf-8"))


def measured(checkout: Path) -> tuple[dict[str, float], float]:
    """Seconds of every stage of the latest experiment in the checkout's own MLflow store, and from
    its start to its end.

    Raises:
        UserError: there is no store, or no stage in it.
    """
    store = checkout / "mlflow.db"
    if not store.exists():
        raise UserError(f"{store} does not exist: run `dvc repro` there first")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{store.resolve()}")
    experiments = [one.experiment_id for one in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=5000, order_by=["start_time DESC"])
    real = [run for run in runs if "octrobust.rebuilt" not in run.data.tags and run.info.end_time]
    keys = [run.data.tags.get("octrobust.experiment") for run in real]
    own = [run for run, key in zip(real, keys, strict=True) if key and key == keys[0]]
    kinds = [(run, run.data.tags.get("octrobust.kind")) for run in reversed(own)]
    done = [run for run, kind in kinds if kind == "stage"]
    stages = {
        run.data.tags["octrobust.stage"]: (run.info.end_time - run.info.start_time) / 1e3
        for run in done
    }
    if not stages:
        raise UserError(f"{store} has no finished stage")
    # The report's record is the experiment's, and begins with it.
    for run in (run for run, kind in kinds if kind == "summary"):
        before = [one.info.end_time for one in done if one.info.end_time < run.info.end_time]
        stages["report"] = (run.info.end_time - max(before)) / 1e3
    first, last = min(r.info.start_time for r in own), max(r.info.end_time for r in own)
    return stages, (last - first) / 1e3


def _run(name: str, planned: float, seconds: float) -> dict[str, Any]:
    return {"name": name, "planned": planned, "measured": seconds, "judged": seconds > JUDGED}


if __name__ == "__main__":
    with one_line_errors():
        app()

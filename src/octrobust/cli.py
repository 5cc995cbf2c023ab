"""The command `octrobust`. Heavy imports stay inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octrobust import __version__
from octrobust.errors import one_line_errors

app = typer.Typer(
    help="Adversarial robustness of retinal OCT classifiers. Not for clinical use.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"octrobust {__version__}")
        raise typer.Exit


@app.callback()
def main(
    _version_flag: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Adversarial robustness of retinal OCT classifiers. Not for clinical use.

    The pipeline itself runs with `dvc repro`; its parameters are in params.yaml.
    """


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A parameter file.")] = Path("params.yaml"),
) -> None:
    """Check a parameter file: every unknown, missing or impossible value is named."""
    with one_line_errors():
        from octrobust import config

        config.load(path)
        typer.echo(f"{path}: all parameters are valid")


@app.command()
def track() -> None:
    """Log to MLflow what is not there yet: after an outage, a `dvc pull`, or cached stages.

    Everything is logged once, however often this is called. Exit code 1 if the tracking server
    cannot be reached.
    """
    with one_line_errors():
        from octrobust.tracking import track as track_project

        result = track_project(Path.cwd())
    for name in result.logged:
        typer.echo(f"logged {name}")
    typer.echo(f"logged {len(result.logged)} runs, {result.pending} waiting")
    if result.error:
        typer.echo(f"error: {result.error}", err=True)
        raise typer.Exit(1)


@app.command()
def plan(
    params: Annotated[Path, typer.Option(help="A parameter file.")] = Path("params.yaml"),
    gpu: Annotated[
        str | None, typer.Option(help="Also on this GPU, by name: H100, A100-80GB, L4, T4, ...")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Numbers, not a table.")] = False,
) -> None:
    """What a parameter file will take, before anything runs: images, FLOPs, memory, disk, time.

    Measures this machine for some 20 seconds. Nothing is written.
    """
    with one_line_errors():
        import json

        from octrobust import config
        from octrobust.planning import devices, estimate, show

        device = devices.find(gpu) if gpu else None
        loaded = config.load(params)
        typer.echo("measuring this machine, some 20 seconds", err=True)
        lines, measured = estimate.plan(loaded, device)
        if as_json:
            typer.echo(json.dumps(show.as_json(lines, measured, device), indent=2))
        else:
            show.write(lines, measured, device)


@app.command()
def join() -> None:
    """Lend this machine to the stages that `dvc repro` starts on another.

    Needs the folder shared with it, and compute.rendezvous: see
    docs/how-to/several-machines.md. Ctrl-C ends it.
    """
    with one_line_errors():
        from octrobust.launch.join import join as take_part

        take_part()


audit = typer.Typer(no_args_is_help=True, help="Checks of what flatters a result.")
app.add_typer(audit, name="audit")


@audit.command()
def leakage(
    variant: Annotated[
        str | None, typer.Option(help="Of train.variants; the default is attack.target.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Pairs of splits, each of its own seed.")] = 3,
) -> None:
    """Train one configuration on splits by patient and by image, and show what the latter flatters.

    Needs data/raw (`dvc repro ingest`). Numbers go to metrics/audit/leakage.json and to MLflow. A
    killed audit, called again, goes on where it was.
    """
    with one_line_errors():
        from octrobust import config
        from octrobust.report.leakage import lines
        from octrobust.stages.leakage import leakage as measure
        from octrobust.tracking.stage import stage_run

        params = config.load()
        chosen = variant or params.attack.target
        logged = {"variant": chosen, "repeats": repeats, "train": params.train.model_dump()}
        with stage_run("audit-leakage", params=logged) as run:
            run.metrics = Path("metrics/audit/leakage.json")
            run.unfinished = measure(params, chosen, repeats, Path("data/raw"), run.metrics)
        for line in lines(run.metrics):
            typer.echo(line)


if __name__ == "__main__":
    app()

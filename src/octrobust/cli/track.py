"""`octrobust track`."""

from __future__ import annotations

import typer

from octrobust.cli.base import UPKEEP, AsJson, app, examples, project
from octrobust.cli.output import waiting, write_json
from octrobust.errors import one_line_errors


@app.command(
    rich_help_panel=UPKEEP,
    epilog=examples(
        ("octrobust track", "to the store of MLFLOW_TRACKING_URI, or to mlflow.db here"),
        ("octrobust track --json", "names of what was logged, how many wait, and the error if any"),
    ),
)
def track(as_json: AsJson = False) -> None:
    """Log to MLflow what is not there yet: after an outage, a `dvc pull`, or cached stages.

    Everything is logged once, however often this is called. Exit code 1 if the
    tracking server cannot be reached.
    """
    with one_line_errors(), waiting("logging to MLflow") as say:
        root = project()
        from octrobust.tracking import track as track_project

        result = track_project(
            root, lambda logged, left: say(f"logging to MLflow: {logged} runs, {left} waiting")
        )
    if as_json:
        write_json({"logged": result.logged, "waiting": result.pending, "error": result.error})
    else:
        for name in result.logged:
            typer.echo(f"logged {name}")
        typer.echo(f"logged {len(result.logged)} runs, {result.pending} waiting")
    if result.error:
        typer.echo(f"error: {result.error}", err=True)
        raise typer.Exit(1)

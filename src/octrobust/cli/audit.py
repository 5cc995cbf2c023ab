"""`octrobust audit`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from octrobust.cli import output
from octrobust.cli.base import EXPERIMENTS, AsJson, app, examples, project
from octrobust.cli.complete import variants
from octrobust.errors import one_line_errors

audit = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Checks of what flatters a result.",
    epilog=examples(("octrobust audit leakage", "what a split by image flatters")),
)
app.add_typer(audit, name="audit", rich_help_panel=EXPERIMENTS)


@audit.command(
    epilog=examples(
        ("octrobust audit leakage", "three pairs of splits"),
        ("octrobust audit leakage --variant config_2 --repeats 5 --json", "numbers for a script"),
    )
)
def leakage(
    variant: Annotated[
        str | None,
        typer.Option(
            help="Of train.variants; the default is attack.target.", autocompletion=variants
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Pairs of splits, each of its own seed.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Train one configuration on splits by patient and by image, and show what the latter flatters.

    Needs data/raw (`dvc repro ingest`). Numbers go to metrics/audit/leakage.json
    and to MLflow. A killed audit, called again, goes on where it was.
    """
    with one_line_errors():
        from octrobust import config
        from octrobust.files import read_json
        from octrobust.report.leakage import lines
        from octrobust.stages.common import discard
        from octrobust.stages.leakage import leakage as measure
        from octrobust.tracking.stage import stage_run

        os.chdir(project())
        params = config.load()
        chosen = variant or params.attack.target
        logged = {"variant": chosen, "repeats": repeats, "train": params.train.model_dump()}
        with stage_run("audit-leakage", params=logged) as run:
            run.metrics = Path("metrics/audit/leakage.json")
            run.unfinished = measure(params, chosen, repeats, Path("data/raw"), run.metrics)
        discard(run.unfinished)  # no stage of DVC's: nothing else would
        if as_json:
            output.write_json(read_json(run.metrics))
            return
        for line in lines(run.metrics):
            typer.echo(line)

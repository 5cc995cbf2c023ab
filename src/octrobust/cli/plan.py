"""`octrobust plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octrobust.cli import output
from octrobust.cli.base import EXPERIMENTS, AsJson, app, examples, parameters
from octrobust.cli.complete import gpus
from octrobust.errors import one_line_errors


@app.command(
    rich_help_panel=EXPERIMENTS,
    epilog=examples(
        ("octrobust plan", "what params.yaml takes on this machine"),
        ("octrobust plan --params presets/paper.yaml --gpu H100", "the paper's scale on a GPU"),
    ),
)
def plan(
    params: Annotated[
        Path | None,
        typer.Option(help="A parameter file.", show_default="the project's params.yaml"),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="Also on this GPU, by name: H100, A100-80GB, L4, T4, ...", autocompletion=gpus
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a parameter file will take, before anything runs: images, FLOPs, memory, disk, time.

    Measures this machine for some 20 seconds. Nothing is written.
    """
    with one_line_errors():
        from octrobust import config
        from octrobust.planning import devices, estimate, show

        device = devices.find(gpu) if gpu else None
        loaded = config.load(parameters(params))
        typer.echo("measuring this machine, some 20 seconds", err=True)
        lines, measured = estimate.plan(loaded, device)
        if as_json:
            output.write_json(show.as_json(lines, measured, device))
        else:
            show.write(lines, measured, device, loaded.compute, output.console())

"""`octrobust check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octrobust.cli.base import UPKEEP, AsJson, app, examples, parameters
from octrobust.cli.output import write_json
from octrobust.errors import UserError, one_line_errors


@app.command(
    rich_help_panel=UPKEEP,
    epilog=examples(
        ("octrobust check", "the project's params.yaml"),
        ("octrobust check presets/paper.yaml", "another file"),
    ),
)
def check(
    path: Annotated[
        Path | None,
        typer.Argument(help="A parameter file.", show_default="the project's params.yaml"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a parameter file: every unknown, missing or impossible value is named."""
    with one_line_errors():
        from octrobust import config

        path = parameters(path)
        try:
            config.load(path)
        except UserError as error:
            if as_json:
                write_json({"file": str(path), "valid": False, "error": str(error)})
            raise
        if as_json:
            write_json({"file": str(path), "valid": True, "error": None})
        else:
            typer.echo(f"{path}: all parameters are valid")

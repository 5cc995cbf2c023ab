"""`octrobust sweep draw`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octrobust.cli import output
from octrobust.cli.base import AllCommits, AsJson, examples, project
from octrobust.cli.sweep import sweep
from octrobust.errors import UserError, one_line_errors


@sweep.command(
    epilog=examples(
        ("octrobust sweep draw", "along the one parameter in which they differ"),
        ("octrobust sweep draw attack.beta --out beta.png", "what else differs, as further lines"),
    )
)
def draw(
    parameter: Annotated[
        str | None,
        typer.Argument(
            help="Of the x axis. The default is the one in which the experiments differ."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A PNG file. The default is reports/sweeps/PARAMETER.png."),
    ] = None,
    all_commits: AllCommits = False,
    as_json: AsJson = False,
) -> None:
    """Draw the finished experiments against the parameter that was swept.

    Accuracies, the attack's success rate, the distances that it needs and its
    iterations, as far as they were measured. Of experiments that differ in seeds
    alone: their mean, and a band to the extremes. The axis is logarithmic where
    the values are.
    """
    with one_line_errors():
        from octrobust.experiments.read import read_experiments
        from octrobust.experiments.sweep import sweep_of

        root = project()
        if out is not None and out.suffix.lower() != ".png":
            raise UserError(f"--out: {out}: the picture is a PNG, name it so")
        with output.waiting("asking DVC"):
            found = sweep_of(read_experiments(root, all_commits=all_commits), parameter)
        with output.waiting("drawing"):
            from octrobust import config
            from octrobust.files import atomic_path
            from octrobust.inspection.words import about_results
            from octrobust.report import sweeps

            target = out or root / "reports" / "sweeps" / f"{found.parameter}.png"
            picture = sweeps.draw(found, about_results(config.load(root / "params.yaml")))
            with atomic_path(target) as temporary:
                temporary.write_bytes(picture)
        if not as_json:
            typer.echo(f"{len(found.experiments())} experiments along {found.parameter}: {target}")
            return
        lines = [
            {
                "line": line,
                "metrics": {
                    metric: [
                        dict(zip(("value", "mean", "least", "largest"), one, strict=True))
                        for one in found.values(line, metric)
                    ]
                    for metric in (*sweeps.METRICS, *sweeps.COUNTS)
                },
            }
            for line in found.lines
        ]
        output.write_json(
            {"parameter": found.parameter, "log": found.log, "lines": lines, "file": str(target)}
        )

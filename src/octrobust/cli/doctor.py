"""`octrobust doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from octrobust.cli import output
from octrobust.cli.base import UPKEEP, AsJson, app, examples, project
from octrobust.errors import UserError, one_line_errors

if TYPE_CHECKING:
    from octrobust.doctor.finding import Check, Finding

COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}


@app.command(
    rich_help_panel=UPKEEP,
    epilog=examples(
        ("octrobust doctor", "a line a check, and what to do where one is not ok"),
        ("octrobust doctor --json", "for a script: exit code 1 if there is a problem"),
    ),
)
def doctor(as_json: AsJson = False) -> None:
    """Check the installation, GPU, git, stores, remotes, disk and data, and say what to mend.

    Nothing is written. Exit code 1 if there is a problem; a warning is none.
    """
    with one_line_errors():
        from octrobust.doctor.checkup import checkup

        here = Path.cwd()
        try:
            root: Path | None = project()
        except UserError:
            root = None
        found = list(_shown(checkup(root, here), silent=as_json))
        count = {level: sum(one.level == level for one in found) for level in COLOURS}
        if as_json:
            output.write_json({**count, "findings": [asdict(one) for one in found]})
        else:
            typer.echo(f"problems: {count['problem']}, warnings: {count['warning']}")
    if count["problem"]:
        raise typer.Exit(1)


def _shown(checks: Mapping[str, Check], *, silent: bool) -> Iterator[Finding]:
    """Each check's findings are printed as soon as they are there."""
    from octrobust.doctor.finding import examined

    for number, (name, check) in enumerate(checks.items(), 1):
        with output.waiting(f"{name}, {number} of {len(checks)}"):
            found = list(examined(name, check))
        for one in found:
            if not silent:
                _print(one)
            yield one


def _print(one: Finding) -> None:
    from rich.markup import escape

    out, colour = output.console(), COLOURS[one.level]
    what = f"[{colour}]{one.level:<8}[/{colour}] {escape(one.name)}: {escape(one.what)}"
    out.print(what, highlight=False, soft_wrap=True)
    if one.mend:
        out.print(f"         -> {escape(one.mend)}", highlight=False, soft_wrap=True)

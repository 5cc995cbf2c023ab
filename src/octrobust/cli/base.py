"""What the commands share: the application, the look of its help, and common options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from octrobust import __version__
from octrobust.errors import UserError

# The help's panels, in order.
MODELS = "Ask a stored model"
EXPERIMENTS = "Experiments"
UPKEEP = "Keep things in order"

EXIT_CODES = """[bold]Exit codes[/bold]

  [cyan]0[/cyan]  fine
  [cyan]1[/cyan]  it ran: something failed, is unreachable, or needs mending
  [cyan]2[/cyan]  it could not be done as asked: why, in one line on stderr
[cyan]130[/cyan]  interrupted (Ctrl-C)
[cyan]143[/cyan]  terminated"""


def examples(*shown: tuple[str, str]) -> str:
    """An epilog: command lines, each with what it does."""
    lines = "\n".join(f"[cyan]$ {command}[/cyan]\n  {what}" for command, what in shown)
    return f"[bold]Examples[/bold]\n\n{lines}"


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        ("octrobust doctor", "is everything here that is needed, and what to do if not"),
        ("octrobust predict scan.png --nearest", "what the best hardened model says of a scan"),
        ("octrobust COMMAND --help", "more examples"),
    )
    + "\n\n"
    + EXIT_CODES,
)

AllCommits = Annotated[bool, typer.Option("--all", help="Experiments of earlier commits as well.")]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts: JSON on stdout.")]


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


def project() -> Path:
    """The root of the project that the current folder is in.

    Raises:
        UserError: it is in none.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return folder
    raise UserError(
        f"{here} is in no octrobust project (no dvc.yaml and params.yaml here or above): "
        "cd into your clone first"
    )


def parameters(given: Path | None) -> Path:
    """The parameter file that was given, or the project's, as seen from here.

    Raises:
        UserError: none was given, and here is no project.
    """
    return given or Path(os.path.relpath(project() / "params.yaml"))

"""`octrobust join`."""

from __future__ import annotations

import os

from octrobust.cli.base import UPKEEP, app, examples, project
from octrobust.errors import one_line_errors


@app.command(
    rich_help_panel=UPKEEP,
    epilog=examples(("octrobust join", "on the second machine, in the folder both share")),
)
def join() -> None:
    """Lend this machine to the stages that `dvc repro` starts on another.

    Needs the folder shared with it, and compute.rendezvous: see
    docs/how-to/several-machines.md. Ctrl-C ends it.
    """
    with one_line_errors():
        from octrobust.launch.join import join as take_part

        os.chdir(project())
        take_part()

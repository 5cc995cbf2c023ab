"""How the commands write: tables on stdout, JSON on stdout, what goes on meanwhile on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

NARROWEST = 120  # columns of a table that is written to a file or a pipe


def console() -> Console:
    """Stdout."""
    from rich.console import Console

    found = Console()
    if not found.is_terminal:
        found = Console(width=max(found.width, NARROWEST))
    return found


def new_table(*columns: str, numbers: tuple[str, ...] = (), title: str | None = None) -> Table:
    """A table; those of `numbers` are right-aligned, and the first, of names, is never broken."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        right = column in numbers
        first = column == columns[0]
        table.add_column(
            column, justify="right" if right else "left", overflow="fold", no_wrap=first
        )
    return table


def short(paths: Sequence[str]) -> list[str]:
    """File names, where they tell the files apart."""
    names = [PurePath(path).name for path in paths]
    return names if len(set(names)) == len(names) else list(paths)


def write_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def notes(*lines: str) -> None:
    """What a table rests on, in small print below it."""
    out = console()
    for line in lines:
        # Into a file unbroken, so that it can be searched.
        wrap = not out.is_terminal
        out.print(line, style="dim", highlight=False, markup=False, soft_wrap=wrap)


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """A line on a terminal's stderr while something takes its seconds and cannot say how many; what
    it says can be changed meanwhile."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as line:
        yield line.update

"""Every option of the command line, for the table of docs/command-line.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

from octrobust.cli import app


@dataclass(frozen=True)
class Option:
    """command: without the leading `octrobust`; names: as they are typed; about: its help."""

    command: str
    names: str
    about: str


def options() -> Iterator[Option]:
    """Of every command, in the order of their help; arguments are left to its usage."""
    yield from _of(typer.main.get_command(app), "")


def _of(command: Any, name: str) -> Iterator[Option]:
    for inner, one in getattr(command, "commands", {}).items():
        yield from _of(one, f"{name} {inner}".strip())
    if hasattr(command, "commands"):
        return
    for one in command.params:
        names = [*one.opts, *one.secondary_opts]
        if one.param_type_name == "option" and names != ["--json"]:
            plain = one.default in (None, True, False)
            about = one.help if plain else f"{one.help} (default: {one.default})"
            yield Option(name, ", ".join(f"`{each}`" for each in names), about.replace("|", r"\|"))

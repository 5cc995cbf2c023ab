"""The help is light, has examples that the parser takes, and docs/command-line.md is as whole."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from octrobust.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")


def commands(command: Any = None, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group by its words after `octrobust`."""
    command = command or typer.main.get_command(app)
    yield path, command
    for name, sub in getattr(command, "commands", {}).items():
        yield from commands(sub, *path, name)


ALL = dict(commands())


def test_no_help_imports_anything_heavy() -> None:
    """What makes `--help` answer in under a second."""
    code = f"""
import sys
from typer.testing import CliRunner
from octrobust.cli import app
for path in {list(ALL)!r}:
    assert CliRunner().invoke(app, [*path, "--help"]).exit_code == 0, path
heavy = {{"numpy", "torch", "mlflow", "dvc", "scipy", "matplotlib", "PIL", "octrobust.config"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def shown(text: str) -> list[str]:
    return re.findall(r"\$ (octrobust .*?)(?:\[/cyan\]|$)", text, re.MULTILINE)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_help_has_examples_that_parse(path: tuple[str, ...]) -> None:
    lines = shown(ALL[path].epilog or "")
    assert lines
    for line in lines:
        parse(line)


def parse(line: str) -> None:
    """As the shell would hand it over; nothing is run."""
    _, *words = shlex.split(line, comments=True)
    if "COMMAND" in words:
        return
    command, context = ALL[()], None
    while True:
        context = command.make_context(None, list(words), parent=context)
        if not hasattr(command, "commands") or not context._protected_args:
            return
        words = [*context._protected_args, *context.args]
        _, command, words = command.resolve_command(context, words)


@pytest.mark.parametrize("path", [path for path in ALL if path], ids=" ".join)
def test_the_page_has_every_command(path: tuple[str, ...]) -> None:
    assert f"octrobust {' '.join(path)}" in PAGE


def test_what_the_page_says_to_type_parses() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line[:10] == "octrobust "]
    assert len(lines) > 10
    for line in lines:
        parse(line)


def test_exit_codes_are_in_the_help_and_on_the_page() -> None:
    said = CliRunner().invoke(app, ["--help"]).output
    for code in ("0", "1", "2", "130", "143"):
        assert re.search(rf"^ *{code} +\w", said, re.MULTILINE), code
        assert f"| {code} |" in PAGE


def test_a_mistyped_option_is_bad_input() -> None:
    assert CliRunner().invoke(app, ["predict", "a.png", "--modell", "x"]).exit_code == 2

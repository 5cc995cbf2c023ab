"""The help is light, has examples that the parser takes, and docs/command-line.md is as whole."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from octrobust.cli import app
from octrobust.planning import devices
from scripts import blocks
from tests.conftest import ROOT

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


def test_what_the_pages_say_to_type_parses() -> None:
    texts = "\n".join(page.read_text(encoding="utf-8") for page in blocks.documents())
    typed = "\n".join(re.findall(r"```sh\n(.*?)```", texts, re.DOTALL)).replace("\\\n", " ")
    lines = [line for line in typed.splitlines() if line.startswith("octrobust ")]
    assert len(lines) > 30
    for line in lines:
        parse(line)
        if gpu := re.search(r"--gpu (\S+)", line):
            devices.find(gpu[1])


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("pre", "predict"),
        ("predict --nea", "--nearest"),
        ("predict --model hardened_o", "hardened_online"),
        ("audit leakage --variant config_", "config_3"),
        ("sweep queue attack.bet", "attack.beta=0.001"),
        ("plan --gpu A100", "A100-80GB"),
    ],
)
def test_the_shell_completes(
    typed: str, offered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "models" / "hardened_online").mkdir(parents=True)
    (tmp_path / "models" / "hardened_online" / "model.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    words = f"octrobust {typed}"
    said = CliRunner().invoke(
        app,
        prog_name="octrobust",
        env={
            "_OCTROBUST_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
    )
    assert offered in said.stdout.splitlines()


def test_exit_codes_are_in_the_help_and_on_the_page() -> None:
    said = CliRunner().invoke(app, ["--help"]).output
    for code in ("0", "1", "2", "130", "143"):
        assert re.search(rf"^ *{code} +\w", said, re.MULTILINE), code
        assert f"| {code} |" in PAGE


def test_a_mistyped_option_is_bad_input() -> None:
    assert CliRunner().invoke(app, ["predict", "a.png", "--modell", "x"]).exit_code == 2

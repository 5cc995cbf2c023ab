"""`make readme`: write the marked parts of README.md and docs/ anew.

A part stands between `<!-- metrics: begin NAME -->` and `<!-- end -->` and is what
scripts/blocks/NAME.md.j2 makes of metrics/, or of committed results of runs that are no part of the
demo (docs/explanation/results/; src/octrobust/report/replayed.json, which the report shows too), so
that no number there is typed by hand; the hook of pre-commit, and for what is committed
tests/unit/test_documents.py, fail where one differs from what this writes. The part `parameters` is
made of params.yaml, its comments and the schema, `options` of the command line's help.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jinja2

from octrobust import config
from octrobust.files import read_json, write_text
from octrobust.report import paper, protocols
from octrobust.report.results import REPLAYED
from octrobust.report.wording import NBSP, percent, with_interval
from scripts.options import options
from scripts.parameters import sections

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "explanation" / "results"
# What the pictures of README show, by `make pictures`.
SHOWN = ROOT / "docs" / "images" / "shown.json"
FAULTS = ROOT / "benchmarks" / "results" / "faults.json"  # of `make faults`
PART = re.compile(r"(<!-- metrics: begin ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def documents() -> list[Path]:
    """Every page that may have marked parts."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    return [*pages, *sorted((ROOT / "docs").rglob("*.md"))]


def rewritten(page: Path) -> str:
    """The page's text with its marked parts as they should be."""
    return PART.sub(
        lambda found: f"{found[1]}{render(found[2])}\n{found[3]}", page.read_text(encoding="utf-8")
    )


def render(name: str) -> str:
    """One part, from metrics/ as committed."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_suffix("")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - Markdown of our own numbers
    )
    environment.filters["percent"] = _percent
    environment.filters["with_interval"] = lambda score: _plain(with_interval(score))
    environment.filters["plain"] = _plain
    metrics = ROOT / "metrics"
    return (
        environment.get_template(f"{name}.md.j2")
        .render(
            summary=read_json(metrics / "summary.json"),
            metrics=lambda path: read_json(metrics / f"{path}.json"),
            results=lambda name: read_json(RESULTS / f"{name}.json"),
            replayed=read_json(REPLAYED),
            shown=read_json(SHOWN),
            notebooks=protocols.notebooks,
            params=config.load(ROOT / "params.yaml"),
            paper=paper,
            sections=sections(ROOT / "params.yaml"),
            tests=[*_tests()],
            options=[*options()],
            faults=read_json(FAULTS)["runs"],
        )
        .strip()
    )


def _percent(value: float | None, digits: int = 0) -> str:
    return _plain(percent(value, digits))


def _plain(text: str) -> str:
    return text.replace(NBSP, " ")


def _tests() -> Iterator[tuple[str, str]]:
    """Every test file and the first line of its docstring."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        yield str(path.relative_to(ROOT)), " ".join(about.split("\n\n")[0].split())


def main() -> None:
    """Write what differs; with --check only name it, and end with 1."""
    checked = "--check" in sys.argv[1:]
    stale = [page for page in documents() if rewritten(page) != page.read_text(encoding="utf-8")]
    for page in stale:
        if not checked:
            write_text(page, rewritten(page))
        told = "differs: run `make readme`" if checked else "written anew"
        print(f"{page.relative_to(ROOT)}: {told}", file=sys.stderr)
    sys.exit(1 if checked and stale else 0)


if __name__ == "__main__":
    main()

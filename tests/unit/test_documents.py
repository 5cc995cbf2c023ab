"""README and docs: numbers as metrics/ has them, links that lead somewhere, an offline site."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import octrobust
from octrobust.files import read_json
from scripts import blocks
from scripts.pictures import timeless
from tests.conftest import ROOT

PAGES = [*blocks.documents(), ROOT / "CHANGELOG.md"]
LARGEST_PICTURE = 200 * 1024
# What a browser would fetch by itself; a link that a person clicks is none.
FETCHED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last commit: `make repro` may since have given this checkout numbers of its own, and for
    what is not committed yet there is the hook of pre-commit."""
    folder = tmp_path_factory.mktemp("committed")
    subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, folder], check=True)
    return folder


def test_pictures_show_the_numbers_of_metrics(committed: Path) -> None:
    shown = read_json(committed / "docs" / "images" / "shown.json")
    measured = timeless(read_json(committed / "metrics" / "summary.json"))
    assert shown["summary"] == measured, "run `make pictures`"


def test_numbers_are_those_of_metrics(committed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.blocks", "--check"],
        cwd=committed,
        env={**os.environ, "PYTHONPATH": str(committed / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_numbers_are_written_where_they_are_shown() -> None:
    """A part whose marks were lost would be left out without a word."""
    written = [found[2] for page in PAGES for found in blocks.PART.finditer(page.read_text())]
    templates = (ROOT / "scripts" / "blocks").glob("*.md.j2")
    assert sorted(written) == sorted(one.name.removesuffix(".md.j2") for one in templates)


def anchors(page: Path) -> set[str]:
    """As GitHub and mkdocs make them of headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path) if path else page
        assert there.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(there), f"{target}: no such heading"


def test_pages_named_in_code_are_there() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "src", "tests", "benchmarks", "presets", "pipeline", "scripts"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in [*listed, "params.yaml", "Makefile"]:
        if name.endswith((".py", ".yaml", ".md", ".html", "Makefile")) and (ROOT / name).exists():
            for page in re.findall(r"\bdocs/[\w/-]+\.md\b", (ROOT / name).read_text()):
                assert (ROOT / page).exists(), f"{name} names {page}"


def test_every_room_is_on_the_map() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "src" / "octrobust").glob("*/__init__.py")}
    assert rooms <= set(re.findall(r"`(\w+)/`", page))


def test_pictures_are_small() -> None:
    for picture in (ROOT / "docs" / "images").glob("*.png"):
        assert picture.stat().st_size <= LARGEST_PICTURE, picture.name


def test_readme_and_changelog_are_of_this_version() -> None:
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert octrobust.__version__ == packaged
    newest = re.search(
        r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert newest is not None
    assert newest[1] == packaged


def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= len(list((ROOT / "docs").rglob("*.md")))
    for page in pages:
        assert not FETCHED.findall(page.read_text(encoding="utf-8")), page.name
    reference = (tmp_path / "reference" / "attack.html").read_text(encoding="utf-8")
    assert "octrobust.attack.ElasticNet" in reference
    assert "binary_search_steps" in reference

"""The documentation's site: every page at three widths, and nothing in it from elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.conftest import Visit
from tests.browser.looks import WIDTHS, beyond, serious
from tests.conftest import ROOT

# Boxes that scroll by themselves: wide tables and code.
SCROLLING = ".md-typeset__scrollwrap, pre, .md-tabs, .md-sidebar, .md-header, .md-search, .md-top"
# The theme's own: its search has no name, and a wide table is no stop of the tabulator.
THEMES = ("aria-dialog-name", "scrollable-region-focusable")
SHOWN = ("index.html", "how-to/sweeps.html", "reference/attack.html", "evaluation.html")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "-d", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    return folder


def test_nothing_sticks_out(visit: Visit, site: Path) -> None:
    paths = [path for path in site.rglob("*.html") if path.name != "404.html"]  # of a server
    assert len(paths) > len(SHOWN)
    for path in paths:
        page = visit(path, site=site)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert beyond(page, SCROLLING) == [], (path, width)
        page.close()


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1440, "dark")])
def test_axe_finds_nothing_serious(visit: Visit, site: Path, width: int, scheme: str) -> None:
    for name in SHOWN:
        page = visit(site / name, width, site=site, color_scheme=scheme)
        assert [found for found in serious(page) if found[0] not in THEMES] == [], name

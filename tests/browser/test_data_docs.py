"""Data Docs, where every expectation holds and where some fail, at three widths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.browser.conftest import Visit
from tests.browser.looks import WIDTHS, beyond, serious
from tests.unit.test_expectations import Project


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both front pages, and both pages of the suite `splits`."""
    good, bad = (Project(tmp_path_factory.mktemp(name)) for name in ("good", "bad"))
    good.validate()
    bad.write("test", [replace(row, label="DRUSEN", width=3) for row in bad.rows("test")])
    bad.failed()
    return [
        one.folder / "docs" / f"{name}.html" for one in (good, bad) for name in ("index", "splits")
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out(visit: Visit, docs: list[Path], width: int) -> None:
    for path in docs:
        assert beyond(visit(path, width)) == [], path


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1440, "dark")])
def test_axe_finds_nothing_serious(visit: Visit, docs: list[Path], width: int, scheme: str) -> None:
    for path in docs[2:]:
        assert serious(visit(path, width, color_scheme=scheme)) == [], path


def test_a_phone_shows_an_expectation_on_few_lines(visit: Visit, docs: list[Path]) -> None:
    cell = visit(docs[1], WIDTHS[0]).locator(".ge-section tbody > tr").first.bounding_box()
    assert cell
    assert cell["height"] < 200

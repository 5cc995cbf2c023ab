"""The report as a person meets it: at three widths, light, dark and printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Visit
from tests.browser.looks import WIDTHS, beyond, serious, unfold

SHEET = 703  # CSS pixels of A4 between the margins


@pytest.fixture(scope="module")
def report(whole: tuple[Path, str]) -> Path:
    return whole[0] / "reports/index.html"


def side_by_side(page: Page) -> bool:
    """Whether the whole attacked picture is to the right of the clean one."""
    boxes = [page.locator(f".pair .{kind}").first.bounding_box() for kind in ("before", "after")]
    before, after = (box for box in boxes if box)
    return before["x"] + before["width"] <= after["x"] and after["width"] > 0


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out(visit: Visit, report: Path, width: int) -> None:
    page = visit(report, width)
    assert beyond(page) == []
    unfold(page)
    assert beyond(page) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_longest_accuracy_stays_on_its_line(visit: Visit, report: Path, width: int) -> None:
    value = visit(report, width).locator(".marks .value").first
    heights = [
        value.evaluate("(one, text) => (one.textContent = text, one.offsetHeight)", text)
        for text in ("9", "100.0\u00a0%")
    ]
    assert heights[0] == heights[1]
    assert value.evaluate("one => one.scrollWidth <= one.clientWidth")


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1440, "light"), (1440, "dark")])
def test_axe_finds_nothing_serious(visit: Visit, report: Path, width: int, scheme: str) -> None:
    page = visit(report, width, color_scheme=scheme)
    unfold(page)
    assert serious(page) == []


def test_dark_is_dark_and_so_are_its_figures(visit: Visit, report: Path) -> None:
    shown = {}
    for scheme in ("light", "dark"):
        page = visit(report, color_scheme=scheme)
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        shown[scheme] = (back, page.evaluate("document.querySelector('picture img').currentSrc"))
    assert shown["light"][0] != shown["dark"][0]
    assert shown["light"][1] != shown["dark"][1]


def test_the_slider_moves_by_key_and_by_mouse(visit: Visit, report: Path) -> None:
    page = visit(report)
    pair = page.locator(".pair").first
    slider, after = pair.locator("input"), pair.locator(".after")

    def cut() -> float:
        style = after.evaluate("one => getComputedStyle(one).clipPath")
        return float(style.removeprefix("inset(").rpartition(" ")[2].rstrip("%)"))

    assert cut() == 50
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert cut() == 53
    assert "before on the left 53 %" in (slider.get_attribute("aria-valuetext") or "")
    page.keyboard.press("Home")
    assert cut() == 0
    box = pair.bounding_box()
    assert box
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2)
    assert cut() == pytest.approx(80, abs=2)


def test_without_scripts_both_pictures_are_there(visit: Visit, report: Path) -> None:
    page = visit(report, java_script_enabled=False)
    pair = page.locator(".pair").first
    assert side_by_side(page)
    assert not pair.locator("input").is_visible()


def test_print_opens_what_is_folded_and_cuts_nothing(visit: Visit, report: Path) -> None:
    page = visit(report, SHEET, color_scheme="dark")
    page.emulate_media(media="print")
    folded = page.locator("details:not([open]) :is(table, pre)")
    assert folded.count() > 5
    assert all(one.bounding_box()["height"] > 20 for one in folded.all())
    assert beyond(page, box=None) == []
    assert not page.locator("nav").is_visible()
    assert side_by_side(page)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")

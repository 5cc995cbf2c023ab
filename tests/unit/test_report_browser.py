"""The page as a person meets it: in a real browser, at three widths, light, dark and printed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")

WIDTHS = (360, 768, 1440)
SHEET = 703  # CSS pixels of A4 between the margins
# What sticks out of the window and does not scroll in a box of its own.
STICKS_OUT = """() => [...document.querySelectorAll("body *")].filter(one => {
  const box = one.getBoundingClientRect();
  return (box.right > innerWidth + 1 || box.left < -1) && box.width && !one.closest(".scroll");
}).map(one => one.outerHTML.slice(0, 120))"""

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # A container's root has no sandbox to offer.
    alone = [] if os.getuid() else ["--no-sandbox"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=alone)
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Browser, whole: tuple[Path, str]) -> Iterator[Open]:
    """Open the page; afterwards: it said nothing on the console and asked for nothing."""
    complaints: list[str] = []
    asked: list[str] = []
    contexts = []
    address = (whole[0] / "reports/index.html").as_uri()

    def go(width: int = 1440, **more: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda one: complaints.append(one.text))
        page.on("pageerror", lambda one: complaints.append(str(one)))
        page.on("request", lambda one: asked.append(one.url))
        page.on("requestfailed", lambda one: complaints.append(f"failed: {one.url[:80]}"))
        page.goto(address)
        return page

    yield go
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in asked if url != address and not url.startswith("data:")] == []


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")


def side_by_side(page: Page) -> bool:
    """Whether the whole attacked picture is to the right of the clean one."""
    boxes = [page.locator(f".pair .{kind}").first.bounding_box() for kind in ("before", "after")]
    before, after = (box for box in boxes if box)
    return before["x"] + before["width"] <= after["x"] and after["width"] > 0


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out(visit: Open, width: int) -> None:
    page = visit(width)
    for _ in range(2):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(STICKS_OUT) == []
        unfold(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDTHS[0], WIDTHS[-1]])
def test_axe_finds_nothing_serious(visit: Open, scheme: str, width: int) -> None:
    page = visit(width, color_scheme=scheme)
    unfold(page)
    found = Axe().run(page).response
    serious = [
        (one["id"], [node["html"][:200] for node in one["nodes"][:3]])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert "color-contrast" in {one["id"] for one in found["passes"]}


def test_dark_is_dark_and_so_are_its_figures(visit: Open) -> None:
    shown = {}
    for scheme in ("light", "dark"):
        page = visit(color_scheme=scheme)
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        shown[scheme] = (back, page.evaluate("document.querySelector('picture img').currentSrc"))
    assert shown["light"][0] != shown["dark"][0]
    assert shown["light"][1] != shown["dark"][1]


def test_the_slider_moves_by_key_and_by_mouse(visit: Open) -> None:
    page = visit()
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


def test_without_scripts_both_pictures_are_there(visit: Open) -> None:
    page = visit(java_script_enabled=False)
    pair = page.locator(".pair").first
    assert side_by_side(page)
    assert not pair.locator("input").is_visible()


def test_print_opens_what_is_folded_and_cuts_nothing(visit: Open) -> None:
    page = visit(SHEET, color_scheme="dark")
    page.emulate_media(media="print")
    folded = page.locator("details:not([open]) :is(table, pre)")
    assert folded.count() > 5
    assert all(one.bounding_box()["height"] > 20 for one in folded.all())
    assert page.evaluate("document.documentElement.scrollWidth") <= SHEET
    assert page.evaluate(STICKS_OUT.replace(' && !one.closest(".scroll")', "")) == []
    assert not page.locator("nav").is_visible()
    assert side_by_side(page)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")

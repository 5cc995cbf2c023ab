"""What is wrong with a page, as a browser sees it."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

WIDTHS = (360, 768, 1440)  # a phone, a tablet, a desk
# What is beyond the window and not in a box of its own that scrolls.
_BEYOND = """(box) => [...document.querySelectorAll("body *")].filter(one => {
  const at = one.getBoundingClientRect();
  return at.width && (at.right > innerWidth + 1 || at.left < -1) && !(box && one.closest(box));
}).map(one => one.outerHTML.slice(0, 120))"""


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")


def beyond(page: Page, box: str | None = ".scroll") -> list[str]:
    """Elements outside the window but for those in a `box`; the page itself, where it scrolls."""
    found: list[str] = page.evaluate(_BEYOND, box)
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    return ["the page", *found] if wide else found


def serious(page: Page) -> list[tuple[str, list[str]]]:
    """What axe calls serious or critical: its rule, and where."""
    found: dict[str, Any] = Axe().run(page, options={"preload": False}).response
    assert "color-contrast" in {one["id"] for one in found["passes"]}  # it did look
    return [
        (one["id"], [node["html"][:200] for node in one["nodes"][:3]])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]

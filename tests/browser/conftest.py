"""A browser, and pages in it that may neither complain nor ask for anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from scripts.pictures import chromium

Visit = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = chromium()
    if found is None:
        pytest.skip("no Chromium on the PATH")
    # A container's root has no sandbox to offer.
    alone = [] if os.getuid() else ["--no-sandbox"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=alone)
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Open a file; afterwards: nothing was on the console, and nothing else was asked for but
    files of the site that it is said to be of."""
    complaints: list[str] = []
    asked: list[str] = []
    sites: list[str] = ["data:"]
    contexts = []

    def go(path: Path, width: int = 1440, site: Path | None = None, **more: Any) -> Page:
        sites.extend([site.as_uri()] if site else [])
        context = browser.new_context(viewport={"width": width, "height": 900}, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda one: complaints.append(one.text))
        page.on("pageerror", lambda one: complaints.append(str(one)))
        page.on("requestfailed", lambda one: complaints.append(f"failed: {one.url[:80]}"))
        page.on("request", lambda one: asked.append(one.url))
        page.goto(path.as_uri())
        asked.remove(path.as_uri())
        return page

    yield go
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(tuple(sites))] == []

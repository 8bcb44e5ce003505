"""Chromium for the pages' tests, and what a page is audited on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 320, "height": 800}
_GRAVE = ("serious", "critical")
_OPTIONS = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}


@contextmanager
def chromium_browser() -> Iterator[Browser]:
    """A browser. Close it before the module ends: while it is open, this thread has an event loop."""
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def audit(page: Page) -> list[str]:
    """What is seriously wrong with the page as it is shown now, one line each; empty when nothing is.

    axe's serious and critical findings (WCAG 2.2 A and AA, best practices), and sideways scrolling of the whole page.
    """
    if not page.evaluate("typeof window.axe === 'object'"):
        page.evaluate(Axe().axe_script)
    found = [
        f"{page.url}: {violation['id']}: {violation['help']}: {node['html'][:200]}"
        for violation in page.evaluate("options => axe.run(options)", _OPTIONS)["violations"]
        if violation["impact"] in _GRAVE
        for node in violation["nodes"]
    ]
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [*found, f"{page.url}: scrolls {wide} px sideways"] if wide > 0 else found

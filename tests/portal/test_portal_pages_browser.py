"""The pages of official, steward and builder in a real browser: for everyone, narrow and wide, without JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from desk_site import DATASET, OFFICIAL_OF_GEMEENTE, OFFICIAL_OF_REGISTER, propose
from playwright.sync_api import Browser, Page, expect
from portal_browser import NARROW, WIDE, audit
from portal_site import GEMEENTE, REGIE, REGISTER, Actor, Site

pytestmark = pytest.mark.browser


@contextmanager
def _page(chromium: Browser, site: Site, language: str = "nl", **options: Any) -> Iterator[Page]:
    context = chromium.new_context(**options)
    try:
        context.add_cookies([{"name": "taal", "value": language, "url": site.address}])
        yield context.new_page()
    finally:
        context.close()


def _log_in(page: Page, site: Site, actor: Actor, handle: str) -> None:
    page.goto(f"{site.web(actor)}/afspraken")
    page.click("main a.button")
    page.click(f"button[value={handle}]")
    page.wait_for_url(f"{site.web(actor)}/afspraken")


def _audit_both(page: Page) -> list[str]:
    for summary in page.locator("summary").all():
        summary.click()
    found: list[str] = []
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)
        found += audit(page)
    return found


@pytest.mark.parametrize("language", ["nl", "en"])
def test_nothing_serious_is_wrong_with_the_public_pages(chromium: Browser, desk: Site, language: str) -> None:
    found: list[str] = []
    said: list[str] = []
    with _page(chromium, desk, language) as page:
        page.on("console", lambda message: said.append(message.text))
        for address in (
            f"{desk.address}/stelsel",
            f"{desk.address}/stelsel/{GEMEENTE.peer_id}",
            f"{desk.address}/doelen",
            f"{desk.address}/doelen/aantal",
            f"{desk.address}/doelen/onbekend",
            f"{desk.web(REGISTER)}/open-data",
            f"{desk.web(REGISTER)}/open-data/{DATASET}",
            f"{desk.web(REGISTER)}/open-data/{DATASET}?leeftijd=65%2B",
        ):
            page.goto(address)
            found += _audit_both(page)
        page.goto(f"{desk.address}/stelsel/{GEMEENTE.peer_id}")
        page.click("main a[href^='/stelsel/bevindingen/'] >> nth=0")
        found += _audit_both(page)
    assert found == []
    assert said == []  # the Content Security Policy has nothing to object to


@pytest.mark.parametrize("language", ["nl", "en"])
def test_nothing_serious_is_wrong_with_the_pages_of_officials(chromium: Browser, desk: Site, language: str) -> None:
    tail = propose(desk)
    found: list[str] = []
    with _page(chromium, desk, language) as page:
        page.goto(f"{desk.web(REGISTER)}/afspraken")
        found += _audit_both(page)
        _log_in(page, desk, REGISTER, OFFICIAL_OF_REGISTER)
        found += _audit_both(page)
        for path in (f"/afspraken/{tail}", f"/afspraken/{desk.grants['hostile']}", "/vastleggingen"):
            page.goto(desk.web(REGISTER) + path)
            found += _audit_both(page)
    with _page(chromium, desk, language) as page:
        _log_in(page, desk, GEMEENTE, OFFICIAL_OF_GEMEENTE)
        page.goto(f"{desk.web(GEMEENTE)}/afspraken/{desk.grants['refused']}")
        found += _audit_both(page)
        page.goto(f"{desk.web(GEMEENTE)}/afspraken/{desk.grants['refused']}/intrekken")
        found += _audit_both(page)
    assert found == []


def test_an_official_accepts_and_revokes_without_javascript(chromium: Browser, desk: Site) -> None:
    propose(desk)
    with _page(chromium, desk, java_script_enabled=False) as page:
        _log_in(page, desk, REGISTER, OFFICIAL_OF_REGISTER)
        page.click(".entries--urgent h3 a >> nth=0")
        page.get_by_role("button", name="Aanvaarden").click()
        expect(page.get_by_role("status")).to_have_text("U hebt de afspraak aanvaard.")
        page.get_by_role("link", name="Intrekken…").click()
        expect(page.get_by_text("binnen een seconde geweigerd")).to_be_visible()
        page.get_by_role("button", name="Ja, trek deze afspraak in").click()
        expect(page.get_by_role("status")).to_contain_text("U hebt de afspraak ingetrokken.")


def test_a_builder_chooses_with_the_keyboard_and_without_javascript(chromium: Browser, desk: Site) -> None:
    with _page(chromium, desk, java_script_enabled=False) as page:
        page.goto(f"{desk.web(REGISTER)}/open-data/{DATASET}")
        page.get_by_label("Gemeente", exact=True).focus()
        page.keyboard.type("Plaats 1")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{desk.web(REGISTER)}/open-data/{DATASET}?gemeente=GM0001&leeftijd=")
        expect(page.get_by_role("img")).to_be_visible()


def test_the_text_of_a_chart_is_as_large_on_a_telephone_as_on_a_wide_screen(chromium: Browser, desk: Site) -> None:
    heights = []
    with _page(chromium, desk) as page:
        page.goto(f"{desk.address}/doelen/aantal")
        for size in (WIDE, NARROW):
            page.set_viewport_size(size)
            box = page.locator(".plot text").first.bounding_box()
            assert box is not None
            heights.append(box["height"])
    assert heights[0] == pytest.approx(heights[1], abs=0.5)
    assert heights[0] >= 14


def test_the_board_keeps_its_table_for_a_screen_reader_when_it_is_stacked(chromium: Browser, desk: Site) -> None:
    with _page(chromium, desk, viewport=NARROW) as page:
        page.goto(f"{desk.address}/stelsel")
        table = page.get_by_role("table")
        expect(table.get_by_role("rowheader")).to_have_count(3)
        expect(table.get_by_role("cell")).to_have_count(12)
        assert page.get_by_role("link", name=REGIE.name, exact=True).is_visible()

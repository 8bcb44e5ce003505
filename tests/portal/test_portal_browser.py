"""The pages in a real browser: for everyone, with a keyboard alone, and without JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from portal_browser import NARROW, WIDE, audit
from portal_site import GEMEENTE, NOOR, NOOR_HANDLE, OFFICIAL_HANDLE, Site

from stelsel.base.certificates import TrustAnchors
from stelsel.ledger.receipts import verify_file

pytestmark = pytest.mark.browser


@contextmanager
def _page(chromium: Browser, **options: Any) -> Iterator[Page]:
    context = chromium.new_context(**options)
    try:
        yield context.new_page()
    finally:
        context.close()


def _log_in(page: Page, site: Site, handle: str = NOOR_HANDLE) -> None:
    page.goto(f"{site.address}/inloggen?terug=/mijn-gegevens")
    page.click(f"button[value={handle}]")


def _audit_both(page: Page) -> list[str]:
    """The page on a wide screen and on a narrow one."""
    found: list[str] = []
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)
        found += audit(page)
    return found


@pytest.mark.parametrize("language", ["nl", "en"])
def test_nothing_serious_is_wrong_with_any_page(chromium: Browser, site: Site, language: str) -> None:
    found: list[str] = []
    with _page(chromium) as page:
        page.context.add_cookies([{"name": "taal", "value": language, "url": site.address}])
        for address in (
            f"{site.address}/",
            f"{site.web(GEMEENTE)}/",
            f"{site.address}/mijn-gegevens",
            f"{site.address}/inloggen",
            f"{site.address}/inloggen/geannuleerd",
            f"{site.address}/niets",
            f"{site.address}/activate",
            f"{site.address}/login?challenge=niets",
        ):
            page.goto(address)
            found += _audit_both(page)
        _log_in(page, site)
        for summary in page.locator("summary").all():
            summary.click()
        found += _audit_both(page)
        page.goto(f"{site.address}/oidc/logout")
        found += _audit_both(page)
    assert found == []


def test_the_audit_sees_what_is_wrong(chromium: Browser) -> None:
    with _page(chromium, viewport=NARROW) as page:
        page.set_content(
            "<html><title>x</title><main><h1>x</h1><p style='color:#ccc;background:#fff'>bleek</p><img src='x'>"
            "<a href='/a' style='display:inline-block;width:5px;height:5px;overflow:hidden'>a</a>"
            "<a href='/b' style='display:inline-block;width:5px;height:5px;overflow:hidden'>b</a>"
            "<div style='width:900px'>breed</div></main>"
        )
        found = " ".join(audit(page))
    for fault in ("html-has-lang", "color-contrast", "image-alt", "target-size", "sideways"):
        assert fault in found


def test_an_official_s_refusal_and_a_failed_choice_are_for_everyone_too(chromium: Browser, site: Site) -> None:
    with _page(chromium, viewport=NARROW) as page:
        _log_in(page, site, OFFICIAL_HANDLE)
        expect(page.locator("main")).to_contain_text("U bent ingelogd als medewerker")
        found = audit(page)
    with _page(chromium, viewport=NARROW) as page:
        page.goto(f"{site.address}/activate")
        page.fill("#code", "AAAA-BBBB")
        page.click("main button")
        expect(page.get_by_role("alert")).to_contain_text("klopt niet")
        expect(page.get_by_label("Activeringscode")).to_have_attribute("aria-invalid", "true")
        found += audit(page)
    assert found == []


def test_a_keyboard_alone_reaches_everything_in_the_order_in_which_it_is_read(chromium: Browser, site: Site) -> None:
    with _page(chromium, viewport=WIDE) as page:
        page.goto(f"{site.address}/mijn-gegevens")
        reached: list[str] = []
        for _ in range(8):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                """() => { const at = document.activeElement, style = getComputedStyle(at);
                return [at.textContent.trim().replace(/\\s+/g, ' '), style.outlineStyle, style.outlineWidth] }"""
            )
            assert focused[1:] == ["solid", "3px"], focused
            reached.append(focused[0])
        assert reached[0] == "Naar de inhoud"
        assert reached[2:6] == ["Mijn gegevens", "Afspraken", "English", "Inloggen"]
        assert reached[6] == "Inloggen als inwoner"

        # The skip link does what it says, and the whole login goes by Enter.
        page.goto(f"{site.address}/mijn-gegevens")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Inloggen als inwoner"
        page.keyboard.press("Enter")
        page.wait_for_url("**/login?challenge=*")
        page.locator("button", has_text="Noor").focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/mijn-gegevens")
        first = page.locator(".use summary").first
        first.focus()
        page.keyboard.press("Enter")
        expect(page.locator(".use details").first).to_have_attribute("open", "")
        page.keyboard.press("Tab")
        assert "Download het bewijs" in page.evaluate("document.activeElement.textContent")


def test_from_logging_in_to_the_receipt_nothing_needs_javascript(chromium: Browser, site: Site, tmp_path: Path) -> None:
    with _page(chromium, viewport=NARROW, java_script_enabled=False, accept_downloads=True) as page:
        page.goto(f"{site.address}/")
        page.get_by_role("link", name="Wie gebruikte mijn gegevens?").click()
        page.get_by_role("link", name="Inloggen als inwoner").click()
        expect(page.locator("[data-passkey-absent]")).to_be_visible()
        expect(page.locator("[data-passkey-start]")).to_be_hidden()
        page.get_by_role("button", name="Noor van Dalmeer").click()
        expect(page.locator(".use")).to_have_count(3)
        with page.expect_download() as downloading:
            page.get_by_role("button", name="Download het bewijs").first.click()
        downloading.value.save_as(tmp_path / "bewijs.json")
        with page.expect_download() as downloading:
            page.get_by_role("link", name="trust-anchors.pem").click()
        downloading.value.save_as(tmp_path / "trust-anchors.pem")
        proven = verify_file(
            (tmp_path / "bewijs.json").read_bytes(), TrustAnchors.load(tmp_path / "trust-anchors.pem"), 2e9
        )
        assert proven.record.service == "personen"
        page.check("#geweigerd")
        page.get_by_role("button", name="Toon").click()
        expect(page.locator(".use")).to_have_count(1)


def test_a_passkey_is_made_and_used_on_these_pages(chromium: Browser, site: Site) -> None:
    provider = site.nodes["regie"].provider
    assert provider is not None
    code = site.run(provider.enrol_resident(name="Noor van Dalmeer", burgerservicenummer=NOOR, level="substantial"))
    with _page(chromium, viewport=NARROW) as page:
        devtools = page.context.new_cdp_session(page)
        devtools.send("WebAuthn.enable")
        options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True}
        options |= {"hasUserVerification": True, "isUserVerified": True, "automaticPresenceSimulation": True}
        devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        page.goto(f"{site.address}/activate")
        page.fill("#code", code)
        page.click("main button")
        expect(page.locator("main")).to_contain_text("Noor van Dalmeer")
        expect(page.locator("[data-passkey-absent]")).to_be_hidden()
        assert audit(page) == []
        page.click("[data-passkey-start]")
        page.wait_for_url("**/activate?done=1")
        assert audit(page) == []
        page.goto(f"{site.address}/inloggen?terug=/mijn-gegevens")
        page.click("[data-passkey-start]")
        page.wait_for_url("**/mijn-gegevens")
        expect(page.locator(".use")).to_have_count(3)

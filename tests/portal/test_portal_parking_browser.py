"""The parking application of the demo in a real browser: its form, an outcome of each kind, a refusal, a mistake."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from portal_browser import NARROW, WIDE, audit
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stelsel.base.web import application, listen, serving
from stelsel.demo.parking import FIELD_TOO_MANY
from stelsel.demo.parking.app import make_app, new_client

pytestmark = pytest.mark.browser

_LIVES_HERE, _LIVES_ELSEWHERE, _NOBODY, _SILENT, _WRONG = (
    "999993653",
    "999990019",
    "999990020",
    "999990032",
    "999993654",
)
_LONG = "Wilhelmina-Frederika Anna-Paulowna van den Boogaard-Oosterhuizen tot Nergensweghuizerveld"


async def _register(request: Request) -> Response:
    """Answers as the register does through an outway."""
    asked = await request.json()
    (number,) = asked["burgerservicenummer"]
    headers = {"fsc-transaction-id": "0190aaaa-0000-7000-8000-000000000001"}
    if FIELD_TOO_MANY in asked["fields"]:
        problem: dict[str, Any] = {"title": "This is not allowed", "status": 403, "refused": [FIELD_TOO_MANY]}
        problem |= {"detail": "These fields were not agreed.", "detail_nl": "Deze gegevens zijn niet afgesproken."}
        return JSONResponse(problem, 403, headers, media_type="application/problem+json")
    if number == _SILENT:
        return JSONResponse({"title": "bad gateway"}, 502, headers)
    person = {
        "naam": {"volledigeNaam": _LONG},
        "adressering": {
            "adresregel1": "Burgemeester van der Nergenswegstraat 12345",
            "adresregel2": "1234 AB  AMSTERDAM",
        },
        "gemeenteVanInschrijving": {"code": "0363" if number == _LIVES_HERE else "0599"},
    }
    return JSONResponse({"personen": [] if number == _NOBODY else [person]}, headers=headers)


@pytest.fixture(scope="module")
def parking() -> Iterator[str]:
    """The application and a register behind a simulated outway, both real HTTP servers; gives its address."""
    loop, stop, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    outway, door = listen("127.0.0.1:0"), listen("127.0.0.1:0")

    async def live() -> None:
        client = new_client()
        app = make_app(client, f"http://127.0.0.1:{outway.getsockname()[1]}", "0363")
        register = application([Route("/personen/personen", _register, methods=["POST"])])
        try:
            async with serving(register, outway), serving(app, door):
                ready.set()
                await stop.wait()
        finally:
            await client.aclose()

    thread = threading.Thread(target=loop.run_until_complete, args=(live(),), daemon=True)
    thread.start()
    try:
        assert ready.wait(20)
        yield f"http://localhost:{door.getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()
        outway.close()
        door.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    # The page needs no JavaScript and allows none; axe is put into it from outside.
    context = chromium.new_context(bypass_csp=True)
    try:
        yield context.new_page()
    finally:
        context.close()


def _audit_both(page: Page) -> list[str]:
    for summary in page.locator("details:not([open]) > summary").all():
        summary.click()
    found: list[str] = []
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)
        found += audit(page)
    return found


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/", ["Een vergunning kan", "Een vergunning kan niet", "Niemand gevonden", "geen antwoord", "klopt niet"]),
        (
            "/en",
            ["A permit is possible", "A permit is not possible", "Nobody found", "gives no answer", "is not right"],
        ),
    ],
)
def test_nothing_serious_is_wrong_with_any_page_of_the_parking_application(
    page: Page, parking: str, path: str, said: list[str]
) -> None:
    page.goto(parking + path)
    found = _audit_both(page)
    numbers = (_LIVES_HERE, _LIVES_ELSEWHERE, _NOBODY, _SILENT, _WRONG)
    for number, words in zip(numbers, said, strict=True):
        page.goto(parking + path)
        page.fill("#number", number)
        page.press("#number", "Enter")
        expect(page.locator("main")).to_contain_text(words)
        found += _audit_both(page)
    assert found == []


@pytest.mark.parametrize(("path", "said"), [("/", "Deze vraag mag niet"), ("/en", "This question is not allowed")])
def test_nothing_serious_is_wrong_with_the_page_of_a_refusal(page: Page, parking: str, path: str, said: str) -> None:
    page.goto(parking + path)
    page.fill("#number", _LIVES_HERE)
    page.click("summary")
    page.check("#more")
    page.click("button[type=submit]")
    expect(page.get_by_role("status")).to_contain_text(said)
    expect(page.get_by_role("status")).to_contain_text(FIELD_TOO_MANY)
    assert _audit_both(page) == []


def test_an_official_comes_through_the_form_with_the_keyboard_alone(page: Page, parking: str) -> None:
    page.goto(parking)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Naar de inhoud")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#number")).to_be_focused()
    page.keyboard.type(_WRONG)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_role("alert").get_by_role("link").focus()
    page.keyboard.press("Enter")
    page.keyboard.type(_LIVES_HERE)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text(_LONG)
    assert _LIVES_HERE not in page.content()
    assert page.url == f"{parking}/"

"""Passkeys in a real browser with a virtual authenticator, and what a browser may not make of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from identity_site import BSN, World, challenge_in, converse, problem, world

_CHROMIUM = Path("/usr/bin/chromium")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@contextmanager
def _running(folder: Path) -> Iterator[tuple[World, asyncio.AbstractEventLoop]]:
    """A world in a thread of its own, since playwright has this one."""
    loop = asyncio.new_event_loop()
    ready: list[World] = []
    started, stop = threading.Event(), asyncio.Event()

    async def run() -> None:
        try:
            async with world(folder) as here:
                ready.append(here)
                started.set()
                await stop.wait()
        finally:
            started.set()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        assert started.wait(20)
        yield ready[0], loop
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


@pytest.mark.browser
def test_a_resident_makes_a_passkey_with_a_code_and_logs_in_with_it(folder: Path) -> None:
    if not _CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {_CHROMIUM}")
    from playwright.sync_api import expect, sync_playwright

    with _running(folder) as (here, loop), sync_playwright() as playwright:
        code = asyncio.run_coroutine_threadsafe(
            here.provider.enrol_resident(name="Noor van Dalmeer", burgerservicenummer=BSN, level="substantial"), loop
        ).result(20)
        chromium = playwright.chromium.launch(executable_path=str(_CHROMIUM), args=_ARGUMENTS)
        page = chromium.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        devtools = page.context.new_cdp_session(page)
        devtools.send("WebAuthn.enable")
        authenticator = devtools.send(
            "WebAuthn.addVirtualAuthenticator",
            {
                "options": {
                    "protocol": "ctap2",
                    "transport": "internal",
                    "hasResidentKey": True,
                    "hasUserVerification": True,
                    "isUserVerified": True,
                    "automaticPresenceSimulation": True,
                }
            },
        )["authenticatorId"]

        page.goto(f"{here.issuer}/activate")
        page.fill("[name=code]", code)
        page.click("text=Verder")
        expect(page.locator("[data-passkey-absent]")).to_be_hidden()
        page.click("[data-passkey-start]")
        page.wait_for_url("**/activate?done=1")

        # The code is used up: it opens nothing any more.
        page.goto(f"{here.issuer}/activate")
        page.fill("[name=code]", code)
        page.click("text=Verder")
        expect(page.locator("#problem")).to_contain_text("klopt niet")

        page.goto(f"{here.issuer}/begin")
        page.click("[data-passkey-start]")
        page.wait_for_url(f"{here.issuer}/")
        seen = page.evaluate("async () => (await fetch('/')).json()")
        assert (seen["level"], seen["bsn"]) == ("substantial", BSN)

        # Without the person's own gesture (PIN, finger) there is no login.
        devtools.send("WebAuthn.setUserVerified", {"authenticatorId": authenticator, "isUserVerified": False})
        page.goto(f"{here.issuer}/begin?again=1")
        page.click("[data-passkey-start]")
        expect(page.locator("[data-passkey-failed]")).to_be_visible()

        # A passkey that nobody here knows is refused, in words.
        devtools.send("WebAuthn.setUserVerified", {"authenticatorId": authenticator, "isUserVerified": True})
        with here.database.read() as connection:
            assert connection.exec_driver_sql("select count(*) from identity_passkeys").scalar_one() == 1
        here.database.write_now(lambda connection: connection.exec_driver_sql("delete from identity_passkeys"))
        page.goto(f"{here.issuer}/begin?again=1")
        page.click("[data-passkey-start]")
        expect(page.locator("[data-passkey-failed]")).to_contain_text("herkennen we niet")
        assert faults == []
        chromium.close()


def test_nonsense_from_a_browser_is_no_passkey(folder: Path) -> None:
    async def conversation(here: World) -> None:
        challenge = challenge_in(await here.authorize())
        body = {"challenge": challenge, "credential": {"id": "AAAA", "rawId": "AAAA", "type": "public-key"}}
        address = f"{here.issuer}/login/passkey"
        early = await here.browser.post(f"{address}/verify", json=body)
        assert (early.status_code, early.json()["problem"]) == (422, "challenge-over")
        options = (await here.browser.post(f"{address}/options", json={"challenge": challenge})).json()
        assert (options["rpId"], options["userVerification"]) == ("localhost", "required")
        answer = await here.browser.post(f"{address}/verify", json=body)
        assert (answer.status_code, answer.json()["problem"]) == (422, "passkey-refused")

    converse(folder, conversation)


def test_a_registration_without_a_right_code_is_refused(folder: Path) -> None:
    async def conversation(here: World) -> None:
        await here.browser.get(f"{here.issuer}/activate")
        for end in ("options", "verify"):
            answer = await here.browser.post(
                f"{here.issuer}/activate/passkey/{end}", json={"challenge": "x" * 43, "credential": {}}
            )
            assert (answer.status_code, answer.json()["problem"]) == (410, "challenge-over")

    converse(folder, conversation)


def test_nonsense_at_registration_leaves_the_code_alive(folder: Path) -> None:
    async def conversation(here: World) -> None:
        from identity_site import hidden

        code = await here.provider.enrol_resident(name="Noor", burgerservicenummer=BSN, level="low")
        token = hidden(await here.browser.get(f"{here.issuer}/activate"), "form_token")
        page = await here.browser.post(f"{here.issuer}/activate", data={"form_token": token, "code": code})
        ceremony = page.text.partition('data-challenge="')[2].partition('"')[0]
        address = f"{here.issuer}/activate/passkey"
        options = await here.browser.post(f"{address}/options", json={"challenge": ceremony})
        assert BSN not in options.text
        wrong = {"id": "AAAA", "rawId": "AAAA", "type": "public-key", "response": {"clientDataJSON": "e30"}}
        answer = await here.browser.post(f"{address}/verify", json={"challenge": ceremony, "credential": wrong})
        assert (answer.status_code, answer.json()["problem"]) == (422, "passkey-refused")
        again = await here.browser.post(f"{here.issuer}/activate", data={"form_token": token, "code": code})
        assert 'data-passkey="register"' in again.text

    converse(folder, conversation)


def test_the_login_page_without_a_login_says_so(folder: Path) -> None:
    async def conversation(here: World) -> None:
        assert problem(await here.browser.get(f"{here.issuer}/login")) == "other-browser"
        await here.authorize()
        assert problem(await here.browser.get(f"{here.issuer}/login?challenge=x")) == "challenge-over"

    converse(folder, conversation)

"""Logging in on a site of ours: what the portal does with a `RelyingParty`, cookies and sessions.

A login is bound to the browser that began it, the answer is taken once, and the session that follows has a new id.
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.errors import BadGateway
from stelsel.identity.assurance import Level
from stelsel.identity.faults import LoginRefused
from stelsel.identity.keys import Vault
from stelsel.identity.relying_party import Identity, Pending, RelyingParty
from stelsel.identity.sessions import Cookie, Sessions, new_secret
from stelsel.identity.store import Store
from stelsel.identity.throttle import Throttle

_AWAY = 1800.0
"""Seconds that somebody may be away to log in."""


class SiteLogin:
    """Sessions of the visitors of one site. `base_url` is the site's address as browsers reach it."""

    def __init__(
        self,
        *,
        relying_party: RelyingParty,
        database: Database,
        folder: Path,
        clock: Clock,
        base_url: str,
        idle: float = 1800,
        absolute: float = 28_800,
    ) -> None:
        vault = Vault.open(folder)
        self._party, self._database, self._clock, self._vault = relying_party, database, clock, vault
        self._store = Store(vault)
        self._browser = Cookie("visitor", base_url)
        self._begun = Throttle(burst=2000, rate=500)
        self._sessions = Sessions(database, vault, clock, Cookie("portal", base_url), idle=idle, absolute=absolute)

    async def begin(
        self, request: Request, *, back: str = "/", level: Level = "low", wants_bsn: bool = False, again: bool = False
    ) -> Response:
        """Send the browser to the provider; afterwards it comes to `back`, a path on this site.

        Raises `TooMany`, `BadGateway`.
        """
        self._begun.spend("begin", self._clock.now())
        address, pending = await self._party.begin(level=level, wants_bsn=wants_bsn, again=again)
        browser, now = self._browser.read(request) or new_secret(), self._clock.now()
        kept = {"pending": pending.to_json(), "back": own_path(back), "browser": self._hashed(browser)}
        await self._database.write(
            lambda connection: self._store.put(connection, "started", pending.state, kept, now + _AWAY)
        )
        response = RedirectResponse(address, status_code=303, headers={"Cache-Control": "no-store"})
        self._browser.set(response, browser)
        return response

    async def finish(self, request: Request) -> Response:
        """The provider sent the browser back: begin a session and go on to where the visitor wanted to be.

        Raises `LoginCancelled` (show it calmly), `LoginRefused`, `BadGateway`.
        """
        query, now = dict(request.query_params), self._clock.now()
        kept = await self._database.write(
            lambda connection: self._store.take(connection, "started", query.get("state", ""), now)
        )
        browser = self._browser.read(request)
        if kept is None or browser is None or not hmac.compare_digest(kept["browser"], self._hashed(browser)):
            raise LoginRefused(
                "this login was finished before, took too long, or began in another browser", next_step="log in again"
            )
        identity = await self._party.finish(query, Pending(**kept["pending"]))
        response = RedirectResponse(kept["back"], status_code=303, headers={"Cache-Control": "no-store"})
        await self._sessions.begin(request, response, identity.to_json())
        return response

    async def identity(self, request: Request) -> Identity | None:
        """Who this visitor is, or None."""
        value = await self._sessions.value(request)
        return None if value is None else Identity.from_json(value)

    def form_token(self, request: Request) -> str:
        """What a form on this site must send along (CSRF); empty when the browser has no cookie of ours yet."""
        browser = self._browser.read(request)
        return "" if browser is None else self._vault.hashed("form", browser)

    def form_is_ours(self, request: Request, form_token: str) -> bool:
        """Whether a posted form came from a page that this browser was given."""
        expected = self.form_token(request)
        return expected != "" and hmac.compare_digest(expected.encode(), form_token.encode())

    async def end(self, request: Request, *, return_to: str) -> Response:
        """Log out here, and send the browser to log out at the provider; it comes back to `return_to`.

        `return_to` is a full address that the client registered at the provider.
        """
        identity = await self.identity(request)
        address = None
        with suppress(BadGateway):  # a provider that is down must not keep anybody logged in here
            address = await self._party.logout_address(identity, return_to) if identity is not None else None
        response = RedirectResponse(address or return_to, status_code=303, headers={"Cache-Control": "no-store"})
        await self._sessions.end(request, response)
        return response

    def _hashed(self, browser: str) -> str:
        return self._vault.hashed("browser", browser)


def own_path(back: str) -> str:
    """`back` when it is a path on this very site, else `/`: nobody is sent elsewhere by a link to us."""
    parts = urlsplit(back)
    plain = back.startswith("/") and not back.startswith(("//", "/\\")) and back.isascii() and back.isprintable()
    return back if plain and not parts.scheme and not parts.netloc and len(back) <= 500 else "/"

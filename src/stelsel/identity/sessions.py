"""Sessions of browsers: an opaque random id in a cookie, everything else on the server, sealed.

Both sides use it: the provider remembers who logged in, a site remembers who its visitor is. A session id is made when
somebody logs in, never taken from the browser (no session fixation), and is never stored as it is.
"""

from __future__ import annotations

import ipaddress
import secrets
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.errors import ConfigurationFault
from stelsel.identity.keys import Vault
from stelsel.identity.store import Store

_NOTE_EVERY = 60.0
"""Seconds between writes of "seen": a read of a session is not a write."""


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine only."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Cookie:
    """One cookie of one site: HttpOnly, SameSite=Lax, and Secure with `__Host-` unless the site is on loopback.

    Cookies do not tell ports apart, so on loopback the port is in the name: nodes on one machine stay apart.
    """

    def __init__(self, name: str, base_url: str) -> None:
        address = urlsplit(base_url)
        self.secure = address.scheme == "https"
        if not self.secure and not is_loopback(base_url):
            raise ConfigurationFault(
                "a site where people log in must have an https address", next_step="give it one, or use localhost"
            )
        self.name = f"__Host-stelsel-{name}" if self.secure else f"stelsel-{name}-{address.port or 80}"

    def read(self, request: Request) -> str | None:
        """What the browser sent, when it can be one of ours."""
        value = request.cookies.get(self.name, "")
        return value if 40 <= len(value) <= 64 and value.isascii() else None

    def set(self, response: Response, value: str) -> None:
        """Give the browser the cookie, for as long as it runs."""
        response.set_cookie(self.name, value, path="/", secure=self.secure, httponly=True, samesite="lax")

    def clear(self, response: Response) -> None:
        """Take the cookie away."""
        response.delete_cookie(self.name, path="/", secure=self.secure, httponly=True, samesite="lax")


def new_secret() -> str:
    """A new random id: 256 bits, 43 characters of base64url."""
    return secrets.token_urlsafe(32)


class Sessions:
    """The sessions of one site for one purpose. `idle` and `absolute` are in seconds."""

    def __init__(
        self, database: Database, vault: Vault, clock: Clock, cookie: Cookie, *, idle: float, absolute: float
    ) -> None:
        self._database, self._store, self._clock = database, Store(vault), clock
        self._cookie, self._idle, self._absolute = cookie, idle, absolute

    async def begin(self, request: Request, response: Response, value: dict[str, Any]) -> None:
        """Begin a session with a new id; the one that this browser had here ends."""
        before, fresh, now = self._cookie.read(request), new_secret(), self._clock.now()

        def write(connection: Any) -> None:
            if before is not None:
                self._store.end_session(connection, self._key(before))
            self._store.add_session(connection, self._key(fresh), value, now, self._idle, now + self._absolute)

        await self._database.write(write)
        self._cookie.set(response, fresh)

    async def value(self, request: Request) -> dict[str, Any] | None:
        """What the session of this browser holds, or None when it has none that lives."""
        token = self._cookie.read(request)
        if token is None:
            return None
        now, key = self._clock.now(), self._key(token)
        with self._database.read() as connection:
            found = self._store.session(connection, key, now)
        if found is None:
            return None
        value, seen = found
        if now - seen >= min(_NOTE_EVERY, self._idle / 4):
            await self._database.write(lambda connection: self._store.touch_session(connection, key, now, self._idle))
        return value

    async def end(self, request: Request, response: Response) -> None:
        """End the session of this browser, if it has one."""
        token = self._cookie.read(request)
        if token is not None:
            await self._database.write(lambda connection: self._store.end_session(connection, self._key(token)))
        self._cookie.clear(response)

    def _key(self, token: str) -> str:
        return f"{self._cookie.name}\0{token}"

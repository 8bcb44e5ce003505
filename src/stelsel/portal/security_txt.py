"""Where to report a leak: `/.well-known/security.txt` (RFC 9116)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from stelsel.base.clock import Clock, moment

PATH = "/.well-known/security.txt"
_VALID = 180 * 86_400  # seconds; RFC 9116 2.5.5 recommends less than a year
_DAY = 86_400


def route(address: str, contact: str, clock: Clock) -> BaseRoute:
    """The file of the site at `address`; it expires half a year from now, whenever it is asked."""

    async def answer(request: Request) -> Response:
        del request
        expires = (clock.now() + _VALID) // _DAY * _DAY
        lines = (
            f"Contact: {contact}",
            f"Expires: {moment(expires)}",
            "Preferred-Languages: nl, en",
            f"Canonical: {address}{PATH}",
        )
        return PlainTextResponse("\n".join(lines) + "\n")

    return Route(PATH, answer)

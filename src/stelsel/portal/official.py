"""The pages of the official: the agreements of this organisation, what they ask, and what was exchanged under them.

Only an official of this very organisation who has the role `agreements` sees them. Whoever is not logged in gets a
calm page with the way in.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from stelsel.agreements.agreement import State
from stelsel.agreements.managing import compare, on_radar
from stelsel.agreements.stored import StoredContract
from stelsel.base.canonical import parse_object
from stelsel.base.errors import BadRequest, Conflict, Fault, Forbidden, NotFound
from stelsel.ledger.query import Query
from stelsel.portal.contract_views import Pair, detail, groups, row, tail_of
from stelsel.portal.forms import read_form
from stelsel.portal.log_views import lines
from stelsel.portal.managing_views import difference_view, objection_lines, radar_line
from stelsel.portal.pages import language_of
from stelsel.steering.gate import read_limited

if TYPE_CHECKING:
    from stelsel.portal.service import Portal

ROLE = "agreements"
"""The role that an official needs for these pages."""

_TAIL = re.compile(r"[A-Za-z0-9_-]{8,128}")
_WEB_ADDRESS = re.compile(r"https?://[A-Za-z0-9.:\[\]-]{1,255}/?")
_MAXIMUM_ANSWER = 16 * 1024
_PATIENCE = 2.0
_PAGE = 50
_MOST_SHOWN = 200
_LONGEST_NUMBER = 15
_RADAR_DAYS = 90
_MOST_ON_RADAR = 20
_WORDS = {"aanvaarden": "accept", "afwijzen": "reject", "intrekken": "revoke", "opnieuw": "resend"}
_DONE: dict[str, Pair] = {
    "aanvaarden": ("U hebt de afspraak aanvaard.", "You accepted the agreement."),
    "afwijzen": ("U hebt de afspraak afgewezen.", "You rejected the agreement."),
    "intrekken": (
        "U hebt de afspraak ingetrokken. Vanaf nu wordt elke vraag geweigerd.",
        "You revoked the agreement. From now on every request is refused.",
    ),
    "opnieuw": ("Het wordt opnieuw verstuurd.", "It is being sent again."),
}

Page = Callable[[Request], Awaitable[Response]]


def routes(portal: Portal) -> list[BaseRoute]:
    """The pages for officials."""
    pages = _Official(portal)
    return [
        Route("/afspraken", pages.guarded(pages.listing)),
        Route("/afspraken/{tail}", pages.guarded(pages.one)),
        Route("/afspraken/{tail}/intrekken", pages.guarded(pages.confirm), methods=["GET"]),
        Route("/afspraken/{tail}/{action}", pages.guarded(pages.act), methods=["POST"]),
        Route("/vastleggingen", pages.guarded(pages.log)),
    ]


class _Official:
    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._steward_address = ""

    def guarded(self, page: Page) -> Page:
        """`page`, for an official of this organisation with the role; a way in for others."""

        async def guard(request: Request) -> Response:
            portal = self._portal
            official = await portal.official(request)
            if official is None:
                elsewhere = await portal.login.identity(request) is not None
                response = await portal.page(
                    request,
                    "official_login.html",
                    title=("Log in als medewerker", "Log in as an official"),
                    back=request.url.path if request.method == "GET" else "/afspraken",
                    elsewhere=elsewhere,
                )
                response.status_code = 403 if elsewhere else 401
                response.headers["Cache-Control"] = "no-store"
                return response
            if ROLE not in official.roles:
                raise Forbidden(
                    "Seeing and signing agreements takes a role that you do not have.",
                    next_step=f"ask your organisation for the role '{ROLE}'",
                    detail_nl="Afspraken bekijken en tekenen mag alleen wie daarvoor is aangewezen.",
                )
            return await page(request)

        return guard

    async def listing(self, request: Request) -> Response:
        portal = self._portal
        names, now = portal.agreements.peer_names(), portal.clock.now()
        every = portal.agreements.contracts()
        ending = await on_radar(portal.agreements, portal.anchors, now, days=_RADAR_DAYS)
        return await portal.page(
            request,
            "agreements.html",
            title=("Afspraken", "Agreements"),
            groups=groups(every[:_MOST_SHOWN], portal.peer_id, names, now),
            left_out=max(0, len(every) - _MOST_SHOWN),
            radar=[radar_line(item, now) for item in ending[:_MOST_ON_RADAR]],
            radar_days=_RADAR_DAYS,
            radar_left_out=max(0, len(ending) - _MOST_ON_RADAR),
        )

    async def one(self, request: Request) -> Response:
        portal = self._portal
        stored = self._find(request)
        names, now = portal.agreements.peer_names(), portal.clock.now()
        shown = detail(stored, portal.peer_id, names, language_of(request), now)
        done = request.query_params.get("gedaan", "")
        differences, objections = [], ()
        if stored.state is State.PROPOSED:
            differences = [difference_view(one) for one in await compare(portal.agreements, stored.content_hash, now)]
            objections = objection_lines(portal.agreements.verdict(stored.content_hash))
        return await portal.page(
            request,
            "agreement.html",
            title=shown.row.heading,
            shown=shown,
            differences=differences,
            objections=objections,
            done=_DONE[done] if done in _DONE and self._did(stored, _WORDS[done]) else None,
            form_token=portal.login.form_token(request),
            steward=await self._steward() if any(message.evidence for message in shown.messages) else "",
        )

    async def confirm(self, request: Request) -> Response:
        portal = self._portal
        stored = self._find(request)
        names, now = portal.agreements.peer_names(), portal.clock.now()
        shown = detail(stored, portal.peer_id, names, language_of(request), now)
        if "revoke" not in shown.can:
            raise Conflict(
                "This agreement cannot be revoked: it is over, or this organisation did not sign it.",
                detail_nl="Deze afspraak kan niet worden ingetrokken: zij is voorbij, of wij tekenden haar niet.",
            )
        return await portal.page(
            request,
            "agreement_revoke.html",
            title=("Afspraak intrekken", "Revoke the agreement"),
            row=row(stored, names, now),
            form_token=portal.login.form_token(request),
        )

    async def act(self, request: Request) -> Response:
        portal = self._portal
        action = request.path_params["action"]
        if action not in _WORDS:
            raise NotFound("There is no such action.", next_step="go back to the agreement")
        await read_form(request, portal.login)
        stored = self._find(request)
        change = {
            "accept": portal.agreements.accept,
            "reject": portal.agreements.reject,
            "revoke": portal.agreements.revoke,
            "resend": portal.agreements.resend,
        }[_WORDS[action]]
        await change(stored.content_hash)
        return RedirectResponse(
            f"/afspraken/{tail_of(stored.content_hash)}?gedaan={action}",
            status_code=303,
            headers={"Cache-Control": "no-store"},
        )

    async def log(self, request: Request) -> Response:
        portal = self._portal
        after = request.query_params.get("na")
        if after is not None and not (after.isascii() and after.isdigit() and len(after) <= _LONGEST_NUMBER):
            raise BadRequest("'na' must be the number of a record", next_step="begin again with the newest")
        query = Query(after_index=int(after) if after is not None else None, limit=_PAGE + 1)
        found = await portal.ledger.find(query)
        entries = found[:_PAGE]
        return await portal.page(
            request,
            "log.html",
            title=("Vastleggingen", "Log of exchanges"),
            lines=lines(entries, portal.agreements.peer_names(), portal.agreements.agreement),
            older=entries[-1].index if len(found) > _PAGE else None,
            first=after is None,
        )

    async def _steward(self) -> str:
        """Address of the website of who steers, where findings can be read; empty while that is not known."""
        portal = self._portal
        if portal.steering is not None:
            return portal.web_address
        if not self._steward_address:
            group = portal.agreements.group
            with suppress(Fault, httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, ValueError):
                async with asyncio.timeout(_PATIENCE):
                    client = await portal.agreements.peer_client(group.directory_peer_id)
                    async with client.stream("GET", f"{group.directory_address}/stelsel/v1/node") as answer:
                        told = parse_object(await read_limited(answer, _MAXIMUM_ANSWER))
                address = told.get("web_address")
                if answer.status_code == 200 and isinstance(address, str) and _WEB_ADDRESS.fullmatch(address):
                    self._steward_address = address.rstrip("/")
        return self._steward_address

    def _did(self, stored: StoredContract, kind: str) -> bool:
        """Whether this organisation did that: its signature is on the contract, or nothing we sent is refused."""
        if kind == "resend":
            return bool(stored.deliveries) and not stored.refused_by
        return any(one.peer_id == self._portal.peer_id and one.type == kind for one in stored.signatures)

    def _find(self, request: Request) -> StoredContract:
        """The contract whose hash ends in the tail of the address, or begins it. Raises `NotFound`."""
        tail = request.path_params["tail"]
        if _TAIL.fullmatch(tail):
            found = [
                stored
                for stored in self._portal.agreements.contracts()
                if tail_of(stored.content_hash).startswith(tail)
            ]
            if len(found) == 1:
                return found[0]
        raise NotFound("There is no agreement with this hash here.", next_step="choose one from the list")

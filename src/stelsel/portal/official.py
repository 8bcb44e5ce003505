"""The pages of the official: the agreements of this organisation, what they ask, and what was exchanged under them.

Only an official of this very organisation who has the role `agreements` sees them. Whoever is not logged in gets a
calm page with the way in.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from stelsel.agreements.agreement import State
from stelsel.agreements.managing import compare, on_radar, propose_renewal, waiting_renewal, what_follows_now
from stelsel.agreements.renewal import LONGEST
from stelsel.agreements.stored import StoredContract
from stelsel.base.canonical import parse_object
from stelsel.base.errors import BadRequest, Conflict, Fault, Forbidden, NotFound, Unavailable
from stelsel.exchange.simulation import Event, certificate_expiry, field_gone, revocation
from stelsel.exchange.uses import foresee
from stelsel.ledger.query import Query
from stelsel.portal.contract_views import Pair, detail, groups, row, shown_time, tail_of
from stelsel.portal.forms import read_form
from stelsel.portal.log_views import lines
from stelsel.portal.managing_views import (
    ForeseenView,
    ObservationLine,
    RenewalView,
    difference_view,
    fields_of,
    foreseen_view,
    objection_lines,
    observation_line,
    radar_line,
    renewal_view,
)
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
_LOOK_BACK = 30
"""Days of the log by which is judged what would stop."""
_FRESH = 15.0
"""Seconds for which what was seen of the node is shown again."""
_DAYS = re.compile(r"[0-9]{1,5}")
_WORDS = {"aanvaarden": "accept", "afwijzen": "reject", "intrekken": "revoke", "opnieuw": "resend"}
_RENEWED = "verlengen"
_WRONG_DAYS: Pair = (
    f"Vul een heel getal in van 1 tot en met {LONGEST}.",
    f"Fill in a whole number from 1 to {LONGEST}.",
)
_DONE: dict[str, Pair] = {
    "aanvaarden": ("U hebt de afspraak aanvaard.", "You accepted the agreement."),
    "afwijzen": ("U hebt de afspraak afgewezen.", "You rejected the agreement."),
    "intrekken": (
        "U hebt de afspraak ingetrokken. Vanaf nu wordt elke vraag geweigerd.",
        "You revoked the agreement. From now on every request is refused.",
    ),
    _RENEWED: (
        "U hebt de verlenging voorgesteld en getekend. Dit is het nieuwe voorstel.",
        "You proposed the renewal and signed it. This is the new proposal.",
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
        Route("/afspraken/{tail}/gevolgen", pages.guarded(pages.effects), methods=["GET"]),
        Route("/afspraken/{tail}/verlengen", pages.guarded(pages.renew), methods=["POST"]),
        Route("/afspraken/{tail}/{action}", pages.guarded(pages.act), methods=["POST"]),
        *([Route("/knooppunt", pages.guarded(pages.health))] if portal.doctor is not None else []),
        Route("/vastleggingen", pages.guarded(pages.log)),
    ]


class _Official:
    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._steward_address = ""
        self._examining = asyncio.Lock()
        self._examined: tuple[float, tuple[ObservationLine, ...]] = (-_FRESH, ())

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
            health=portal.doctor is not None,
            radar_days=_RADAR_DAYS,
            radar_left_out=max(0, len(ending) - _MOST_ON_RADAR),
        )

    async def one(self, request: Request) -> Response:
        return await self._one(request, self._find(request))

    async def _one(self, request: Request, stored: StoredContract, filled_in: str = "", **more: Any) -> Response:
        """The page of one agreement. `filled_in`: days that cannot be, to be mended in the form for renewal."""
        portal = self._portal
        names, now = portal.agreements.peer_names(), portal.clock.now()
        shown = detail(stored, portal.peer_id, names, language_of(request), now)
        done, follows = await self._done(request, stored, now)
        proposed = stored.state is State.PROPOSED
        changes = await compare(portal.agreements, stored.content_hash, now) if proposed else ()
        return await portal.page(
            request,
            "agreement.html",
            title=shown.row.heading,
            shown=shown,
            differences=[difference_view(change) for change in changes],
            objections=objection_lines(portal.agreements.verdict(stored.content_hash)) if proposed else (),
            renewal=self._renewal(stored, filled_in),
            done=done,
            follows=follows,
            form_token=portal.login.form_token(request),
            steward=await self._steward() if any(message.evidence for message in shown.messages) else "",
            **more,
        )

    def _renewal(self, stored: StoredContract, filled_in: str) -> RenewalView | None:
        """The form with which this can be proposed anew; None where there is nothing for us to renew."""
        ours = self._portal.peer_id in stored.contract.signatories
        if not ours or stored.state not in {State.VALID, State.EXPIRED}:
            return None
        waiting = waiting_renewal(stored, self._portal.agreements.contracts(state=State.PROPOSED))
        return renewal_view(stored, waiting, filled_in, _WRONG_DAYS if filled_in else None)

    async def _done(self, request: Request, stored: StoredContract, now: float) -> tuple[Pair | None, list[Pair]]:
        """What was done just now, if that is so, and what follows from it."""
        done = request.query_params.get("gedaan", "")
        if done == _RENEWED:
            if stored.proposed_by != self._portal.peer_id or stored.state is not State.PROPOSED:
                return None, []
            follows = await what_follows_now(self._portal.agreements, stored.content_hash, now)
            return _DONE[done], [(said.nl, said.en) for said in follows]
        return (_DONE[done] if done in _WORDS and self._did(stored, _WORDS[done]) else None), []

    async def renew(self, request: Request) -> Response:
        portal = self._portal
        form = await read_form(request, portal.login)
        stored = self._find(request)
        days = form.get("dagen", "").strip()
        if not _DAYS.fullmatch(days) or not 1 <= int(days) <= LONGEST:
            here = f"/afspraken/{tail_of(stored.content_hash)}"
            return await self._one(request, stored, days or " ", status=422, here=here)
        renewed = await propose_renewal(portal.agreements, stored.content_hash, portal.clock.now(), days=int(days))
        return RedirectResponse(
            f"/afspraken/{tail_of(renewed.content_hash)}?gedaan={_RENEWED}",
            status_code=303,
            headers={"Cache-Control": "no-store"},
        )

    async def effects(self, request: Request) -> Response:
        """What would stop if something changed: a simulation, nothing is done."""
        portal = self._portal
        stored = self._find(request)
        names, now = portal.agreements.peer_names(), portal.clock.now()
        chosen, fields = request.query_params.get("wat", "intrekken"), fields_of(stored)
        field = next((one for one in fields if chosen == f"zonder:{one.path}"), None)
        if field is not None:
            event = field_gone(stored, field.path, now)
            heading = (f"Als ‘{field.said[0]}’ eruit gaat", f"If ‘{field.said[1]}’ goes")
        elif chosen == "certificaat":
            event = certificate_expiry(stored, portal.agreements.contracts(), now)
            heading = ("Als het certificaat verloopt", "If the certificate ends")
        elif chosen == "intrekken":
            event = revocation(stored, now)
            heading = ("Als wij de afspraak intrekken", "If we revoke the agreement")
        else:
            raise BadRequest("that cannot be simulated here", next_step="choose from the list")
        return await portal.page(
            request,
            "agreement_effects.html",
            title=("Wat gebeurt er als er iets verandert?", "What happens if something changes?"),
            row=row(stored, names, now),
            fields=fields,
            chosen=chosen,
            heading=heading,
            at=shown_time(event.at) if event.at > now else 0,
            foreseen=await self._foresee(event, now),
            days=_LOOK_BACK,
        )

    async def _foresee(self, event: Event, now: float) -> ForeseenView | None:
        """What would become of the flows; None while the ledger cannot say. That must not keep anyone from revoking."""
        portal = self._portal
        try:
            foreseen = await foresee(portal.agreements, portal.ledger, event, now, _LOOK_BACK)
        except Unavailable:
            return None
        return foreseen_view(foreseen, portal.agreements.peer_names(), portal.agreements.agreement)

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
            foreseen=await self._foresee(revocation(stored, now), now),
            days=_LOOK_BACK,
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

    async def health(self, request: Request) -> Response:
        """Whether our node is well, as it sees itself. Asks peers, so what was seen is shown for a while."""
        portal = self._portal
        if portal.doctor is None:
            raise NotFound("This node does not examine itself here.")
        async with self._examining:
            at, seen = self._examined
            if not 0 <= portal.clock.now() - at < _FRESH:
                seen = tuple(observation_line(one) for one in await portal.doctor())
                at = portal.clock.now()
                self._examined = at, seen
        return await portal.page(
            request,
            "health.html",
            title=("Is ons knooppunt gezond?", "Is our node well?"),
            seen=sorted(seen, key=lambda line: line.order),
            troubles=sum(line.order == 0 for line in seen),
            at=at,
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

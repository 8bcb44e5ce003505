"""The resident's pages: who used which of her data and why, and the proof of it (GDPR article 15)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from stelsel.base.certificates import TrustAnchors
from stelsel.base.errors import BadGateway, BadRequest, NotFound
from stelsel.identity.relying_party import Identity
from stelsel.ledger import receipts
from stelsel.ledger.faults import ProofInvalid
from stelsel.portal import timeline, trust
from stelsel.portal.forms import read_form
from stelsel.portal.sources import Answer, Source, Sources
from stelsel.privacy.uses import Use

if TYPE_CHECKING:
    from stelsel.portal.service import Portal

PATH = "/mijn-gegevens"
_TITLE = ("Mijn gegevens", "My data")
_LARGEST_NUMBER = 16  # digits; 2^53 has as many


def routes(portal: Portal) -> list[BaseRoute]:
    """The pages for residents: the list, older rows of one source, and a receipt as a file."""
    pages = _Pages(portal)
    return [
        Route(PATH, pages.uses),
        Route(f"{PATH}/ouder", pages.older, methods=["POST"]),
        Route(f"{PATH}/bewijs", pages.receipt, methods=["POST"]),
    ]


class _Pages:
    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._sources = Sources(portal.agreements, portal.outway, portal.http)

    async def uses(self, request: Request) -> Response:
        number = await self._number(request)
        if number is None:
            return await self._welcome(request)
        now = self._portal.clock.now()
        answers = await self._sources.uses(number, now)
        query = request.query_params
        return await self._show(
            request,
            answers,
            organisation=query.get("organisatie", ""),
            refused_only="geweigerd" in query,
            absent=self._sources.absent(now),
        )

    async def older(self, request: Request) -> Response:
        number = await self._number(request)
        if number is None:
            return RedirectResponse(PATH, status_code=303)
        form = await read_form(request, self._portal.login)
        source = self._source(form)
        answer = await self._sources.page_of(source, number, before=_index(form))
        return await self._show(request, [answer], older_of=source)

    async def receipt(self, request: Request) -> Response:
        number = await self._number(request)
        if number is None:
            return RedirectResponse(PATH, status_code=303)
        form = await read_form(request, self._portal.login)
        source, index = self._source(form), _index(form)
        receipt = await self._sources.receipt(source, number, index)
        try:
            anchors = TrustAnchors.load(self._portal.agreements.group.trust_anchors)
            proven = receipts.verify(receipt, anchors, self._portal.clock.now())
        except ProofInvalid as error:
            raise BadGateway("the receipt that the source gave does not hold", next_step="tell the source") from error
        if (proven.peer_id, proven.index) != (source.peer_id, index):
            raise BadGateway("the source gave the receipt of something else", next_step="tell the source")
        return Response(
            receipts.write(receipt),
            media_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="bewijs-{index}.json"', "Cache-Control": "no-store"},
        )

    async def _number(self, request: Request) -> str | None:
        identity: Identity | None = await self._portal.resident(request)
        return identity.burgerservicenummer if identity is not None else None

    def _source(self, form: dict[str, str]) -> Source:
        for source in self._sources.all(self._portal.clock.now()):
            if source.peer_id == form.get("source"):
                return source
        raise NotFound("there is no such source", next_step="open the page again: its agreement may have ended")

    async def _welcome(self, request: Request) -> Response:
        other = await self._portal.login.identity(request) is not None
        response = await self._portal.page(request, "resident_welcome.html", title=_TITLE, other=other)
        if other:
            response.status_code = 403
        return response

    async def _show(
        self,
        request: Request,
        answers: list[Answer],
        *,
        organisation: str = "",
        refused_only: bool = False,
        absent: list[str] | None = None,
        older_of: Source | None = None,
    ) -> Response:
        names = self._portal.agreements.peer_names()

        def name_of(use: Use, peer_id: str) -> str:
            """The directory knows organisations better than one of them does."""
            said = use.consumer_name if peer_id == use.consumer else use.provider_name
            return names.get(peer_id) or said or peer_id

        lines = timeline.merge(answers)
        uses = timeline.of_kind(lines, "use")
        return await self._portal.page(
            request,
            "resident.html",
            title=_TITLE,
            here=PATH if older_of is not None else "",
            answers=answers,
            lines=timeline.chosen(uses, organisation, refused_only=refused_only),
            uses=uses,
            looks=timeline.of_kind(lines, "insight"),
            askers=timeline.askers(uses),
            organisations=timeline.organisations(uses, name_of),
            wanted=organisation,
            refused_only=refused_only,
            absent=absent or [],
            older_of=older_of,
            name_of=name_of,
            form_token=self._portal.login.form_token(request),
            anchors_path=trust.PATH,
        )


def _index(form: dict[str, str]) -> int:
    text = form.get("index", "")
    if not text.isascii() or not text.isdigit() or len(text) > _LARGEST_NUMBER:
        raise BadRequest("say which record: `index` is a whole number")
    return int(text)

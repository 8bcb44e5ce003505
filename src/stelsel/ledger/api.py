"""HTTP: the transaction log for peers that took part (FSC Logging 1.1.0), and public evidence.

**What `/logs` shows.** One log record for each transaction and direction, of the request, under an agreement, however
many residents the exchange is about; whether it was allowed or refused, and why, is in `additional_data`, since a
refused call is what an audit asks about first.
Requests that were refused without any agreement are not shown: every log record must name a grant.
A requester sees only transactions in which it is source, destination or delegator.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from stelsel.agreements.api import fsc_response
from stelsel.agreements.dialect import USUAL, Dialect
from stelsel.base.errors import BadRequest, Fault, NotFound, TooMany
from stelsel.base.web import client_certificate
from stelsel.ledger.query import LogQuery
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger

_DEFAULT_LIMIT, _MAXIMUM_LIMIT = 25, 1000
_LONGEST_ITEM = 1024
_MOST_ITEMS = 1000
_LARGEST = 2**53 - 1
_STREAMS = 2
"""Evidence being sent at one moment, at most: it reads the whole journal."""


def routes(
    ledger: Ledger, additional_data: Callable[[str], dict[str, Any]] | None = None, dialect: Dialect = USUAL
) -> list[BaseRoute]:
    """The routes for the manager, behind mutual TLS: `GET /v1/logs`.

    `additional_data(grant hash)` is what belongs in each log record under a grant (External Contract Reference 3.2);
    the grant hash, which is in the record, is over that very text.
    """

    async def found(request: Request) -> Response:
        peer = client_certificate(request).peer_id
        query = _log_query(request, peer)
        entries = await ledger.transactions(query)
        more = bool(entries) and not query.transaction_ids and dialect.tells_cursor(more=len(entries) == query.limit)
        data = additional_data or (lambda _: {})
        return JSONResponse(
            {
                "records": [log_record(entry.record, data(entry.record.grant_hash)) for entry in entries],
                "pagination": {"next_cursor": str(entries[-1].index) if more else ""},
            }
        )

    async def logs(request: Request) -> Response:
        try:
            return await found(request)
        except Fault as fault:
            return fsc_response(fault, dialect)  # the form of errors at a manager (FSC Core 4.4.5.2)

    return [Route("/v1/logs", logs, methods=["GET"])]


def public_routes(ledger: Ledger) -> list[BaseRoute]:
    """Evidence for anyone; nothing in it is about a person."""
    streams = asyncio.Semaphore(_STREAMS)

    async def checkpoint(_: Request) -> Response:
        signed = await ledger.checkpoint()
        return JSONResponse({"checkpoint": signed.text, "endorsement": ledger.endorsement})

    async def counted(request: Request) -> Response:
        text = request.query_params.get("size")
        size = ledger.size if text is None else _number(text, "size")
        if size > ledger.size:
            raise NotFound("the ledger does not hold that many records", next_step="ask the checkpoint for its size")
        if streams.locked():
            raise TooMany("evidence is being sent to others", next_step="try again in a minute")

        async def send() -> AsyncIterator[bytes]:
            async with streams:
                async for piece in ledger.counted(size):
                    yield piece

        return StreamingResponse(send(), media_type="application/x-ndjson")

    return [
        Route("/stelsel/v1/ledger/checkpoint", checkpoint, methods=["GET"]),
        Route("/stelsel/v1/ledger/counted", counted, methods=["GET"]),
    ]


def log_record(record: Record, additional_data: dict[str, Any] | None = None) -> dict[str, Any]:
    """A log record as FSC Logging 1.1.0 (3.1) wants it."""
    own = {"trace_id": record.trace_id, "allowed": record.allowed, "reason": record.reason}
    source: dict[str, str] = {"type": "SOURCE_TYPE_SOURCE", "outway_peer_id": record.consumer}
    if record.consumer_delegator:
        source |= {"type": "SOURCE_TYPE_DELEGATED_SOURCE", "delegator_peer_id": record.consumer_delegator}
    destination: dict[str, str] = {"type": "DESTINATION_TYPE_DESTINATION", "service_peer_id": record.provider}
    if record.provider_delegator:
        destination |= {
            "type": "DESTINATION_TYPE_DELEGATED_DESTINATION",
            "delegator_peer_id": record.provider_delegator,
        }
    return {
        "transaction_id": record.transaction_id,
        "direction": "DIRECTION_INCOMING" if record.direction == "incoming" else "DIRECTION_OUTGOING",
        "grant_hash": record.grant_hash,
        "source": source,
        "destination": destination,
        "service_name": record.service,
        "additional_data": (additional_data or {}) | own,
        "created_at": record.time // 1000,
    }


def _log_query(request: Request, peer: str) -> LogQuery:
    order = _one(request, "sort_order") or "SORT_ORDER_DESCENDING"
    if order not in ("SORT_ORDER_ASCENDING", "SORT_ORDER_DESCENDING"):
        raise BadRequest("sort_order must be SORT_ORDER_ASCENDING or SORT_ORDER_DESCENDING")
    limit = _whole(request, "limit")
    if limit is not None and not 1 <= limit <= _MAXIMUM_LIMIT:
        raise BadRequest(f"limit must be between 1 and {_MAXIMUM_LIMIT}")
    after, before = _whole(request, "after"), _whole(request, "before")
    return LogQuery(
        peer=peer,
        # a plus that was not percent-encoded arrives as a space, and no hash has a space
        grant_hashes=tuple(item.replace(" ", "+") for item in _items(request, "grant_hash")),
        service_names=_items(request, "service_name"),
        transaction_ids=_items(request, "transaction_ids"),
        # created_at is in whole seconds: after 5 means 6.000 or later, before 5 means earlier than 5.000
        after_ms=None if after is None else (after + 1) * 1000,
        before_ms=None if before is None else before * 1000,
        after_index=_whole(request, "cursor"),
        limit=limit or _DEFAULT_LIMIT,
        descending=order == "SORT_ORDER_DESCENDING",
    )


def _one(request: Request, name: str) -> str | None:
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise BadRequest(f"{name} is given more than once")
    return values[0] if values and values[0] else None


def _items(request: Request, name: str) -> tuple[str, ...]:
    """A list in one parameter, by commas (OpenAPI style form, explode false); repeating it is understood as well."""
    items = [item for value in request.query_params.getlist(name) for item in value.split(",") if item]
    if len(items) > _MOST_ITEMS or any(len(item) > _LONGEST_ITEM for item in items):
        raise BadRequest(f"{name} holds too many items, or one that is too long")
    return tuple(items)


def _whole(request: Request, name: str) -> int | None:
    text = _one(request, name)
    return None if text is None else _number(text, name)


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 16 and int(text) <= _LARGEST):
        raise BadRequest(f"{name} must be a whole number, not negative")
    return int(text)

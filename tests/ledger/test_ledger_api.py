"""`GET /logs` by FSC Logging 1.1.0: who sees what, filters, paging; and the public evidence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.web import application
from stelsel.ledger.api import log_record, public_routes, routes
from stelsel.ledger.evidence import verify_counted
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger

GEMEENTE, REGISTER = "00000099000000003000", "00000099000000002000"
DIENST, BOUWER, REGIE = "00000099000000004000", "00000099000000005000", "00000099000000001000"
Ask = Callable[..., Awaitable[httpx.Response]]


def _as_peer(app: Any, der: bytes) -> Any:
    """The application as uvicorn calls it after a handshake with this client certificate."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"client_certificate": der}
        await app(scope, receive, send)

    return call


@pytest.fixture
def with_logs(
    new_ledger: Callable[..., Ledger], record: Callable[..., Record], new_keypair: Callable[..., KeyPair]
) -> Callable[[Callable[[Ask, Ledger], Awaitable[None]]], None]:
    """Runs a test against a ledger with a few exchanges; `ask(peer, **query)`."""

    def run(test: Callable[[Ask, Ledger], Awaitable[None]]) -> None:
        async def inside() -> None:
            ledger = new_ledger()
            await ledger.start()
            for number in range(6):
                await ledger.append(record(number))
                await ledger.append(record(number, event="response", subject="s"))
            await ledger.append(record(6, consumer=DIENST, grant_hash="$1$3$dienst", allowed=False, reason="refused"))
            await ledger.append(record(7, consumer=DIENST, consumer_delegator=BOUWER, service="adressen"))
            await ledger.append(record(8, consumer=BOUWER, grant_hash=""))
            await ledger.append(record(9, direction="outgoing", consumer=REGISTER, provider=REGIE, service="regels"))
            await ledger.append(record(7, consumer=DIENST, consumer_delegator=BOUWER, service="adressen"))  # again
            app = application(routes(ledger) + public_routes(ledger))

            async def ask(peer: str, path: str = "/v1/logs", **query: Any) -> httpx.Response:
                transport = httpx.ASGITransport(app=_as_peer(app, new_keypair(peer).certificate.der if peer else b""))
                async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as http:
                    return await http.get(path, params=query)

            await test(ask, ledger)
            await ledger.stop()

        asyncio.run(inside())

    return run


def _numbers(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [int(item["transaction_id"][-12:], 16) for item in answer.json()["records"]]


def test_a_peer_sees_only_what_it_took_part_in(with_logs: Any) -> None:
    async def test(ask: Ask, ledger: Ledger) -> None:
        assert _numbers(await ask(GEMEENTE)) == [5, 4, 3, 2, 1, 0]
        assert _numbers(await ask(DIENST)) == [7, 6]
        assert _numbers(await ask(BOUWER)) == [7]  # as delegator; its call without an agreement has no grant to name
        assert _numbers(await ask(REGIE)) == [9]
        assert _numbers(await ask(REGISTER)) == [9, 7, 6, 5, 4, 3, 2, 1, 0]
        assert _numbers(await ask("00000099000000009000")) == []
        assert (await ask("")).status_code == 401
        mine = "01900000-0000-7000-8000-000000000003"
        assert _numbers(await ask(DIENST, transaction_ids=mine)) == []

    with_logs(test)


def test_a_log_record_has_the_shape_of_the_standard(with_logs: Any, record: Callable[..., Record]) -> None:
    async def test(ask: Ask, ledger: Ledger) -> None:
        delegated, refused = (await ask(DIENST)).json()["records"]
        assert delegated["source"] == {
            "type": "SOURCE_TYPE_DELEGATED_SOURCE",
            "outway_peer_id": DIENST,
            "delegator_peer_id": BOUWER,
        }
        assert refused == {
            "transaction_id": "01900000-0000-7000-8000-000000000006",
            "direction": "DIRECTION_INCOMING",
            "grant_hash": "$1$3$dienst",
            "source": {"type": "SOURCE_TYPE_SOURCE", "outway_peer_id": DIENST},
            "destination": {"type": "DESTINATION_TYPE_DESTINATION", "service_peer_id": REGISTER},
            "service_name": "personen",
            "additional_data": {"trace_id": f"{7:032x}", "allowed": False, "reason": "refused"},
            "created_at": 1_764_000_006,
        }
        assert (await ask(REGIE)).json()["records"][0]["direction"] == "DIRECTION_OUTGOING"

    with_logs(test)
    destination = log_record(record(0, provider_delegator=REGIE))["destination"]
    assert destination["type"] == "DESTINATION_TYPE_DELEGATED_DESTINATION"
    assert destination["delegator_peer_id"] == REGIE


def test_filters_and_paging_do_what_the_standard_says(with_logs: Any) -> None:
    async def test(ask: Ask, ledger: Ledger) -> None:
        assert _numbers(await ask(REGISTER, service_name="adressen,regels")) == [9, 7]
        assert _numbers(await ask(REGISTER, grant_hash="$1$3$dienst", service_name="regels")) == [9, 6]  # either
        assert _numbers(await ask(GEMEENTE, grant_hash="$1$3$abc+def/ghi", limit=2)) == [5, 4]
        assert len(_numbers(await ask(GEMEENTE, path="/v1/logs?grant_hash=$1$3$abc+def/ghi"))) == 6
        assert _numbers(await ask(REGISTER, after=1_764_000_006)) == [9, 7]
        assert _numbers(await ask(REGISTER, before=1_764_000_001)) == [0]
        assert _numbers(await ask(REGISTER, after=1_764_000_001, before=1_764_000_004)) == [3, 2]
        one, two = (f"01900000-0000-7000-8000-{number:012x}" for number in (1, 9))
        answer = await ask(REGISTER, transaction_ids=f"{one},{two}", limit=1, service_name="none", cursor="0")
        assert _numbers(answer) == [9, 1]  # everything else is set aside
        seen: list[int] = []
        cursor = ""
        for _ in range(10):
            answer = await ask(REGISTER, limit=4, sort_order="SORT_ORDER_ASCENDING", cursor=cursor)
            page, cursor = _numbers(answer), answer.json()["pagination"]["next_cursor"]
            if not page:
                break
            assert cursor
            seen += page
        assert seen == [0, 1, 2, 3, 4, 5, 6, 7, 9]
        assert cursor == ""

    with_logs(test)


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "x"},
        {"cursor": "-1"},
        {"cursor": "1; DROP TABLE entries"},
        {"after": "1e3"},
        {"before": "9" * 30},
        {"after": "٣"},
        {"sort_order": "UP"},
        {"limit": ["1", "2"]},
        {"service_name": ",".join(["x"] * 2000)},
        {"grant_hash": "x" * 2000},
    ],
)
def test_a_query_that_cannot_be_read_is_refused(query: dict[str, Any], with_logs: Any) -> None:
    async def test(ask: Ask, ledger: Ledger) -> None:
        answer = await ask(GEMEENTE, **query)
        assert answer.status_code == 400
        told = answer.json()  # in FSC's form, as every error of a manager (FSC Core 4.4.5.2)
        assert told["domain"] == "ERROR_DOMAIN_MANAGER"
        assert answer.headers["fsc-error-code"] == told["code"]

    with_logs(test)


def test_anyone_gets_evidence_that_holds(with_logs: Any, anchors: TrustAnchors) -> None:
    async def test(ask: Ask, ledger: Ledger) -> None:
        proof = (await ask("", path="/stelsel/v1/ledger/checkpoint")).json()
        answer = await ask("", path="/stelsel/v1/ledger/counted", size=ledger.size)
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = answer.content.splitlines(keepends=True)
        counted = list(verify_counted(lines, proof["checkpoint"], proof["endorsement"], anchors, time.time()))
        assert len(counted) == ledger.size == 17
        assert (await ask("", path="/stelsel/v1/ledger/counted", size=18)).status_code == 404
        assert (await ask("", path="/stelsel/v1/ledger/counted", size="x")).status_code == 400
        assert (await ask("", path="/stelsel/v1/ledger/counted")).content == answer.content
        assert (await ask("", path="/stelsel/v1/ledger/counted", size=0)).content == b""

    with_logs(test)

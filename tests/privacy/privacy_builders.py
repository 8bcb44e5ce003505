"""Agreements, records and numbers for the tests of this room."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx

from stelsel.agreements.agreement import Agreement, State
from stelsel.agreements.services import Service
from stelsel.agreements.terms import LegalBasis, ProcessingActivity, Terms
from stelsel.ledger.record import Record

PERSONEN = Service(name="personen", endpoint="http://127.0.0.1:1", personal=True, records="personen")
WEATHER = Service(name="weer", endpoint="http://127.0.0.1:1")
REGISTER = "00000099000000002000"
GEMEENTE = "00000099000000003000"
UITKERING = "00000099000000004000"
NOW = 1_000.0


def terms(
    fields: tuple[str, ...] = ("naam",), search_parameters: tuple[str, ...] = ("burgerservicenummer",), **changes: Any
) -> Terms:
    values: dict[str, Any] = {
        "purpose": "Beoordelen van een parkeervergunning",
        "legal_basis": LegalBasis(article="Gemeentewet, artikel 225", ground="e"),
        "processing_activity": ProcessingActivity(id="https://gemeente.example/parkeren", name="Parkeren", version="1"),
        "retention": "P5Y",
        "confidentiality": "confidential",
    }
    return Terms(fields=fields, search_parameters=search_parameters, **(values | changes))


def agreement(agreed: Terms | None = None, **changes: Any) -> Agreement:
    values: dict[str, Any] = {
        "grant_hash": "$1$4$parkeren",
        "content_hash": "$1$1$parkeren",
        "consumer": GEMEENTE,
        "provider": REGISTER,
        "service": "personen",
        "outway_key_thumbprint": "aa",
        "outway_domain_name": None,
        "terms": agreed,
        "not_before": 0,
        "not_after": 10_000,
        "created_at": 0,
        "state": State.VALID,
    }
    return Agreement(**(values | changes))


def numbers(count: int, seed: int = 1) -> list[str]:
    """Different citizen service numbers in the range for tests (99999xxxx) and beyond, that pass the eleven-test."""
    chance = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        digits = [chance.randrange(10) for _ in range(8)]
        last = sum(weight * digit for weight, digit in zip(range(9, 1, -1), digits, strict=True)) % 11
        if last < 10 and any(digits):
            found["".join(map(str, [*digits, last]))] = None
    return list(found)


def record(**changes: Any) -> Record:
    values: dict[str, Any] = {
        "transaction_id": "0190c0de-0000-7000-8000-000000000001",
        "trace_id": "0" * 31 + "1",
        "span_id": "0" * 15 + "1",
        "parent_span_id": None,
        "time": 1_000_000,
        "direction": "incoming",
        "event": "request",
        "grant_hash": "$1$4$parkeren",
        "consumer": GEMEENTE,
        "provider": REGISTER,
        "service": "personen",
        "allowed": True,
        "reason": "agreed",
        "fields": ("naam.geslachtsnaam",),
        "search_parameters": ("burgerservicenummer",),
        "processing_activity": "https://gemeente.example/parkeren@1",
    }
    if changes.get("event") == "response":  # a child of the request above
        values |= {"span_id": "0" * 15 + "2", "parent_span_id": values["span_id"]}
    return Record(**(values | changes))


class Client:
    """Asks an application in this process, one request at a time."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def get(self, path: str) -> httpx.Response:
        return asyncio.run(self._ask("GET", path))

    def post(self, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self._ask("POST", path, **options))

    async def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **options)

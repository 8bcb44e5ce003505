"""Small declared datasets and invented people to count."""

from __future__ import annotations

import asyncio
import random
from datetime import date
from typing import Any

import httpx

from stelsel.opendata.sources import RowsSource

NOW = 1_795_000_000.0  # 2026-11-18
REFERENCE = date(2026, 11, 1)
COLUMNS = ("bsn", "gemeente_code", "geboren")
_TITLE = {"nl": "Titel", "en": "Title"}


def document(**changes: Any) -> dict[str, Any]:
    """A dataset declaration as it would come out of TOML."""
    base: dict[str, Any] = {
        "id": "inwoners",
        "title": {"nl": "Inwoners", "en": "Residents"},
        "description": {"nl": "Wie waar woont", "en": "Who lives where"},
        "population": "inwoners",
        "theme": "SOCI",
        "keywords": ["inwoners"],
        "columns": [
            {"name": "bsn", "kind": "identifier", "ground": "5.1.1.e"},
            {"name": "gemeente_code", "kind": "dimension"},
            {"name": "geboren", "kind": "dimension"},
        ],
        "dimensions": [
            {"name": "gemeente", "column": "gemeente_code", "kind": "code", "total": "NL", "title": _TITLE},
            {
                "name": "leeftijd",
                "column": "geboren",
                "kind": "age",
                "total": "totaal",
                "bands": (0, 15, 25, 45, 65),
                "title": _TITLE,
            },
        ],
    }
    return base | changes


def people(number: int = 3000, seed: int = 1, municipalities: int = 12) -> RowsSource:
    """Invented people, unevenly spread, so that some cells are small."""
    chance = random.Random(seed)
    codes = [f"GM{place:04}" for place in range(1, municipalities + 1)]
    weights = [1 / (place + 1) ** 1.6 for place in range(municipalities)]
    rows = [
        (str(person), code, f"{2026 - min(99, int(100 * chance.betavariate(1.2, 1.6)))}-06-15")
        for person, code in enumerate(chance.choices(codes, weights, k=number))
    ]
    return RowsSource(
        COLUMNS, [(number, code, "2026-06-15" if born > "2026-10" else born) for number, code, born in rows]
    )


class Client:
    """Asks an application without a network."""

    def __init__(self, application: Any) -> None:
        self._transport = httpx.ASGITransport(app=application)

    def get(self, address: str, headers: dict[str, str] | None = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://test") as client:
                return await client.get(address, headers=headers)

        return asyncio.run(ask())

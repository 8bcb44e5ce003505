"""Asks the register through the outway, and reads what comes back as an outcome that a page can show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from stelsel.base.canonical import parse_object
from stelsel.base.errors import BadRequest
from stelsel.base.text import inert
from stelsel.demo.parking import FIELD_TOO_MANY, FIELDS

_LARGEST_ANSWER = 256 * 1024
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Resident:
    """Somebody was found. `lives_here`: registered in this municipality."""

    name: str
    address: tuple[str, ...]
    lives_here: bool
    exchange: str
    """Transaction id of the exchange, when the outway told it."""


@dataclass(frozen=True, slots=True)
class Nobody:
    """The register knows nobody by this number."""

    exchange: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The machines refused: what was asked beyond the agreement, and the reason they gave."""

    fields: tuple[str, ...]
    reason_nl: str
    reason_en: str
    exchange: str


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no usable answer. `status` is the HTTP status, 0 when nothing came at all."""

    status: int
    exchange: str = ""


Outcome = Resident | Nobody | Refused | Failed


async def ask(client: httpx.AsyncClient, url: str, number: str, municipality: str, *, one_more: bool) -> Outcome:
    """Ask the register about one resident. `url` is where the outway serves `personen`; `one_more` asks too much."""
    fields = [*FIELDS, FIELD_TOO_MANY] if one_more else list(FIELDS)
    body = {"type": "RaadpleegMetBurgerservicenummer", "burgerservicenummer": [number], "fields": fields}
    try:
        async with client.stream("POST", url, json=body, timeout=_SECONDS) as answer:
            content = bytearray()
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > _LARGEST_ANSWER:
                    return Failed(answer.status_code)
            return _read(answer, bytes(content), municipality)
    except httpx.HTTPError:
        return Failed(0)


def _read(answer: httpx.Response, content: bytes, municipality: str) -> Outcome:
    exchange = inert(answer.headers.get("fsc-transaction-id", ""), 40)
    try:
        value = parse_object(content)
    except BadRequest:
        return Failed(answer.status_code, exchange)
    if answer.status_code == 403:
        return _refused(value, exchange)
    people = value.get("personen")
    if answer.status_code != 200 or not isinstance(people, list) or len(people) > 1:
        return Failed(answer.status_code, exchange)
    if not people:
        return Nobody(exchange)
    lines = (_text(people[0], "adressering", line) for line in ("adresregel1", "adresregel2"))
    return Resident(
        name=_text(people[0], "naam", "volledigeNaam"),
        address=tuple(line for line in lines if line),
        lives_here=_text(people[0], "gemeenteVanInschrijving", "code") == municipality,
        exchange=exchange,
    )


def _refused(problem: dict[str, Any], exchange: str) -> Refused:
    fields = problem.get("refused")
    named = tuple(inert(str(name), 200) for name in fields[:20]) if isinstance(fields, list) else ()
    english = inert(str(problem.get("detail") or problem.get("title") or ""), 500)
    return Refused(named, inert(str(problem.get("detail_nl") or english), 500), english, exchange)


def _text(value: Any, *path: str) -> str:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return inert(value, 200) if isinstance(value, str) else ""

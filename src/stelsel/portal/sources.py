"""The sources that tell a resident about the use of her data: asked through the exchange itself, under an agreement.

Whoever does not answer is named as such. A list that leaves a source out without a word would say that nothing
happened there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import httpx

from stelsel.agreements.agreement import Agreement
from stelsel.base.canonical import parse_object
from stelsel.base.errors import BadGateway, Fault, Forbidden, NotFound, Unavailable
from stelsel.privacy.api import INDEX, RECEIPT, SUBJECT, USES
from stelsel.privacy.insight import INSIGHT_SERVICE, PAGE
from stelsel.privacy.uses import Use

DEADLINE = 10.0
"""Seconds that a source gets to answer."""
_LARGEST_TIME = 4_102_444_800_000  # 1 January 2100, in milliseconds: what a page can still write as a date
_LARGEST_INDEX = 2**53 - 1
_MAXIMUM_ROWS = 200
_MAXIMUM_ANSWER = 4 * 1024 * 1024

Problem = Literal["silent", "refused", "unreadable"]


class AgreementsInForce(Protocol):
    """What is needed of the agreements."""

    peer_id: str

    def agreements(self) -> tuple[Agreement, ...]: ...

    def peer_names(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Source:
    """An organisation that agreed to show residents the use of their data."""

    peer_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What one source said: its rows, latest first, or why there are none to show."""

    source: Source
    rows: tuple[Use, ...] = ()
    more: bool = False
    """Whether the source has older rows."""
    problem: Problem | None = None

    @property
    def missing(self) -> int:
        """How many records about the resident are not there, though their numbers were given, and nothing says why.

        Of the oldest that are not there the source may say that they were erased by policy.
        """
        return sum(row.missing + (0 if row.erased_before else row.missing_after) for row in self.rows)

    @property
    def erased(self) -> tuple[int, int] | None:
        """(how many of the oldest records were erased, before which moment in ms), if any."""
        last = self.rows[-1] if self.rows else None
        return (last.missing_after, last.erased_before) if last and last.erased_before and last.missing_after else None

    @property
    def oldest(self) -> int:
        """The index with which the next page is asked."""
        return self.rows[-1].index


class Sources:
    """Asks the sources. `outway` is the address of this organisation's own outway, None when it has none."""

    def __init__(self, agreements: AgreementsInForce, outway: str | None, http: httpx.AsyncClient) -> None:
        self._agreements, self._outway, self._http = agreements, outway, http

    def all(self, now: float) -> list[Source]:
        """The sources with an agreement in force at `now`, by name."""
        peers = {
            agreement.provider
            for agreement in self._agreements.agreements()
            if agreement.consumer == self._agreements.peer_id
            and agreement.service == INSIGHT_SERVICE
            and agreement.holds(now)
        }
        names = self._agreements.peer_names()
        return sorted((Source(peer, names.get(peer, peer)) for peer in peers), key=lambda source: source.name)

    def absent(self, now: float) -> list[str]:
        """The names of the organisations that have no agreement to show residents anything."""
        asked = {source.peer_id for source in self.all(now)} | {self._agreements.peer_id}
        return sorted(name for peer, name in self._agreements.peer_names().items() if peer not in asked)

    async def uses(self, number: str, now: float) -> list[Answer]:
        """The latest uses of the data of the resident with this citizen service number, of every source at once."""
        return list(await asyncio.gather(*(self.page_of(source, number) for source in self.all(now))))

    async def page_of(self, source: Source, number: str, before: int | None = None) -> Answer:
        """One page of one source: its latest rows, or those before the record with this index."""
        question = {} if before is None else {INDEX: before}
        try:
            rows = _rows(source, (await self._ask(source, USES, number, question)).get(USES))
        except BadGateway:
            return Answer(source, problem="unreadable")
        except (NotFound, _Refused):
            return Answer(source, problem="refused")
        except Fault:
            return Answer(source, problem="silent")
        return Answer(source, rows, more=len(rows) >= PAGE)

    async def receipt(self, source: Source, number: str, index: int) -> dict[str, Any]:
        """The receipt of this record, if it is about this resident. Raises `NotFound` when it is not."""
        receipt = (await self._ask(source, RECEIPT, number, {INDEX: index})).get(RECEIPT)
        if not isinstance(receipt, dict):
            raise BadGateway("the source gave no receipt", next_step="try again later")
        return receipt

    async def _ask(self, source: Source, what: str, number: str, more: dict[str, int]) -> dict[str, Any]:
        if self._outway is None:
            raise Unavailable("this node has no outway, so it can ask no source", next_step="add [outway] to its file")
        address = f"{self._outway}/{source.peer_id}/{INSIGHT_SERVICE}/{what}"
        # The number travels in the body, never in an address: addresses end up in logs.
        question = {"fields": [what], SUBJECT: number} | more
        try:
            async with asyncio.timeout(DEADLINE):
                answer = await self._http.post(address, json=question)
        except (httpx.HTTPError, TimeoutError) as error:
            raise Unavailable("the source did not answer", next_step="try again in a few minutes") from error
        if answer.status_code == 404:
            raise NotFound("there is no record about you with this number")
        if answer.status_code in (400, 401, 403):
            raise _Refused("the source does not allow this request", next_step="try again later")
        if answer.status_code != 200:
            raise Unavailable("the source did not answer", next_step="try again in a few minutes")
        if len(answer.content) > _MAXIMUM_ANSWER:
            raise BadGateway("the source's answer is too large")
        try:
            return parse_object(answer.content)
        except Fault as error:
            raise BadGateway("the source's answer cannot be read") from error


class _Refused(Forbidden):
    """The source or our own outway says that no agreement allows this."""


def _rows(source: Source, given: Any) -> tuple[Use, ...]:
    """The rows in an answer. Raises `BadGateway`: one row that cannot be right makes the whole answer doubtful."""
    if not isinstance(given, list) or len(given) > _MAXIMUM_ROWS:
        raise BadGateway("the source's answer holds no list of uses")
    rows = tuple(Use.from_json(one) for one in given)
    for row in rows:
        if not 0 <= row.time < _LARGEST_TIME or not 0 <= row.index < _LARGEST_INDEX:
            raise BadGateway("a use has a time or a number that cannot be")
        counts = (row.total, row.missing, row.missing_after, *row.numbers)
        if any(not 0 <= count < _LARGEST_INDEX for count in counts) or not 0 <= row.erased_before < _LARGEST_TIME:
            raise BadGateway("a use has a count that cannot be")
        if source.peer_id not in (row.consumer, row.provider):
            raise BadGateway("a source tells of an exchange that it had no part in")
    return rows

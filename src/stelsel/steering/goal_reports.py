"""Fetches the public evidence of a peer's ledger and makes the reports of the goals. Shell."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from typing import IO, Any
from urllib.parse import urlsplit

import httpx

from stelsel.base.canonical import parse_object
from stelsel.base.certificates import TrustAnchors
from stelsel.base.clock import Clock
from stelsel.base.errors import BadGateway, Fault, NotFound
from stelsel.base.text import inert
from stelsel.ledger.checkpoint import read_checkpoint
from stelsel.steering.gate import read_limited
from stelsel.steering.goals import Goal, Goals, report, unmeasurable

_PATIENCE = 60.0
_FRESH = 5.0  # seconds: many readers of the board cost the ledgers one computation
_IN_MEMORY = 1024 * 1024
_MAXIMUM_EVIDENCE = 4 * 1024**3
_LONGEST_LINE = 128 * 1024
_MAXIMUM_CHECKPOINT = 128 * 1024


class GoalReports:
    """The goals and their present reports."""

    def __init__(
        self,
        goals: Goals | None,
        web_address_of: Callable[[str], Awaitable[str]],
        anchors: TrustAnchors,
        clock: Clock,
    ) -> None:
        self.goals = goals or Goals(goals=())
        self._web_address_of, self._anchors, self._clock = web_address_of, anchors, clock
        self._remembered: dict[str, tuple[float, dict[str, Any]]] = {}
        self._one_at_a_time = asyncio.Lock()

    def goal(self, identifier: str) -> Goal:
        """A goal by its id. Raises `NotFound`."""
        found = next((goal for goal in self.goals.goals if goal.id == identifier), None)
        if found is None:
            raise NotFound("there is no such goal", next_step="see /steering/goals")
        return found

    async def report(self, identifier: str) -> dict[str, Any]:
        """The report of a goal, at most a few seconds old. A ledger that gives no proof makes it `unmeasurable`."""
        goal = self.goal(identifier)
        async with self._one_at_a_time:
            loop = asyncio.get_running_loop()
            known = self._remembered.get(identifier)
            if known is not None and loop.time() < known[0]:
                return known[1]
            try:
                async with asyncio.timeout(_PATIENCE):
                    made = await self._measure(goal)
            except Fault as fault:
                made = unmeasurable(goal, inert(fault.detail, 300), self._clock.now())
            except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
                made = unmeasurable(goal, f"the ledger gave no answer ({type(error).__name__})", self._clock.now())
            self._remembered[identifier] = (loop.time() + _FRESH, made)
            return made

    async def reports(self) -> list[dict[str, Any]]:
        """The reports of all goals."""
        return [await self.report(goal.id) for goal in self.goals.goals]

    async def _measure(self, goal: Goal) -> dict[str, Any]:
        address = await self._web_address_of(goal.indicator.ledger)
        if urlsplit(address).scheme not in ("http", "https"):
            raise BadGateway("the peer has no web address at which its ledger can be counted")
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            async with http.stream("GET", f"{address}/stelsel/v1/ledger/checkpoint") as answer:
                told = parse_object(await read_limited(answer, _MAXIMUM_CHECKPOINT))
            checkpoint, endorsement = told.get("checkpoint"), told.get("endorsement")
            if answer.status_code != 200 or not isinstance(checkpoint, str) or not isinstance(endorsement, dict):
                raise BadGateway("the peer gives no checkpoint of its ledger")
            counted_at = f"{address}/stelsel/v1/ledger/counted?size={read_checkpoint(checkpoint).size}"
            # on disk when large: evidence is 300 bytes a record, and a ledger grows for years
            with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as evidence:
                async with http.stream("GET", counted_at) as answer:
                    if answer.status_code != 200:
                        raise BadGateway("the peer gives no evidence for its checkpoint")
                    await _keep(answer, evidence)
                evidence.seek(0)
                now = self._clock.now()
                return await asyncio.to_thread(
                    report, goal, checkpoint, endorsement, _lines(evidence), self._anchors, now, counted_at
                )


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of the file, none longer than a line of evidence may be; the rest of a longer one follows as a line."""
    while line := file.readline(_LONGEST_LINE):
        yield line


async def _keep(answer: httpx.Response, file: IO[bytes]) -> None:
    size = 0
    async for chunk in answer.aiter_bytes():
        size += len(chunk)
        if size > _MAXIMUM_EVIDENCE:
            raise BadGateway("the evidence is larger than can be counted here")
        file.write(chunk)

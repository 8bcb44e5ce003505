"""The steward's pages, for everyone: who keeps the mandatory agreements, on what evidence, and how the goals do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from stelsel.base.errors import NotFound
from stelsel.base.ids import is_oin
from stelsel.portal.board_views import board_view, finding_view, history_view, notice_lines, peer_view
from stelsel.portal.charts import Point, progress
from stelsel.portal.goal_views import Step, goal_view, row_view
from stelsel.portal.pages import language_of
from stelsel.portal.trust import PATH as TRUST_ANCHORS

if TYPE_CHECKING:
    from stelsel.portal.service import Portal
    from stelsel.steering.service import Steering

_LONGEST_NUMBER = 15
_MOST_HISTORY = 2000
_PATIENCE = 8.0
"""Seconds that a page waits for the evidence of a ledger; what is not there by then is said to be under way."""


def routes(portal: Portal) -> list[BaseRoute]:
    """The steward's pages. Only a node that steers has them."""
    if portal.steering is None:
        return []
    pages = _Steward(portal, portal.steering)
    return [
        Route("/stelsel", pages.board),
        Route("/stelsel/bevindingen/{index}", pages.finding),
        Route("/stelsel/{peer_id}", pages.peer),
        Route("/doelen", pages.goals),
        Route("/doelen/{identifier}", pages.goal),
    ]


class _Steward:
    def __init__(self, portal: Portal, steering: Steering) -> None:
        self._portal, self._steering = portal, steering
        self._measuring: dict[str, asyncio.Task[dict[str, Any]]] = {}

    async def board(self, request: Request) -> Response:
        board = self._steering.board()
        return await self._portal.page(
            request,
            "board.html",
            title=("Wie houdt zich aan de verplichte afspraken?", "Who keeps the obligations?"),
            board=board_view(board, self._steering.obligations.obligations),
            notices=notice_lines(board),
            now=self._portal.clock.now(),
        )

    async def peer(self, request: Request) -> Response:
        peer_id = request.path_params["peer_id"]
        found = [peer for peer in self._steering.board().peers if peer.peer_id == peer_id] if is_oin(peer_id) else []
        if not found:
            raise NotFound("The steward knows no such organisation.", next_step="choose one from the board")
        entries = await asyncio.to_thread(self._steering.log.about, peer_id, _MOST_HISTORY)
        return await self._portal.page(
            request,
            "peer.html",
            title=(found[0].name, found[0].name),
            peer=peer_view(found[0]),
            history=history_view(entries, self._steering.obligations.obligations),
        )

    async def finding(self, request: Request) -> Response:
        index = request.path_params["index"]
        if not (index.isascii() and index.isdigit() and len(index) <= _LONGEST_NUMBER):
            raise NotFound("There is no such finding.", next_step="follow a link on the board")
        entry = await asyncio.to_thread(self._steering.log.entry, int(index))
        if entry.kind != "finding":
            raise NotFound("That entry of the log is not a finding.", next_step="see /steering/findings")
        names = {peer.peer_id: peer.name for peer in self._steering.board().peers}
        shown = finding_view(entry, names, self._steering.obligations.obligations)
        return await self._portal.page(request, "finding.html", title=shown.title, shown=shown)

    async def goals(self, request: Request) -> Response:
        goals = self._steering.goals.goals.goals
        reports = await asyncio.gather(*(self._report(goal.id) for goal in goals))
        return await self._portal.page(
            request,
            "goals.html",
            title=("Doelen", "Goals"),
            goals=[row_view(goal, report) for goal, report in zip(goals, reports, strict=True)],
        )

    async def goal(self, request: Request) -> Response:
        goal = self._steering.goals.goal(request.path_params["identifier"])
        report = await self._report(goal.id)
        shown = goal_view(goal, report, self._portal.clock.now())
        sentence = shown.row.sentence
        picture = progress(
            [_point(step) for step in shown.plan],
            _point(shown.measured) if shown.measured is not None else None,
            name="doel",
            title=sentence,
            language=language_of(request),
        )
        commands = _commands(self._portal.web_address, goal.id)
        return await self._portal.page(
            request, "goal.html", title=sentence, shown=shown, picture=picture, commands=commands
        )

    async def _report(self, identifier: str) -> dict[str, Any] | None:
        """The report of a goal; None when it takes longer than a reader waits. It is then ready the next time."""
        task = self._measuring.get(identifier)
        if task is None:
            task = self._measuring[identifier] = asyncio.create_task(self._steering.goals.report(identifier))
            task.add_done_callback(lambda _: self._measuring.pop(identifier, None))
        done, _ = await asyncio.wait({task}, timeout=_PATIENCE)
        return task.result() if done else None


def _point(step: Step) -> Point:
    return Point(step.at, step.value, step.day, step.shown)


def _commands(web_address: str, goal: str) -> str:
    """How anyone computes a goal's value again: fetch the report, the evidence it names and the anchors; verify."""
    read = "import json; print(json.load(open('doel.json'))['ledger']['counted_at'])"
    return "\n".join(
        (
            f"curl -s {web_address}/steering/goals/{goal} -o doel.json",
            f'curl -s "$(python3 -c "{read}")" -o bewijs.ndjson',
            f"curl -s {web_address}{TRUST_ANCHORS} -o trust-anchors.pem",
            "stelsel verify doel.json --evidence bewijs.ndjson --trust-anchors trust-anchors.pem",
        )
    )

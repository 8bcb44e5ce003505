"""The steward's board as readers see it: per obligation where a peer stands, on what evidence. Never one grade. Pure.

What a peer gave of itself, its name and what a check found at it, is hostile text: made inert here, escaped by the
templates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from stelsel.base.text import inert
from stelsel.portal.contract_views import Pair
from stelsel.portal.pages import day, when
from stelsel.steering.board import Board, Line, PeerBoard
from stelsel.steering.findings import Outcome, Reason
from stelsel.steering.log import Entry
from stelsel.steering.obligations import Obligation

_NOON = 43_200.0
_MOST_REASONS = 50
_MOST_LINES = 400
_MOST_EVENTS = 60
_ISO_DAY = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_SHORT: dict[str, tuple[str, str, str]] = {
    "not-yet": ("none", "geldt nog niet", "not yet"),
    "met": ("good", "voldoet", "met"),
    "to-confirm": ("wait", "wordt nagegaan", "to be confirmed"),
    "failing": ("bad", "voldoet niet", "not met"),
    "explained": ("wait", "uitleg goedgekeurd", "explained"),
    "appealed": ("wait", "bezwaar loopt", "appeal pending"),
    "unknown": ("none", "niet bekend", "unknown"),
    "not-applicable": ("none", "niet van toepassing", "not applicable"),
}
_FOUND: dict[Outcome, tuple[str, str, str]] = {
    Outcome.MET: ("good", "voldeed", "met"),
    Outcome.NOT_MET: ("bad", "voldeed niet", "not met"),
    Outcome.ERROR: ("none", "kon niet worden getoetst", "could not be checked"),
    Outcome.NOT_APPLICABLE: ("none", "niet van toepassing", "not applicable"),
    Outcome.UNKNOWN: ("none", "niet bekend", "unknown"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """An obligation, as the head of a column and as a text of its own."""

    id: str
    title: Pair
    norm: Pair
    legal_basis: str
    deadline: Pair
    applies_from: Pair
    binding: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """Where one peer stands with one obligation, in a few words."""

    obligation: str
    tone: str
    said: Pair
    why: Pair = ("", "")
    """The first reason, where it is not simply met."""
    measured_at: Pair = ("", "")


@dataclass(frozen=True, slots=True)
class PeerRow:
    """One peer on the board. `cells` are in the order of the columns; None where an obligation does not bind it."""

    peer_id: str
    name: str
    said: Pair
    refused: bool
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, slots=True)
class BoardView:
    """The table of the board."""

    columns: tuple[Column, ...]
    rows: tuple[PeerRow, ...]


@dataclass(frozen=True, slots=True)
class NoticeLine:
    """A peer has to mend something within days."""

    peer_id: str
    name: str
    obligation: Pair
    days_left: int


@dataclass(frozen=True, slots=True)
class Proof:
    """A finding that a standing rests on."""

    number: str
    at: Pair
    check: str
    outcome: Cell


@dataclass(frozen=True, slots=True)
class LineView:
    """One obligation of one peer, in full. Texts that may be empty are ("", "") then."""

    id: str
    title: Pair
    norm: Pair
    legal_basis: str
    cell: Cell
    said: Pair
    consequence: Pair
    refuses: bool
    deadline: Pair
    due: bool
    since: Pair
    measured_at: Pair
    reasons: tuple[Pair, ...]
    advice: tuple[Pair, ...]
    interrupted: tuple[Pair, ...]
    explanation: str
    explained_until: Pair
    proofs: tuple[Proof, ...]


@dataclass(frozen=True, slots=True)
class PeerView:
    """One peer, in full."""

    peer_id: str
    name: str
    said: Pair
    met: int
    due: int
    refused: bool
    lines: tuple[LineView, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """Something in a peer's history: a run of equal findings, an explanation or an appeal."""

    obligation: Pair
    tone: str
    said: Pair
    text: str
    first: Pair
    last: Pair
    times: int
    number: str
    """Number of the newest finding of the run; empty for what is no finding."""
    at: float


@dataclass(frozen=True, slots=True)
class FindingView:
    """One finding with its evidence, and what it takes to verify it."""

    title: Pair
    number: str
    peer_id: str
    peer: str
    obligation: Pair
    outcome: Cell
    at: Pair
    check: str
    run: str
    reasons: tuple[Pair, ...]
    advice: tuple[Pair, ...]
    transcript: tuple[str, ...]
    facts: str
    evidence_hash: str
    ruleset_hash: str
    hash: str
    previous: str


def board_view(board: Board, obligations: Sequence[Obligation]) -> BoardView:
    """The board as a table."""
    columns = tuple(_column(one) for one in obligations)
    rows = tuple(
        PeerRow(
            peer_id=peer.peer_id,
            name=inert(peer.name, 120),
            said=_pair(peer.said),
            refused=bool(peer.refusal),
            cells=_cells(peer, columns),
        )
        for peer in board.peers
    )
    return BoardView(columns, rows)


def notice_lines(board: Board) -> tuple[NoticeLine, ...]:
    """Which peers have to be told today that a deadline nears, the nearest first."""
    found = [
        NoticeLine(peer.peer_id, inert(peer.name, 120), _pair(line.title), line.notice.days_left)
        for peer in board.peers
        for line in peer.lines
        if line.notice is not None
    ]
    return tuple(sorted(found, key=lambda one: one.days_left))


def peer_view(peer: PeerBoard) -> PeerView:
    """One peer with each of its obligations."""
    return PeerView(
        peer_id=peer.peer_id,
        name=inert(peer.name, 120),
        said=_pair(peer.said),
        met=peer.tally.met,
        due=peer.tally.due,
        refused=bool(peer.refusal),
        lines=tuple(_line(line) for line in peer.lines),
    )


def history_view(entries: Iterable[Entry], obligations: Sequence[Obligation]) -> tuple[Event, ...]:
    """What the log (newest first) tells of a peer, newest first; equal findings that follow each other are one."""
    titles = {one.id: (one.title.nl, one.title.en) for one in obligations}
    events: list[Event] = []
    latest: dict[str, int] = {}
    for entry in entries:
        name = str(entry.body.get("obligation", ""))
        title = titles.get(name, (inert(name, 63), inert(name, 63)))
        if entry.kind == "finding":
            tone, dutch, english = _FOUND[Outcome(entry.body["outcome"])]
            key = f"{name} {entry.body.get('check')}"
            place = latest.get(key)
            if place is not None and events[place].said == (dutch, english):
                events[place] = _longer(events[place], entry.at)
                continue
            latest[key] = len(events)
            at = _moment(entry.at)
            events.append(Event(title, tone, (dutch, english), "", at, at, 1, str(entry.index), entry.at))
        elif entry.kind in ("explanation", "appeal"):
            events.append(_decision(entry, title))
        if len(events) >= _MOST_EVENTS:
            break
    return tuple(events)


def finding_view(entry: Entry, names: Mapping[str, str], obligations: Sequence[Obligation]) -> FindingView:
    """One finding out of the log."""
    body = entry.body
    titles = {one.id: (one.title.nl, one.title.en) for one in obligations}
    name, peer_id = str(body["obligation"]), str(body["peer"])
    tone, dutch, english = _FOUND[Outcome(body["outcome"])]
    evidence = body.get("evidence") or {}
    transcript = evidence.get("transcript") if isinstance(evidence, dict) else None
    lines = transcript[:_MOST_LINES] if isinstance(transcript, list) else []
    return FindingView(
        title=(f"Bevinding {entry.index}", f"Finding {entry.index}"),
        number=str(entry.index),
        peer_id=inert(peer_id, 20),
        peer=inert(names.get(peer_id, peer_id), 120),
        obligation=titles.get(name, (inert(name, 63), inert(name, 63))),
        outcome=Cell(name, tone, (dutch, english)),
        at=_moment(entry.at),
        check=inert(f"{body['check']}@{body['check_version']}", 60),
        run=inert(str(body["run"]), 60),
        reasons=_told(body.get("reasons")),
        advice=_told(body.get("advice")),
        transcript=tuple(inert(str(line), 1000) for line in lines),
        facts=json.dumps(evidence.get("facts", {}), indent=2, ensure_ascii=True, sort_keys=True),
        evidence_hash=inert(str(body["evidence_hash"]), 64),
        ruleset_hash=inert(str(body["ruleset_hash"]), 64),
        hash=entry.hash,
        previous=entry.previous,
    )


def day_pair(iso: str) -> Pair:
    """A day (2026-06-30) as people write it; ("", "") for nothing."""
    if not iso:
        return "", ""
    chosen = date.fromisoformat(iso)
    seconds = datetime(chosen.year, chosen.month, chosen.day, tzinfo=UTC).timestamp() + _NOON
    return day(seconds, "nl"), day(seconds, "en")


def _column(obligation: Obligation) -> Column:
    return Column(
        id=obligation.id,
        title=(obligation.title.nl, obligation.title.en),
        norm=(obligation.norm.nl, obligation.norm.en),
        legal_basis=obligation.legal_basis,
        deadline=day_pair(obligation.deadline.isoformat()),
        applies_from=day_pair(obligation.applies_from.isoformat()),
        binding=obligation.binding,
    )


def _cells(peer: PeerBoard, columns: Iterable[Column]) -> tuple[Cell | None, ...]:
    by_id = {line.obligation: _cell(line) for line in peer.lines}
    return tuple(by_id.get(column.id) for column in columns)


def _cell(line: Line) -> Cell:
    tone, dutch, english = _SHORT[line.state]
    if line.state == "failing" and not line.due:
        tone, dutch, english = "wait", "voldoet nog niet", "not met yet"
    reasons = _reasons((*line.reasons, *line.interrupted))
    why = reasons[0] if reasons and line.state != "met" else ("", "")
    return Cell(line.obligation, tone, (dutch, english), why, _rfc3339(line.measured_at))


def _line(line: Line) -> LineView:
    return LineView(
        id=line.obligation,
        title=_pair(line.title),
        norm=_pair(line.norm),
        legal_basis=line.legal_basis,
        cell=_cell(line),
        said=_pair(line.said),
        consequence=_with_days(_pair(line.consequence)),
        refuses=line.refuses,
        deadline=day_pair(line.deadline),
        due=line.due,
        since=_rfc3339(line.since),
        measured_at=_rfc3339(line.measured_at),
        reasons=_reasons(line.reasons),
        advice=_reasons(line.advice),
        interrupted=_reasons(line.interrupted),
        explanation=inert(line.explanation, 2000),
        explained_until=day_pair(line.explained_until),
        proofs=tuple(_proof(item, line.obligation) for item in line.evidence),
    )


def _proof(item: Mapping[str, Any], obligation: str) -> Proof:
    tone, dutch, english = _FOUND[Outcome(item["outcome"])]
    return Proof(
        number=str(item["finding"]),
        at=_rfc3339(str(item["at"])),
        check=inert(str(item["check"]), 60),
        outcome=Cell(obligation, tone, (dutch, english)),
    )


def _decision(entry: Entry, title: Pair) -> Event:
    body, at = entry.body, _moment(entry.at)
    if entry.kind == "explanation":
        until = day_pair(str(body.get("until", "")))
        said = (f"uitleg goedgekeurd tot en met {until[0]}", f"explanation approved until and including {until[1]}")
        tone = "wait"
    elif body.get("decided_at") is None:
        said, tone = ("bezwaar ingediend", "appeal filed"), "wait"
    elif body.get("granted"):
        said, tone = ("bezwaar toegewezen", "appeal granted"), "good"
    else:
        said, tone = ("bezwaar afgewezen", "appeal dismissed"), "bad"
    return Event(title, tone, said, inert(str(body.get("text", "")), 2000), at, at, 1, "", entry.at)


def _longer(event: Event, at: float) -> Event:
    """The same run of findings, begun earlier."""
    return Event(
        event.obligation,
        event.tone,
        event.said,
        event.text,
        _moment(at),
        event.last,
        event.times + 1,
        event.number,
        event.at,
    )


def _reasons(reasons: Iterable[Reason]) -> tuple[Pair, ...]:
    return tuple((inert(one.nl, 500), inert(one.en, 500)) for one in list(reasons)[:_MOST_REASONS])


def _told(reasons: Any) -> tuple[Pair, ...]:
    found = reasons if isinstance(reasons, list) else []
    return _reasons(Reason(str(one.get("nl", "")), str(one.get("en", ""))) for one in found if isinstance(one, dict))


def _pair(reason: Reason) -> Pair:
    return reason.nl, reason.en


def _moment(seconds: float) -> Pair:
    return when(seconds, "nl"), when(seconds, "en")


def _rfc3339(text: str) -> Pair:
    return _moment(datetime.fromisoformat(text).timestamp()) if text else ("", "")


def _with_days(texts: Pair) -> Pair:
    """The same texts, with days as people write them."""
    return (
        _ISO_DAY.sub(lambda found: day_pair(found[0])[0], texts[0]),
        _ISO_DAY.sub(lambda found: day_pair(found[0])[1], texts[1]),
    )

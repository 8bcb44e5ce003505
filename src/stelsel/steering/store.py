"""Where steering keeps its log, append-only, and what it holds in memory of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, Connection, Float, Index, Integer, String, Table, Text, insert, select

from stelsel.base.canonical import canonical
from stelsel.base.database import Database, metadata
from stelsel.base.errors import NotFound
from stelsel.base.jose import Signer
from stelsel.steering.findings import Finding, relevant
from stelsel.steering.log import Entry, appeal_of, explanation_of, finding_of, make_entry
from stelsel.steering.obligations import Appeal, Explanation

LOG = Table(
    "steering_log",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("previous", String(64), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("peer", String(20), nullable=False),
    Column("obligation", String(63), nullable=False),
    Column("at", Float, nullable=False),
    Column("body", Text, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("signature", Text, nullable=False),
    Index("steering_log_peer", "peer", "obligation", "number"),
)
_PAGE = 500


class Log:
    """The log in the database, and in memory the few findings that standings rest on."""

    def __init__(self, database: Database, signer: Signer) -> None:
        self._database, self._signer = database, signer
        self._lock = threading.Lock()
        self._findings: dict[tuple[str, str, str], tuple[Finding, ...]] = {}
        self.explanations: list[Explanation] = []
        self.appeals: dict[str, Appeal] = {}
        self.declared: dict[str, str] = {}
        """Ruleset hash last declared in the log, by obligation id."""

    def load(self) -> None:
        """Read the log into memory, once, at the start."""
        for entry in self.entries():
            self._remember(entry)

    async def append(self, kind: str, at: float, body: dict[str, Any]) -> Entry:
        """Sign and add an entry; durable when this returns."""

        def write(connection: Connection) -> Entry:
            last = connection.execute(select(LOG).order_by(LOG.c.number.desc()).limit(1)).first()
            entry = make_entry(_entry(last) if last is not None else None, kind, at, body, self._signer)
            connection.execute(
                insert(LOG).values(
                    number=entry.index,
                    previous=entry.previous,
                    kind=kind,
                    at=at,
                    body=canonical(body).decode("utf-8"),
                    hash=entry.hash,
                    signature=entry.signature,
                    peer=str(body.get("peer", "")),
                    obligation=_obligation(body),
                )
            )
            return entry

        entry = await self._database.write(write)
        self._remember(entry)
        return entry

    def findings(self, peer_id: str) -> list[Finding]:
        """The findings that this peer's standings rest on, without their evidence."""
        with self._lock:
            return [finding for (_, peer, _), kept in self._findings.items() if peer == peer_id for finding in kept]

    def peers(self) -> set[str]:
        """The peers about whom there are findings."""
        with self._lock:
            return {peer for _, peer, _ in self._findings}

    def entries(self, start: int = 0, limit: int | None = None) -> Iterator[Entry]:
        """The log from entry `start` on, in pages, so that it never sits in memory whole."""
        left = limit
        while left is None or left > 0:
            page = _PAGE if left is None else min(_PAGE, left)
            with self._database.read() as connection:
                rows = connection.execute(
                    select(LOG).where(LOG.c.number >= start).order_by(LOG.c.number).limit(page)
                ).all()
            yield from map(_entry, rows)
            if len(rows) < page:
                return
            start = rows[-1].number + 1
            left = None if left is None else left - len(rows)

    def about(self, peer_id: str, limit: int) -> list[Entry]:
        """The newest entries about one peer, newest first, at most `limit`; obligations concern no one peer."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(LOG).where(LOG.c.peer == peer_id).order_by(LOG.c.number.desc()).limit(limit)
            ).all()
        return [_entry(row) for row in rows]

    def entry(self, index: int) -> Entry:
        """One entry. Raises `NotFound`."""
        with self._database.read() as connection:
            row = connection.execute(select(LOG).where(LOG.c.number == index)).first()
        if row is None:
            raise NotFound("there is no such entry in the steward's log", next_step="see /steering/findings")
        return _entry(row)

    def _remember(self, entry: Entry) -> None:
        if entry.kind == "finding":
            finding = finding_of(entry, evidence=False)
            key = (finding.obligation, finding.peer, finding.reference)
            with self._lock:
                self._findings[key] = relevant((*self._findings.get(key, ()), finding))
        elif entry.kind == "explanation":
            self.explanations.append(explanation_of(entry.body))
        elif entry.kind == "appeal":
            appeal = appeal_of(entry.body)
            self.appeals[appeal.id] = appeal
        elif entry.kind == "obligation":
            self.declared[entry.body["obligation"]["id"]] = entry.body["ruleset_hash"]


def _entry(row: Any) -> Entry:
    return Entry(row.number, row.previous, row.kind, row.at, json.loads(row.body), row.hash, row.signature)


def _obligation(body: dict[str, Any]) -> str:
    value = body.get("obligation", "")
    return str(value["id"] if isinstance(value, dict) else value)

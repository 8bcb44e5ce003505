"""A journal in PostgreSQL: many workers and hosts append to one ledger.

**One order.** Whoever appends first locks the one row of `stelsel_ledger_head`; that row holds the size. The batch gets
the indexes from there on, its residents get their next sequence numbers, and with the commit the lock is free. So the
indexes have no gaps, they are in the order of the commits, and every host sees the same. A batch is one transaction of
two round trips; what counts is how many records share it, so appenders gather in every host (`group_commit`).

**What a caller may rely on** is what `journal` says. A commit of which the answer never came is looked up before
anything is said: the transaction held the lock, so who has the lock knows how it ended, and the nonces, which are
random, tell whether the lines at those places are ours. Only a batch that is surely not there is sent again. When the
lookup is not done in time the batch is refused, and may be there.

**A server that is not what it was.** Every connection checks that the server syncs, is no standby, and still holds what
was acknowledged last: after a restore of an old backup, or a failover that lost transactions, nothing is recorded until
a person has looked.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from stelsel.base.errors import ConfigurationFault, Fault
from stelsel.base.log import logger
from stelsel.ledger.batch import Item
from stelsel.ledger.commitment import sealed
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.frames import COUNTED_AT, ERASED, RECORD, RECORD_AT
from stelsel.ledger.glance import time_of
from stelsel.ledger.journal import Line, Piece, Position, Pruned
from stelsel.ledger.postgres_connection import (
    ByteArray,
    Connections,
    NumberArray,
    Session,
    discard,
    gap,
    lost,
    other_history,
    unavailable,
    worth_another,
)
from stelsel.ledger.postgres_schema import claim, migrate
from stelsel.ledger.record import Record, numbered

_log = logger("ledger")
logging.getLogger("psycopg").addHandler(logging.NullHandler())  # what it would print we say ourselves, once

T = TypeVar("T")

_CHUNK = 256
"""Records that follow each other fetched at once, at most."""
_FEW = 32
"""The same for records here and there, of which any may be large."""
_FOLLOW_SECONDS = 0.2
"""How soon a host sees what others appended when nobody asks."""
_AGAIN_SECONDS = 0.05
_PATIENCE = 0.8
"""The part of the deadline in which an append must have ended."""

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_LOCK = "SELECT size FROM stelsel_ledger_head FOR UPDATE"
_NUMBER = """
INSERT INTO stelsel_ledger_subjects AS known (subject, last)
SELECT subject, count FROM unnest(%b::bytea[], %b::bigint[]) AS new (subject, count)
ON CONFLICT (subject) DO UPDATE SET last = known.last + excluded.last RETURNING subject, last
"""
_INSERT = """
INSERT INTO stelsel_ledger_lines (idx, payload)
SELECT %b + place - 1, payload FROM unnest(%b::bytea[]) WITH ORDINALITY AS new (payload, place)
"""
_GROW = "UPDATE stelsel_ledger_head SET size = %b"
_COMMIT = "COMMIT"
_SIZE = "SELECT size FROM stelsel_ledger_head"
_LINES = """
SELECT idx, payload FROM (
    SELECT idx, payload, sum(octet_length(payload)) OVER (ORDER BY idx) - octet_length(payload) AS before
    FROM stelsel_ledger_lines WHERE idx >= %b AND idx < %b
) AS chunk WHERE before < 4194304 ORDER BY idx
"""
"""As many as there are bytes for: at least one, and no more than 4 MiB and a record."""
_AT = "SELECT idx, payload FROM stelsel_ledger_lines WHERE idx = ANY (%b::bigint[])"
_NONCES = "SELECT substr(payload, 1, %b::int) FROM stelsel_ledger_lines WHERE idx >= %b AND idx < %b ORDER BY idx"
_LAST = "SELECT last FROM stelsel_ledger_subjects WHERE subject = %b"
_ERASE = """
UPDATE stelsel_ledger_lines AS line SET payload = new.payload
FROM unnest(%b::bigint[], %b::bytea[]) AS new (idx, payload) WHERE line.idx = new.idx
"""


class PostgresJournal:
    """The journal of all hosts that use one database. See `journal.Journal`."""

    def __init__(
        self,
        address: str,
        *,
        peer_id: str,
        public_key: bytes,
        deadline: float,
        password_file: Path | None = None,
        known: int = 0,
    ) -> None:
        """Open the journal at this address (postgresql://...), make its tables if they are not there.

        `peer_id` and `public_key` (32 bytes) say whose ledger it is and what signs for it: the same on all hosts.
        `deadline`: seconds after which the ledger refuses. `known`: how many records it held when last looked at.
        Raises `ConfigurationFault`, `LedgerCorrupt`, or `LedgerUnavailable` when the database cannot be reached.
        """
        self._connections = Connections(address, password_file, deadline)
        self._patience = deadline * _PATIENCE
        self._writer: Session | None = None
        self._down = False
        self._warnings = 0
        self._last: tuple[int, bytes] | None = None
        """Index and nonce of the last record that we acknowledged."""
        self._growing = threading.Lock()
        self.size = 0
        try:
            with self._connections.reading(deadline) as session:
                migrate(session)
                size = claim(session, peer_id, public_key)
            if size < known:
                raise lost(size, known)
        except BaseException as error:
            self._connections.close()
            if isinstance(error, psycopg.Error):
                raise self._connections.fault(error) from error
            raise
        self._grown(size)
        self._closing = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="ledger-follower", daemon=True)
        self._follower.start()

    def append(self, batch: Iterable[Item]) -> int:
        """See `Journal`. Tries again within the deadline when a connection broke; not when the last batch failed."""
        return self._append_all(list(batch))

    def _append_all(self, batch: list[Item]) -> int:
        due = time.monotonic() + self._patience
        unanswered: int | None = None
        pause = 0.0
        while True:
            try:
                session = self._writing(due)
                first = None if unanswered is None else self._committed(session, unanswered, batch)
                unanswered = None
                if first is None:
                    first = self._append(session, batch)
            except _Unanswered as broken:
                unanswered, fault = broken.first, self._connections.fault(broken.error)
            except psycopg.Error as error:
                fault = self._connections.fault(error)
                if not worth_another(error):
                    self._down = True
                    self._let_go()
                    raise fault from error
            except Fault as error:
                self._down = True
                self._let_go()
                raise _refusal(error) from error
            except BaseException:  # a mistake of ours: the transaction must not stay open
                self._let_go()
                raise
            else:
                self._down = False
                self._last = (first + len(batch) - 1, batch[-1][0])
                self._grown(first + len(batch))
                return first
            self._let_go()
            if self._down or time.monotonic() + pause > due:
                self._down = True
                raise fault
            time.sleep(pause)
            pause = _AGAIN_SECONDS

    def refresh(self) -> int:
        """See `Journal`."""
        row = self._ask(_SIZE, ())[0]
        self._grown(row[0])
        return self.size

    def lines(self, start: int, stop: int, near: Position | None = None) -> Iterator[Line]:
        """See `Journal`. Every chunk is a question of its own: nothing is held between two of them."""
        for piece in self.pieces(start, stop, near):
            for index, payload in enumerate(piece.payloads, piece.first):
                yield _line(index, payload)

    def pieces(self, start: int, stop: int, near: Position | None = None) -> Iterator[Piece]:  # noqa: ARG002
        """See `Journal`."""
        if stop > self.size:
            raise ValueError("the journal is not that long")
        while start < stop:
            rows = self._ask(_LINES, (start, min(stop, start + _CHUNK)))
            for index, row in enumerate(rows or [(None,)], start):
                if row[0] != index:
                    raise gap(index)
            end = start + len(rows)
            yield Piece(start, 0, 0, [0] * len(rows), [row[1] for row in rows], Position(end, 0, 0))
            start = end

    def line(self, position: Position) -> Line:
        """See `Journal`."""
        return next(self.lines(position.index, position.index + 1))

    def lines_at(self, positions: Iterable[Position]) -> Iterator[Line]:
        """See `Journal`. Some at a time: who asks may be on the other side of a network."""
        indexes = [position.index for position in positions]
        for start in range(0, len(indexes), _FEW):
            few = indexes[start : start + _FEW]
            payloads: dict[int, bytes] = dict(self._do(partial(_fetch, few)))
            for index in few:
                if index not in payloads:
                    raise gap(index)
                yield _line(index, payloads[index])

    def prune(self, before_ms: int, start: int, stop: int) -> Pruned:
        """See `Journal`. The numbers of subjects are in a table of their own already."""
        erasing = 0
        for piece in self.pieces(start, min(stop, self.size)):
            old = [
                (index, _erased(payload))
                for index, payload in enumerate(piece.payloads, piece.first)
                if payload[:1] == RECORD and time_of(payload[RECORD_AT:]) < before_ms
            ]
            if old:
                erasing += self._do(partial(_erase, old))
        return Pruned(erasing, 0)

    def last_number(self, subject: str) -> int:
        """See `Journal`."""
        rows = self._ask(_LAST, (_bytes(subject),))
        return int(rows[0][0]) if rows else 0

    def generations(self) -> dict[int, int]:
        """See `Journal`: a record is found by its index, always."""
        return {}

    def close(self) -> None:
        """See `Journal`."""
        self._closing.set()
        self._let_go()
        self._connections.close()
        self._follower.join(self._patience)

    # Writing

    def _writing(self, due: float) -> Session:
        """The writer's connection, made anew when there is none."""
        session = self._writer
        if session is None:
            session = self._connections.connect()
            self._writer = session
            session.add_notice_handler(self._noticed)
            self._connections.forget()
            session.due = due
            self._check_last(session)
        session.due = due
        return session

    def _append(self, session: Session, batch: Sequence[Item]) -> int:
        """One transaction. Raises `_Unanswered` when it was sent and no answer came."""
        subjects = Counter(subject for _, _, subject in batch if subject)
        with session.pipeline():
            session.execute(_BEGIN)
            head = session.execute(_LOCK)
            counts = (
                session.execute(_NUMBER, (_subjects(subjects), NumberArray(subjects.values()))) if subjects else None
            )
        row = head.fetchone()
        last: dict[bytes, int] = dict(counts.fetchall()) if counts is not None else {}
        if row is None:
            raise gap(0)
        first = int(row[0])
        if first < self.size:
            raise lost(first, self.size)
        payloads = _payloads(batch, subjects, last)
        self._warnings = 0
        try:
            with session.pipeline():
                session.execute(_INSERT, (first, ByteArray(payloads)))
                session.execute(_GROW, (first + len(batch),))
                session.execute(_COMMIT)
        except psycopg.Error as error:
            if error.sqlstate is not None and session.alive:  # the server answered: the transaction was undone
                raise
            raise _Unanswered(first, error) from error
        self._check_confirmed()
        return first

    def _committed(self, session: Session, first: int, batch: Sequence[Item]) -> int | None:
        """Whether the batch of which no answer came is there; the lock waits for its transaction to end."""
        session.execute(_BEGIN)
        row = session.execute(_LOCK).fetchone()
        rows = session.execute(_NONCES, (RECORD_AT, first, first + len(batch)), binary=True).fetchall()
        found = rows == [(RECORD + nonce,) for nonce, _, _ in batch]
        self._warnings = 0
        if found and row is not None:  # a commit of our own: when a standby has this one, it has the one before too
            session.execute(_GROW, row)
        session.execute(_COMMIT)
        self._check_confirmed()
        _log.info("unanswered commit looked up", records=len(batch), committed=found)
        return first if found else None

    def _check_confirmed(self) -> None:
        """A standby that should have the transaction as well said so; else the server commits with a warning."""
        if self._warnings:
            raise unavailable("its standby did not confirm")

    def _check_last(self, session: Session) -> None:
        """The server that we have now holds what we acknowledged last."""
        if self._last is None:
            return
        index, nonce = self._last
        row = session.execute(_NONCES, (RECORD_AT, index, index + 1), binary=True).fetchone()
        if row is None:
            raise lost(index, index + 1)
        if row[0][:1] == RECORD and row[0][1:] != nonce:
            raise other_history(index)

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        self._warnings += notice.severity_nonlocalized == "WARNING"

    def _let_go(self) -> None:
        session, self._writer = self._writer, None
        if session is not None:
            discard(session)

    # Reading

    def _ask(self, question: str, values: tuple[int | bytes, ...]) -> list[tuple[Any, ...]]:
        """The answer to a short question."""
        return self._do(lambda session: session.execute(question, values, binary=True).fetchall())

    def _do(self, action: Callable[[Session], T]) -> T:
        """Do what may be done twice; it is, when the connection turns out to be dead."""
        due = time.monotonic() + self._patience
        try:
            try:
                with self._connections.reading(self._patience) as session:
                    return action(session)
            except psycopg.Error as error:
                left = due - time.monotonic()
                if left <= 0 or not worth_another(error):
                    raise
                self._connections.forget()
                with self._connections.reading(left) as session:
                    return action(session)
        except psycopg.Error as error:
            raise self._connections.fault(error) from error
        except ConfigurationFault as fault:
            raise _refusal(fault) from fault

    def _grown(self, size: int) -> None:
        with self._growing:
            self.size = max(self.size, size)

    def _follow(self) -> None:
        """The follower thread: see what other hosts append."""
        wait = _FOLLOW_SECONDS
        while not self._closing.wait(wait):
            try:
                with self._connections.reading(self._patience) as session:
                    row = session.execute(_SIZE).fetchone()
                self._grown(row[0] if row else 0)
                wait = _FOLLOW_SECONDS
            except Exception:  # noqa: BLE001 - who appends or asks says what is wrong; here it is only tried again
                wait = _FOLLOW_SECONDS * 5


def _erased(payload: bytes) -> bytes:
    """The payload of a record without the record: its seal and its counted part."""
    record = payload[RECORD_AT:]
    counted = Record.from_json(json.loads(record)).canonical_counted()
    return ERASED + sealed(payload[1:RECORD_AT], record) + counted


def _fetch(indexes: Sequence[int], session: Session) -> list[tuple[int, bytes]]:
    rows: list[tuple[int, bytes]] = session.execute(_AT, (NumberArray(indexes),), binary=True).fetchall()
    return rows


def _erase(payloads: Sequence[tuple[int, bytes]], session: Session) -> int:
    """Put these payloads in the place of what is there, in one statement; gives how many."""
    places, new = [index for index, _ in payloads], ByteArray([payload for _, payload in payloads])
    return session.execute(_ERASE, (NumberArray(places), new)).rowcount


class _Unanswered(Exception):
    """The commit was sent, and the connection broke before the answer came."""

    def __init__(self, first: int, error: psycopg.Error) -> None:
        super().__init__(first)
        self.first = first
        self.error = error


def _bytes(subject: str) -> bytes:
    return subject.encode("utf-8", "surrogatepass")


def _subjects(subjects: Counter[str]) -> ByteArray:
    return ByteArray([_bytes(subject) for subject in subjects])


def _payloads(batch: Sequence[Item], subjects: Counter[str], last: dict[bytes, int]) -> list[bytes]:
    """The payloads, numbered; `last` holds the numbers after this batch, `subjects` how many records each has in it."""
    following = {subject: last[_bytes(subject)] - count for subject, count in subjects.items()}
    payloads = []
    for nonce, record, subject in batch:
        if subject:
            following[subject] += 1
            record = numbered(record, following[subject])
        payloads.append(RECORD + nonce + record)
    return payloads


def _line(index: int, payload: bytes) -> Line:
    position, after = Position(index, 0, 0), Position(index + 1, 0, 0)
    if payload[:1] == RECORD:
        return Line(position, after, payload[1:RECORD_AT], payload[RECORD_AT:])
    return Line(position, after, b"", b"", payload[1:COUNTED_AT], payload[COUNTED_AT:])


def _refusal(fault: Fault) -> LedgerUnavailable:
    return fault if isinstance(fault, LedgerUnavailable) else LedgerUnavailable(fault.detail, next_step=fault.next_step)

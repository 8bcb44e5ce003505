"""What reconciliation remembers: how far each peer's log was compared with ours, and what was found."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Column, Connection, Float, Integer, String, Table, Text, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from stelsel.base.database import metadata
from stelsel.ledger.reconcile import Discrepancy, Key, Kind, Logged

MOST_KEPT = 1000
"""Discrepancies kept of one peer; of more only the number is."""

PROGRESS = Table(
    "ledger_reconciled",
    metadata,
    Column("peer_id", String(20), primary_key=True),
    Column("up_to", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("trouble", Text, nullable=False),
    Column("trouble_since", Float, nullable=False),
    Column("not_kept", Integer, nullable=False),
)
FOUND = Table(
    "ledger_discrepancies",
    metadata,
    Column("peer_id", String(20), primary_key=True),
    Column("transaction_id", String(36), primary_key=True),
    Column("consumer", String(20), primary_key=True),
    Column("provider", String(20), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("grant_hash", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("detail", Text, nullable=False),
    Column("found_at", Float, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with one peer."""

    peer_id: str
    up_to: int = 0
    """Seconds since the epoch until which the two logs were compared; 0 when they never were."""
    at: float = 0.0
    """When that was last tried."""
    trouble: str = ""
    """Why it did not work the last time; made inert."""
    trouble_since: float = 0.0
    not_kept: int = 0
    """Discrepancies beyond those that are kept."""
    certain: int = 0
    """Kept discrepancies of which one of the two logs must be wrong."""
    uncertain: int = 0
    current: bool = True
    """Whether we still have an agreement with it: who has gone may not answer, and that is no trouble."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A discrepancy as kept."""

    peer_id: str
    found_at: float
    discrepancy: Discrepancy


def standings(connection: Connection) -> list[Standing]:
    """Of every peer with which it was tried."""
    counts: dict[tuple[str, bool], int] = {}
    query = select(FOUND.c.peer_id, FOUND.c.kind, func.count()).group_by(FOUND.c.peer_id, FOUND.c.kind)
    for peer_id, kind, count in connection.execute(query):
        key = peer_id, Kind(kind).certain
        counts[key] = counts.get(key, 0) + count
    return [
        Standing(
            row.peer_id,
            row.up_to,
            row.at,
            row.trouble,
            row.trouble_since,
            row.not_kept,
            counts.get((row.peer_id, True), 0),
            counts.get((row.peer_id, False), 0),
        )
        for row in connection.execute(select(PROGRESS).order_by(PROGRESS.c.peer_id))
    ]


def standing(connection: Connection, peer_id: str) -> Standing:
    """Of one peer, as it is when nothing was tried yet too."""
    return next((each for each in standings(connection) if each.peer_id == peer_id), Standing(peer_id))


def tried(connection: Connection, peer_id: str, at: float, up_to: int, trouble: str) -> None:
    """Keep how far it went; `up_to` never goes back."""
    before = standing(connection, peer_id)
    since = 0.0 if not trouble else before.trouble_since or at
    values = {"up_to": max(up_to, before.up_to), "at": at, "trouble": trouble, "trouble_since": since}
    statement = insert(PROGRESS).values(peer_id=peer_id, not_kept=0, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["peer_id"], set_=values))


def keep(connection: Connection, peer_id: str, found: list[Discrepancy], at: float) -> None:
    """Keep what was found, once each."""
    room = MOST_KEPT - (connection.scalar(select(func.count()).where(FOUND.c.peer_id == peer_id)) or 0)
    not_kept = 0
    for each in found:
        logged = each.logged
        known = connection.scalar(
            select(func.count()).where(
                FOUND.c.peer_id == peer_id,
                FOUND.c.transaction_id == logged.transaction_id,
                FOUND.c.consumer == logged.consumer,
            )
        )
        if known:
            continue
        if room <= 0:
            not_kept += 1
            continue
        room -= 1
        connection.execute(
            insert(FOUND).values(
                peer_id=peer_id,
                transaction_id=logged.transaction_id,
                consumer=logged.consumer,
                provider=logged.provider,
                kind=each.kind.value,
                grant_hash=logged.grant_hash,
                service=logged.service,
                at=logged.at,
                detail=each.detail,
                found_at=at,
            )
        )
    if not_kept:
        first = insert(PROGRESS).values(
            peer_id=peer_id, up_to=0, at=at, trouble="", trouble_since=0.0, not_kept=not_kept
        )
        more = {"not_kept": PROGRESS.c.not_kept + not_kept}
        connection.execute(first.on_conflict_do_update(index_elements=["peer_id"], set_=more))


def kept(connection: Connection, peer_id: str | None = None, limit: int = MOST_KEPT) -> list[Kept]:
    """What is kept, of this peer or of all, the newest transactions first."""
    query = select(FOUND).order_by(FOUND.c.at.desc(), FOUND.c.transaction_id).limit(limit)
    if peer_id is not None:
        query = query.where(FOUND.c.peer_id == peer_id)
    found = []
    for row in connection.execute(query):
        logged = Logged(
            row.transaction_id, row.consumer, row.provider, row.grant_hash, row.service, "", "", row.at, None
        )
        found.append(Kept(row.peer_id, row.found_at, Discrepancy(Kind(row.kind), logged, row.detail)))
    return found


def resolve(connection: Connection, peer_id: str, keys: set[Key]) -> None:
    """Drop what is no longer so."""
    for transaction_id, consumer in keys:
        connection.execute(
            delete(FOUND).where(
                FOUND.c.peer_id == peer_id, FOUND.c.transaction_id == transaction_id, FOUND.c.consumer == consumer
            )
        )

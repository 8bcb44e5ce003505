"""The tables of this room. A signature and the deliveries that follow from it are written in one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from stelsel.agreements.contract import Contract, reread
from stelsel.agreements.signatures import Signature, pack, unpack
from stelsel.agreements.stored import Delivery, ListedPeer
from stelsel.base.database import metadata

contracts = Table(
    "agreements_contracts",
    metadata,
    Column("content_hash", String(100), primary_key=True),
    Column("iv", String(36), nullable=False, unique=True),  # unique at each peer (FSC Core 4.2.1)
    Column("content", Text, nullable=False),  # the JSON as received, order of arrays kept (4.4.1.2)
    Column("proposed_by", String(20), nullable=False),
    Column("received_at", Float, nullable=False),
)

signatures = Table(
    "agreements_signatures",
    metadata,
    Column("content_hash", ForeignKey(contracts.c.content_hash), nullable=False),
    Column("peer_id", String(20), nullable=False),
    Column("type", String(6), nullable=False),
    Column("compact", Text, nullable=False),
    Column("signed_at", Integer, nullable=False),
    Column("certificate_not_after", Float, nullable=False),
    Column("chain", Text, nullable=False),
    PrimaryKeyConstraint("content_hash", "peer_id", "type"),
)

peers = Table(
    "agreements_peers",
    metadata,
    Column("peer_id", String(20), primary_key=True),
    Column("name", Text, nullable=False),
    Column("manager_address", String(255), nullable=False),
    Column("seen_at", Float, nullable=False),
)

outbox = Table(
    "agreements_outbox",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("peer_id", String(20), nullable=False),
    Column("kind", String(10), nullable=False),
    Column("content_hash", String(100), nullable=False),  # empty for an announcement
    Column("status", String(10), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    UniqueConstraint("peer_id", "kind", "content_hash"),
)
Index("agreements_outbox_due", outbox.c.status, outbox.c.next_attempt)


reference_decisions = Table(
    "agreements_reference_decisions",
    metadata,
    Column("content_hash", ForeignKey(contracts.c.content_hash), nullable=False),
    Column("decision", String(6), nullable=False),  # the type of signature that followed
    Column("decided_at", Float, nullable=False),
    PrimaryKeyConstraint("content_hash", "decision"),
)
"""What people decided about contracts outside FSC (External Contract Reference 2.2.2: keep an audit trail)."""


def add_reference_decision(connection: Connection, content_hash: str, decision: str, now: float) -> None:
    """Store that somebody here looked at the contract outside FSC and decided; the first time counts."""
    values = {"content_hash": content_hash, "decision": decision, "decided_at": now}
    connection.execute(
        insert(reference_decisions).values(values).on_conflict_do_nothing(index_elements=["content_hash", "decision"])
    )


def reference_decisions_of(connection: Connection, content_hash: str) -> dict[str, float]:
    """What was decided about the contract outside FSC, and when (seconds since the epoch)."""
    rows = connection.execute(select(reference_decisions).where(reference_decisions.c.content_hash == content_hash))
    return {row.decision: row.decided_at for row in rows}


def add_contract(connection: Connection, contract: Contract, proposed_by: str, now: float) -> None:
    """Store a contract, once."""
    values = {
        "content_hash": contract.content_hash,
        "iv": contract.iv,
        "content": json.dumps(contract.content, ensure_ascii=False),
        "proposed_by": proposed_by,
        "received_at": now,
    }
    connection.execute(insert(contracts).values(values).on_conflict_do_nothing(index_elements=["content_hash"]))


def put_signature(connection: Connection, content_hash: str, signature: Signature) -> None:
    """Store a signature; the one that was there for this peer and type gives way."""
    values = {
        "compact": signature.compact,
        "signed_at": signature.signed_at,
        "certificate_not_after": signature.certificate_not_after,
        "chain": pack(signature.chain),
    }
    key = {"content_hash": content_hash, "peer_id": signature.peer_id, "type": signature.type}
    statement = insert(signatures).values(key | values)
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))


def put_peer(connection: Connection, peer: ListedPeer, now: float) -> None:
    """Store who a peer is and where its manager is (4.4.1.9)."""
    values = {"name": peer.name, "manager_address": peer.manager_address, "seen_at": now}
    statement = insert(peers).values(peer_id=peer.peer_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["peer_id"], set_=values))


def queue(connection: Connection, peer_ids: Iterable[str], kind: str, content_hash: str, now: float) -> None:
    """Put a message for each of these peers in the outbox, due now; one that was there starts again."""
    again = {"status": "pending", "attempts": 0, "next_attempt": now, "reason": "", "evidence": "[]"}
    for peer_id in sorted(peer_ids):
        key = {"peer_id": peer_id, "kind": kind, "content_hash": content_hash}
        statement = insert(outbox).values(key | again)
        connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=again))


def put_delivery(connection: Connection, delivery: Delivery) -> None:
    """Store how it stands with a message."""
    connection.execute(
        update(outbox)
        .where(
            outbox.c.peer_id == delivery.peer_id,
            outbox.c.kind == delivery.kind,
            outbox.c.content_hash == delivery.content_hash,
        )
        .values(
            status=delivery.status,
            attempts=delivery.attempts,
            next_attempt=delivery.next_attempt,
            reason=delivery.reason,
            evidence=json.dumps(delivery.evidence),
        )
    )


def hasten(connection: Connection, peer_id: str | None, now: float) -> None:
    """Make what waits for this peer, or for any when None, due now: it showed that it is there."""
    statement = update(outbox).where(outbox.c.status == "pending", outbox.c.next_attempt > now)
    if peer_id is not None:
        statement = statement.where(outbox.c.peer_id == peer_id)
    connection.execute(statement.values(next_attempt=now))


def load_contracts(connection: Connection) -> Iterator[tuple[Contract, str, float, list[Signature]]]:
    """(contract, proposed by, received at, signatures) of all that is stored, oldest first."""
    by_hash: dict[str, list[Signature]] = {}
    for row in connection.execute(select(signatures)):
        by_hash.setdefault(row.content_hash, []).append(
            Signature(
                peer_id=row.peer_id,
                type=row.type,
                compact=row.compact,
                signed_at=row.signed_at,
                certificate_not_after=row.certificate_not_after,
                chain=unpack(row.chain),
            )
        )
    for row in connection.execute(select(contracts).order_by(contracts.c.received_at)):
        yield reread(json.loads(row.content)), row.proposed_by, row.received_at, by_hash.get(row.content_hash, [])


def load_peers(connection: Connection) -> list[ListedPeer]:
    """The peers that were met."""
    rows = connection.execute(select(peers))
    return [ListedPeer(row.peer_id, row.name, row.manager_address) for row in rows]


def deliveries_of(connection: Connection, content_hash: str | None = None) -> list[Delivery]:
    """The messages about a contract, or all about contracts, in the order in which they were queued."""
    query = select(outbox).order_by(outbox.c.id)
    query = query.where(outbox.c.content_hash == content_hash if content_hash else outbox.c.content_hash != "")
    return [_delivery(row) for row in connection.execute(query)]


def due(connection: Connection, now: float, limit: int = 500) -> list[Delivery]:
    """Messages that must be sent by now, in the order in which they were queued."""
    query = select(outbox).where(outbox.c.status == "pending", outbox.c.next_attempt <= now)
    return [_delivery(row) for row in connection.execute(query.order_by(outbox.c.id).limit(limit))]


def next_due(connection: Connection) -> float | None:
    """When the next message is due; None when nothing waits."""
    query = select(outbox.c.next_attempt).where(outbox.c.status == "pending").order_by(outbox.c.next_attempt).limit(1)
    moment: float | None = connection.execute(query).scalar()
    return moment


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        peer_id=row.peer_id,
        kind=row.kind,
        content_hash=row.content_hash,
        status=row.status,
        attempts=row.attempts,
        next_attempt=row.next_attempt,
        reason=row.reason,
        evidence=json.loads(row.evidence),
    )

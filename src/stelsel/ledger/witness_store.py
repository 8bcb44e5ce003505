"""What a witness keeps: the keys of ledgers it was told of, the last tree it cosigned of each, what it caught."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Float, Integer, String, Table, Text, UniqueConstraint, delete, func, select

from stelsel.base.canonical import canonical
from stelsel.base.database import metadata
from stelsel.ledger.checkpoint import TreeHead, read_tree_head
from stelsel.ledger.endorsement import Endorsement
from stelsel.ledger.note import read_note

MAXIMUM_KEYS = 16
"""Endorsements kept of one ledger: it makes one at each start, and needs the one of the time of a checkpoint."""
MAXIMUM_FINDINGS = 10
"""Findings kept of one ledger and kind: the first ones; one is enough to prove it."""

_keys = Table(
    "ledger_witness_keys",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("origin", String, nullable=False, index=True),
    Column("key", String, nullable=False),
    Column("endorsement", Text, nullable=False),
    UniqueConstraint("origin", "endorsement"),
)
_seen = Table(
    "ledger_witness_seen",
    metadata,
    Column("origin_hash", String, primary_key=True),
    Column("origin", String, nullable=False, unique=True),
    Column("checkpoint", Text, nullable=False),
    Column("endorsement", Text, nullable=False),
    Column("cosignature", Text, nullable=False),
    Column("time", Float, nullable=False),
)
_findings = Table(
    "ledger_witness_findings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("origin", String, nullable=False, index=True),
    Column("peer_id", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("about", String, nullable=False),
    Column("document", Text, nullable=False),
    Column("time", Float, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Known:
    """A key of a ledger, and its peer's word for it."""

    key: bytes
    endorsement: Endorsement


@dataclass(frozen=True, slots=True)
class Seen:
    """The last checkpoint of a ledger that was cosigned."""

    origin: str
    checkpoint: str
    """The signed note, with the ledger's own signature only."""
    endorsement: Endorsement
    cosignature: str
    """The line."""
    time: float

    @property
    def head(self) -> TreeHead:
        """What it says."""
        return read_tree_head(read_note(self.checkpoint).text)


@dataclass(frozen=True, slots=True)
class Caught:
    """A ledger that was caught, and the evidence (see `two_histories`)."""

    id: int
    peer_id: str
    kind: str
    document: dict[str, Any]
    time: float

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "peer_id": self.peer_id,
            "kind": self.kind,
            "time": int(self.time),
            "evidence": self.document,
        }


def known(connection: Connection, origin: str) -> list[Known]:
    """The keys of a ledger, the newest endorsement first."""
    rows = connection.execute(
        select(_keys.c.key, _keys.c.endorsement).where(_keys.c.origin == origin).order_by(_keys.c.id.desc())
    )
    return [Known(bytes.fromhex(row.key), json.loads(row.endorsement)) for row in rows]


def keep_key(connection: Connection, origin: str, key: bytes, endorsement: Endorsement) -> None:
    """Keep a peer's word for a key; of the newest only, when there are many."""
    text = canonical(endorsement).decode("utf-8")
    same = (_keys.c.origin == origin) & (_keys.c.endorsement == text)
    if connection.execute(select(_keys.c.id).where(same)).first() is not None:
        return
    connection.execute(_keys.insert().values(origin=origin, key=key.hex(), endorsement=text))
    newest = select(_keys.c.id).where(_keys.c.origin == origin).order_by(_keys.c.id.desc()).limit(MAXIMUM_KEYS)
    connection.execute(delete(_keys).where(_keys.c.origin == origin, _keys.c.id.not_in(newest)))


def seen(connection: Connection, *, origin: str | None = None, origin_hash: str | None = None) -> Seen | None:
    """What was cosigned last of a ledger, by its origin or the hash of that."""
    where = _seen.c.origin == origin if origin is not None else _seen.c.origin_hash == origin_hash
    row = connection.execute(select(_seen).where(where)).first()
    if row is None:
        return None
    return Seen(row.origin, row.checkpoint, json.loads(row.endorsement), row.cosignature, row.time)


def keep_seen(connection: Connection, origin_hash: str, new: Seen) -> None:
    """Put this in the place of what was cosigned before."""
    connection.execute(delete(_seen).where(_seen.c.origin_hash == origin_hash))
    connection.execute(
        _seen.insert().values(
            origin_hash=origin_hash,
            origin=new.origin,
            checkpoint=new.checkpoint,
            endorsement=canonical(new.endorsement).decode("utf-8"),
            cosignature=new.cosignature,
            time=new.time,
        )
    )


def witnessed(connection: Connection) -> int:
    """Of how many ledgers something was cosigned."""
    return int(connection.execute(select(func.count()).select_from(_seen)).scalar_one())


def keep_finding(
    connection: Connection, origin: str, peer_id: str, document: dict[str, Any], about: str, time: float
) -> bool:
    """Keep evidence; gives whether it was kept.

    Not when the same is there (`about` names it: what the two checkpoints say, not when), or enough of this kind.
    """
    alike = (_findings.c.origin == origin) & (_findings.c.kind == document["kind"])
    there = [row.about for row in connection.execute(select(_findings.c.about).where(alike))]
    if about in there or len(there) >= MAXIMUM_FINDINGS:
        return False
    text, kind = canonical(document).decode("utf-8"), document["kind"]
    connection.execute(
        _findings.insert().values(origin=origin, peer_id=peer_id, kind=kind, about=about, document=text, time=time)
    )
    return True


def findings(connection: Connection) -> list[Caught]:
    """All that was caught, the oldest first."""
    rows = connection.execute(select(_findings).order_by(_findings.c.id))
    return [Caught(row.id, row.peer_id, row.kind, json.loads(row.document), row.time) for row in rows]

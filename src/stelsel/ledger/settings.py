"""The section `[ledger]` of a node's file."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field, model_validator

from stelsel.agreements.group import PeerId
from stelsel.base.settings import RelativePath, Settings

SEGMENTS = "segments"
"""The journal is kept in files of the node's own."""


def _journal(value: str) -> str:
    if value == SEGMENTS:
        return value
    if not value.startswith(("postgresql://", "postgres://")):
        raise ValueError('must be "segments" or the address of a database, postgresql://user@host/database')
    try:
        parts = urlsplit(value)
        names = {name.lower() for name in parse_qs(parts.query, keep_blank_values=True)}
    except ValueError:
        raise ValueError("the address of the database cannot be read") from None
    if ":" in parts.netloc.rpartition("@")[0] or names & {"password", "sslpassword"}:
        raise ValueError("a password does not belong in an address: put it in the file journal_password_file")
    return value


class LedgerSettings(Settings):
    """Limits of the ledger. The defaults suit a node of any size."""

    journal: Annotated[str, AfterValidator(_journal)] = Field(
        default=SEGMENTS,
        max_length=2000,
        description="where records become durable: `segments` (files of this node), or a PostgreSQL database that "
        "many hosts share, `postgresql://user@host/database`; see [PostgreSQL](postgres.md)",
    )
    journal_password_file: RelativePath | None = Field(
        default=None,
        description="file with the password of that database on its first line; without it `PGPASSWORD`, "
        "`~/.pgpass` or a client certificate",
    )
    deadline: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="seconds that a request waits for its record to be on disk before it is refused",
    )
    batch_records: int = Field(
        default=1024, ge=1, le=65536, description="records that share one write and one sync, at most"
    )
    waiting_records: int = Field(
        default=20_000, ge=1, le=1_000_000, description="records that may wait for the disk; more are refused at once"
    )
    io_uring: bool = Field(
        default=True,
        description="let the Linux kernel write and sync segments behind the event loop, where it has io_uring and "
        "allows it; else, and with false, a thread does it, which takes more processor time",
    )
    segment_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=4096,
        le=2**31,
        description="bytes in a segment file before the journal starts the next",
    )
    record_bytes: int = Field(
        default=64 * 1024, ge=1024, le=2**20, description="bytes in one record, at most; a larger one is refused"
    )
    index_pause: float = Field(
        default=1.0,
        ge=0.01,
        le=60,
        description="seconds between two rounds of the index: the more records a round takes in, the less each costs; "
        "a search never waits for it",
    )
    index_apart: bool = Field(
        default=False,
        description="build the search index in a process of its own, in time that nothing else takes: for nodes with "
        "much traffic on a machine with a processor to spare; costs some 20 MB of memory. Records in PostgreSQL are "
        "indexed in the node's own process whatever this says",
    )
    find_deadline: float = Field(
        default=10.0, gt=0, le=300, description="seconds that a search waits for the index to hold all that is on disk"
    )
    keep_days: int = Field(
        default=7305,
        ge=0,
        le=36_525,
        description="days after which a record is erased, while its proofs stay; 0: never. The default is twenty "
        "years, see [Retention](operate.md#retention)",
    )
    witnesses: tuple[PeerId, ...] = Field(
        default=(),
        max_length=32,
        description="OINs of the peers that are asked to cosign this ledger's checkpoints; see "
        "[Witnesses](operate.md#witnesses)",
    )
    witness_quorum: int = Field(
        default=1,
        ge=1,
        le=32,
        description="how many of them must cosign a checkpoint before it is kept and used for receipts (k of n)",
    )
    witness_interval: float = Field(
        default=60.0, gt=0, le=86_400, description="seconds between two times that the witnesses are asked"
    )
    witness_for_others: bool = Field(
        default=True, description="whether this node cosigns the checkpoints of other peers of the group that ask it"
    )

    @model_validator(mode="after")
    def _enough_witnesses(self) -> LedgerSettings:
        if len(set(self.witnesses)) != len(self.witnesses):
            raise ValueError("witnesses names a peer twice")
        if self.witnesses and self.witness_quorum > len(self.witnesses):
            raise ValueError("witness_quorum is more than there are witnesses")
        return self

"""The section `[ledger]` of a node's file."""

from __future__ import annotations

from pydantic import Field

from stelsel.base.settings import Settings


class LedgerSettings(Settings):
    """Limits of the ledger. The defaults suit a node of any size."""

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
        default=0.25, ge=0.01, le=60, description="seconds between two rounds of the index; a search never waits for it"
    )
    find_deadline: float = Field(
        default=10.0, gt=0, le=300, description="seconds that a search waits for the index to hold all that is on disk"
    )

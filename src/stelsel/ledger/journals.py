"""Which journal a ledger has: segment files of its own, or a database that it shares with other hosts."""

from __future__ import annotations

import json
from pathlib import Path

from stelsel.base.errors import ConfigurationFault
from stelsel.ledger.commitment import commitment, sealed
from stelsel.ledger.faults import LedgerCorrupt
from stelsel.ledger.index import Index
from stelsel.ledger.journal import Journal
from stelsel.ledger.merkle import leaf_hash
from stelsel.ledger.record import Record
from stelsel.ledger.segments import SegmentJournal
from stelsel.ledger.settings import SEGMENTS, LedgerSettings


def open_journal(settings: LedgerSettings, *, folder: Path, index: Index, peer_id: str, public_key: bytes) -> Journal:
    """The journal that the settings name. `public_key` (32 bytes) signs for the ledger of this peer.

    Raises `ConfigurationFault`, `LedgerCorrupt` when it lacks what the index knows, or `LedgerUnavailable`.
    """
    if settings.journal == SEGMENTS:
        return SegmentJournal(folder / "segments", segment_bytes=settings.segment_bytes, known=index.size, ahead=True)
    try:
        from stelsel.ledger.postgres import PostgresJournal  # the driver takes memory: only for who uses it
    except ImportError as error:
        raise ConfigurationFault(
            "ledger.journal names a PostgreSQL database, but its driver is not installed",
            next_step="pip install 'stelsel[postgres]'",
        ) from error
    journal = PostgresJournal(
        settings.journal,
        password_file=settings.journal_password_file,
        peer_id=peer_id,
        public_key=public_key,
        deadline=settings.deadline,
        known=index.size,
    )
    try:
        _check_same_history(index, journal)
    except BaseException:
        journal.close()
        raise
    return journal


def _check_same_history(index: Index, journal: Journal) -> None:
    """The record that the index took in last is that of the journal, so the index is of this journal."""
    if index.size == 0:
        return
    last = index.size - 1
    with index.reading() as reader:
        leaf = reader.tree().node(0, last)
    (line,) = journal.lines(last, last + 1)
    if line.record:
        counted, seal = Record.from_json(json.loads(line.record)).canonical_counted(), sealed(line.nonce, line.record)
    else:
        counted, seal = line.counted, line.seal
    if leaf_hash(commitment(counted, seal)) != leaf:
        raise LedgerCorrupt(
            f"record {last} in the ledger's database is not the one that this host knows",
            next_step="if this host was moved to this database on purpose, give it an empty ledger folder with "
            "ledger.key in it; otherwise the database lost records: put back its backup",
        )

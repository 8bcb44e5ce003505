"""What the ledger's tests share: records, and an open ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ledger_databases import (  # noqa: F401 - fixtures
    journal_setting,
    new_database,
    new_journal,
    open_journal,
    postgres_server,
    server,
)

from stelsel.base.certificates import KeyPair
from stelsel.base.clock import SystemClock
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger
from stelsel.ledger.settings import LedgerSettings

PROVIDER = "00000099000000002000"


@pytest.fixture(scope="session")
def record() -> Callable[..., Record]:
    """Makes record number n, with any member set otherwise."""

    def make(number: int = 0, **members: Any) -> Record:
        values: dict[str, Any] = {
            "transaction_id": f"01900000-0000-7000-8000-{number:012x}",
            "trace_id": f"{number + 1:032x}",
            "span_id": "b7ad6b7169203331",
            "parent_span_id": None,
            "time": 1_764_000_000_000 + number * 1000,
            "direction": "incoming",
            "event": "request",
            "grant_hash": "$1$3$abc+def/ghi",
            "consumer": "00000099000000003000",
            "provider": PROVIDER,
            "service": "personen",
            "allowed": True,
            "reason": "allowed",
            "fields": ("naam.volledigeNaam",),
            "processing_activity": "https://example.nl/parking@1",
        }
        return Record(**values | members)

    return make


@pytest.fixture(scope="session")
def provider(new_keypair: Callable[..., KeyPair]) -> KeyPair:
    return new_keypair(PROVIDER, "Bevolkingsregister")


@pytest.fixture
def new_ledger(tmp_path: Path, provider: KeyPair) -> Callable[..., Ledger]:
    """Makes a ledger (not started) in the test's folder; settings may be given."""

    def make(name: str = "ledger", **settings: Any) -> Ledger:
        chosen = LedgerSettings(**{"index_pause": 0.02, **settings})
        return Ledger(folder=tmp_path / name, keypair=provider, clock=SystemClock(), settings=chosen)

    return make

"""The journal: records in the order in which they were acknowledged, durable before anything is forwarded.

Here is what a journal is, whatever it is kept in: segment files (`segments`) or a database (`postgres`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from stelsel.ledger.batch import Item


@dataclass(frozen=True, slots=True)
class Position:
    """Where the record with this index starts in the journal."""

    index: int
    segment: int
    offset: int
    generation: int = 0
    """How often the segment was rewritten when this was its place (see `prune`); another one: look for the index."""


@dataclass(frozen=True, slots=True)
class Line:
    """A record as the journal holds it: `nonce` and `record`, or what is left of one that was erased."""

    position: Position
    after: Position
    """Where the next one starts, if it is in the same segment."""
    nonce: bytes
    record: bytes
    """Canonical JSON. Empty: it was erased."""
    seal: bytes = b""
    """Of an erased record: `commitment.sealed` (32 bytes), so that its leaf can still be made. Else empty."""
    counted: bytes = b""
    """Of an erased record: the canonical `Record.counted`. Else empty."""


class Piece(NamedTuple):
    """Some records that follow each other in one segment, as `Journal.pieces` gives them: no object a record."""

    first: int
    """Index of the first."""
    segment: int
    generation: int
    offsets: list[int]
    """Of each record its `Position.offset`."""
    payloads: list[bytes]
    """Of each record b"R" + nonce (16 bytes) + canonical JSON; of an erased one b"P" + seal (32 bytes) + counted."""
    after: Position
    """Where the next record starts, if it is in the same segment."""


class Pruned(NamedTuple):
    """What a prune did: counts only."""

    records: int
    """Records erased now."""
    segments: int
    """Files rewritten, of a journal that has files; else 0."""


class Journal(Protocol):
    """Where records become durable. All methods block; `append` is called by one thread at a time.

    `prune` is called by another thread, one at a time, while `append` and reading go on.
    """

    size: int
    """How many records are durable. Never shrinks: an erased record keeps its place."""

    def append(self, batch: Iterable[Item]) -> int:
        """Make the records durable, those about a resident numbered; gives the index of the first.

        A record with a subject gets the next number of that subject (`record.numbered`): 1, 2, 3... in the order of
        the journal, without gaps, also after a batch that was refused, a crash or a prune. Raises `LedgerUnavailable`.
        """

    def refresh(self) -> int:
        """Look how many records are durable, those of other hosts too; gives `size`. Raises `LedgerUnavailable`."""

    def lines(self, start: int, stop: int, near: Position | None = None) -> Iterator[Line]:
        """The lines start..stop-1; `near` is a known position not after `start`. Raises `LedgerUnavailable`."""

    def pieces(self, start: int, stop: int, near: Position | None = None) -> Iterator[Piece]:
        """The same as `lines`, for who goes through many: pieces of some hundreds of records."""

    def line(self, position: Position) -> Line:
        """The one line at this position. Raises `LedgerUnavailable`."""

    def lines_at(self, positions: Iterable[Position]) -> Iterator[Line]:
        """The lines at these positions, in this order. Raises `LedgerUnavailable`."""

    def prune(self, before_ms: int, start: int, stop: int) -> Pruned:
        """Erase for good those of the records start..stop-1 whose own `time` is before `before_ms` (ms since epoch).

        Of each the seal and the counted part stay in its place, so that its leaf, the tree, the evidence and every
        proof of others hold; record and nonce are gone, from backups of the live files
        excepted. A record that cannot be erased now (a segment that is still being written to) is left for the next
        time. Before a record about a resident is erased, that subject's highest number is kept apart, without any
        time, so that numbering goes on. Whole or not at all for each record, whatever crashes; doing it again does
        no harm. Raises `LedgerUnavailable`.
        """

    def last_number(self, subject: str) -> int:
        """The number of the latest record about this subject (a reference); 0 when there never was one."""

    def generations(self) -> dict[int, int]:
        """Of every segment that was ever rewritten, by its number: how often. Empty when places never change."""

    def close(self) -> None:
        """Let go of the files."""

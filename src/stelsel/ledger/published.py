"""What a ledger publishes of its tree: tiles and entries in the layout of C2SP tlog-tiles, read from what it keeps."""

from __future__ import annotations

from collections.abc import Callable

from stelsel.base.errors import NotFound
from stelsel.ledger.commitment import commitment, sealed
from stelsel.ledger.glance import counted_of
from stelsel.ledger.index import Reader
from stelsel.ledger.journal import Journal, Line
from stelsel.ledger.merkle import HASH_SIZE, TILE_WIDTH
from stelsel.ledger.remote_tree import tile_width

_HIGHEST = 7
"""The highest level of a tile that a tree of fewer than 2**63 leaves can have."""


def tile(level: int, number: int, width: int) -> Callable[[Reader], bytes]:
    """Reads the first `width` hashes of a tile. Raises `NotFound` when the tree has not grown so far."""

    def read(reader: Reader) -> bytes:
        tree = reader.tree()
        _check(tree.size, level, number, width)
        return tree.tile(level, number)[: width * HASH_SIZE]

    return read


def entries(journal: Journal, number: int, width: int) -> Callable[[Reader], bytes]:
    """Reads a bundle of entries: of each record the commitment (32 bytes), with its length before it (two bytes)."""

    def read(reader: Reader) -> bytes:
        _check(reader.tree().size, 0, number, width)
        first = number * TILE_WIDTH
        near = reader.position(first)
        bundle = [commitment_of(line) for line in journal.lines(first, first + width, near)]
        return b"".join(len(entry).to_bytes(2, "big") + entry for entry in bundle)

    return read


def commitment_of(line: Line) -> bytes:
    """What stands in the tree for a line of the journal, also when its record was erased."""
    if line.record:
        return commitment(counted_of(line.record), sealed(line.nonce, line.record))
    return commitment(line.counted, line.seal)


def _check(size: int, level: int, number: int, width: int) -> None:
    if not 0 <= level <= _HIGHEST or not 0 <= number < 1 << 56 or not 0 < width <= TILE_WIDTH:
        raise NotFound("a tree has no such tile")
    if tile_width(size, level, number) < width:
        raise NotFound("the tree has not grown so far", next_step="ask the checkpoint for its size")

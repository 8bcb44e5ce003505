"""An audit of a whole ledger: every leaf computed again from its record, and everything that was ever said compared.

The tree is grown anew from the journal, by other code than that which keeps the tiles. On the way each tile that was
stored is compared with the one that comes out, and each checkpoint that was kept with the root at its size: so that
what is there now continues all that was shown before. Memory stays small whatever the size.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, zip_longest
from typing import Any

from stelsel.base.clock import moment
from stelsel.ledger.checkpoint import SignedCheckpoint
from stelsel.ledger.commitment import commitment, sealed
from stelsel.ledger.faults import LedgerCorrupt, LedgerUnavailable, ProofInvalid
from stelsel.ledger.journal import Line
from stelsel.ledger.kept import WITNESSED, Kept
from stelsel.ledger.merkle import EMPTY_ROOT, HASH_SIZE, TILE_HEIGHT, TILE_WIDTH, leaf_hash, node_hash
from stelsel.ledger.note import VerifierKey, is_signed_by
from stelsel.ledger.record import Record

MOST_DIFFERENCES = 20
"""Told one by one; of more only the number is told."""
_STEP = 4096
_SLICE = 64
_REBUILD = "if no checkpoint differs, the journal is right: stop the node, remove ledger/index.sqlite, start it again"
_RESTORE = "stop the node, keep a copy of its ledger folder, and put back the journal from the newest backup"

Tile = tuple[int, int]
"""(level, number)."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the audit is, in records."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not what it should be."""

    what: str
    """`record`, `tile`, `root` or `checkpoint`."""
    index: int | None
    """The record where it shows first, if one can be named."""
    detail: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Report:
    """What the audit found."""

    size: int
    root: str
    """Of the tree grown anew, hexadecimal; empty when not all records could be read."""
    erased: int
    """Records that were erased by policy; their leaves were made of what is left of them."""
    tiles: int
    checkpoints: int
    """Kept checkpoints that were compared."""
    differences: tuple[Difference, ...] = ()
    untold: int = 0
    """Differences beyond those that are told."""

    @property
    def sound(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    @property
    def verdict(self) -> str:
        """In one line."""
        if self.sound:
            return (
                f"The ledger is whole: {self.size} records give the tree that is stored, and it continues all "
                f"{self.checkpoints} checkpoints that were kept."
            )
        return f"The ledger differs from what it should be, in {len(self.differences) + self.untold} place(s)."

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"sound": self.sound, "verdict": self.verdict}


def report_of(value: dict[str, Any]) -> Report:
    """The report that `to_json` gave."""
    members = {name: value[name] for name in Report.__dataclass_fields__}
    return Report(**members | {"differences": tuple(Difference(**each) for each in value["differences"])})


@dataclass(slots=True)
class _Tree:
    """The tree so far: for each level the tile that is being filled, and the complete subtrees of the right edge."""

    size: int = 0
    filling: list[bytearray] = field(default_factory=list)
    edge: list[tuple[int, bytes]] = field(default_factory=list)
    full: list[tuple[Tile, bytes]] = field(default_factory=list)
    """Tiles that became full since they were last taken."""

    def add(self, leaf: bytes) -> None:
        level, value = 0, leaf
        while True:
            if level % TILE_HEIGHT == 0:
                self._fill(level // TILE_HEIGHT, value)
            if not self.edge or self.edge[-1][0] != level:
                break
            value = node_hash(self.edge.pop()[1], value)
            level += 1
        self.edge.append((level, value))
        self.size += 1

    def root(self) -> bytes:
        if not self.edge:
            return EMPTY_ROOT
        value = self.edge[-1][1]
        for _, left in reversed(self.edge[:-1]):
            value = node_hash(left, value)
        return value

    def partial(self) -> list[tuple[Tile, bytes]]:
        """The tiles of the right edge that are not full."""
        return [
            ((level, (self.size >> (TILE_HEIGHT * level)) // TILE_WIDTH), bytes(tile))
            for level, tile in enumerate(self.filling)
            if tile
        ]

    def _fill(self, level: int, value: bytes) -> None:
        if level == len(self.filling):
            self.filling.append(bytearray())
        tile = self.filling[level]
        tile += value
        if len(tile) == TILE_WIDTH * HASH_SIZE:
            number = self.size >> (TILE_HEIGHT * (level + 1))
            self.full.append(((level, number), bytes(tile)))
            tile.clear()


class _Findings:
    def __init__(self) -> None:
        self.told: list[Difference] = []
        self.untold = 0

    def add(self, what: str, index: int | None, detail: str, next_step: str) -> None:
        if len(self.told) < MOST_DIFFERENCES:
            self.told.append(Difference(what, index, detail, next_step))
        else:
            self.untold += 1


def examine(
    *,
    size: int,
    stored_root: bytes,
    lines: Callable[[int, int], Iterator[Line]],
    stored: Callable[[list[Tile]], list[bytes]],
    kept: Iterable[Kept],
    key: VerifierKey,
    pause: float = 0.0,
) -> Iterator[Progress | Report]:
    """Audit the first `size` records; the last that is yielded is the report.

    `stored_root` is what the stored tiles give as root, `lines` reads the journal, `stored` the tiles as they are
    kept (empty where there is none), `kept` the checkpoints. `pause` in seconds lets others use the processor.
    """
    findings = _Findings()
    checkpoints = _own(kept, key, size, findings)
    tree = _Tree()
    tiles = erased = compared = at = 0
    at, compared = _compare_checkpoints(checkpoints, at, tree, findings, compared)
    reading, singly = (lines(0, size) if size else iter(())), False
    while tree.size < size:
        yield Progress(tree.size, size)
        stop = min(size, tree.size + _STEP)
        try:
            while tree.size < stop:
                line = next(reading)
                erased += not line.record
                tree.add(_leaf(line))
                if at < len(checkpoints) and checkpoints[at][1].size == tree.size:
                    at, compared = _compare_checkpoints(checkpoints, at, tree, findings, compared)
                if pause and tree.size % _SLICE == 0:
                    time.sleep(pause)
        except (LedgerCorrupt, LedgerUnavailable) as fault:
            if not singly:  # a journal reads many at once: one by one up to the very record that is damaged
                reading, singly = chain.from_iterable(lines(each, each + 1) for each in range(tree.size, size)), True
                continue
            findings.add("record", tree.size, fault.detail, fault.next_step)
            break
        except (ValueError, TypeError, KeyError, StopIteration, ProofInvalid):
            findings.add("record", tree.size, f"record {tree.size} cannot be read as one", _RESTORE)
            break
        tiles += _compare_tiles(tree.full, stored, findings)
        tree.full.clear()
    whole = tree.size == size
    if whole:
        tiles += _compare_tiles(tree.partial(), stored, findings)
        if tree.root() != stored_root:
            findings.add("root", None, f"the stored tree of {size} records has another root", _REBUILD)
    elif at < len(checkpoints):
        detail = f"{len(checkpoints) - at} checkpoint(s) of more records could not be compared"
        findings.add("checkpoint", tree.size, detail, _RESTORE)
    root = tree.root().hex() if whole else ""
    yield Progress(tree.size, size)
    yield Report(size, root, erased, tiles, compared, tuple(findings.told), findings.untold)


def _leaf(line: Line) -> bytes:
    if not line.record:
        return leaf_hash(commitment(line.counted, line.seal))
    counted = Record.from_json(json.loads(line.record)).canonical_counted()
    return leaf_hash(commitment(counted, sealed(line.nonce, line.record)))


def _own(kept: Iterable[Kept], key: VerifierKey, size: int, findings: _Findings) -> list[tuple[Kept, SignedCheckpoint]]:
    """The kept checkpoints that can be compared, by size; the others are differences."""
    found: list[tuple[Kept, SignedCheckpoint]] = []
    for each in kept:
        checkpoint = each.checkpoint
        where = f"checkpoint {each.number} of those that were kept"
        if checkpoint is None:
            findings.add("checkpoint", None, f"{where} cannot be read", "put checkpoints.jsonl back from a backup")
        elif not _is_ours(checkpoint, key):
            step = "put checkpoints.jsonl back from a backup, or ledger.key if that was replaced"
            findings.add("checkpoint", None, f"{where} ({_shown(checkpoint)}) is not signed by this ledger's key", step)
        elif checkpoint.size > size:
            detail = f"{where} ({_shown(checkpoint)}) is of more records than the {size} there are: records are gone"
            findings.add("checkpoint", size, detail, _RESTORE)
        else:
            found.append((each, checkpoint))
    return sorted(found, key=lambda pair: pair[1].size)


def _is_ours(checkpoint: SignedCheckpoint, key: VerifierKey) -> bool:
    try:
        return checkpoint.origin == key.name and is_signed_by(checkpoint.note, key)
    except ProofInvalid:
        return False


def _compare_checkpoints(
    checkpoints: list[tuple[Kept, SignedCheckpoint]], at: int, tree: _Tree, findings: _Findings, compared: int
) -> tuple[int, int]:
    """Compare all of the tree's present size; gives where to go on, and how many were compared."""
    root = tree.root()
    while at < len(checkpoints) and checkpoints[at][1].size == tree.size:
        each, checkpoint = checkpoints[at]
        at, compared = at + 1, compared + 1
        if checkpoint.root == root:
            continue
        who = "a witness holds one of ours" if each.kind == WITNESSED else "this ledger signed it"
        detail = (
            f"checkpoint {each.number} of those that were kept ({_shown(checkpoint)}; {who}) has another root than "
            f"the first {tree.size} records give: at least one of them was changed, or another history was put back"
        )
        findings.add("checkpoint", max(tree.size - 1, 0), detail, _RESTORE)
    return at, compared


def _compare_tiles(
    tiles: list[tuple[Tile, bytes]], stored: Callable[[list[Tile]], list[bytes]], findings: _Findings
) -> int:
    if not tiles:
        return 0
    for ((level, number), made), kept in zip(tiles, stored([tile for tile, _ in tiles]), strict=True):
        kept = kept[: len(made)]  # a tile of the right edge may have grown since
        if made == kept:
            continue
        column = next(place // HASH_SIZE for place, (one, other) in enumerate(zip_longest(made, kept)) if one != other)
        first = (number * TILE_WIDTH + column) << (TILE_HEIGHT * level)
        detail = f"tile {level}/{number} differs at hash {column}, over record {first}"
        if level:
            detail += f" and the {(1 << TILE_HEIGHT * level) - 1} after it"
        findings.add("tile", first, detail, _REBUILD)
    return len(tiles)


def _shown(checkpoint: SignedCheckpoint) -> str:
    return f"{checkpoint.size} records, {moment(checkpoint.time)}"

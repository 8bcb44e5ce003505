"""Holds the journals against what clients were answered, what the service saw, and what the ledgers signed.

Everything is read from the first record on at every check, and all trees are computed anew from the records, by
RFC 6962 and nothing that the nodes built.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stelsel.ledger.commitment import commitment, sealed
from stelsel.ledger.merkle import EMPTY_ROOT, leaf_hash, node_hash
from stelsel.ledger.record import Record

MISSING_ID = b"-" * 36


@dataclass
class Findings:
    """What is wrong; all empty when nothing is."""

    lost: list[str] = field(default_factory=list)
    """Answered, but without a record at one side, or never seen by the service."""
    doubled: list[str] = field(default_factory=list)
    """Answered once, but recorded or carried more than once."""
    unrecorded: list[str] = field(default_factory=list)
    """Reached the service without a record at both sides, answered or not."""
    inconsistent: list[str] = field(default_factory=list)
    """Checkpoints that the journal does not bear out."""
    misnumbered: list[str] = field(default_factory=list)
    """Residents whose records are not numbered 1, 2, 3 and so on."""
    repeated_looks: int = 0
    """GETs that were sent again over a new connection, as is allowed: no fault."""

    @property
    def any(self) -> bool:
        """Whether something is wrong."""
        return bool(self.lost or self.doubled or self.unrecorded or self.inconsistent or self.misnumbered)


@dataclass
class Read:
    """What was read from one journal."""

    size: int = 0
    requests: Counter[bytes] = field(default_factory=Counter)
    """Transaction id to how often a request was recorded as allowed."""
    answers: Counter[bytes] = field(default_factory=Counter)
    numbers: dict[str, int] = field(default_factory=dict)
    inconsistent: list[str] = field(default_factory=list)
    misnumbered: list[str] = field(default_factory=list)


def read(name: str, lines: Iterable[tuple[bytes, bytes]], checkpoints: Mapping[int, bytes]) -> Read:
    """Read a journal, (nonce, record) by (nonce, record), and hold it against the checkpoints (size to root)."""
    found, tree = Read(), _Tree()
    for nonce, line in lines:
        _hold(name, found, tree, checkpoints)
        value = json.loads(line)
        record = Record.from_json(value)
        tree.append(leaf_hash(commitment(record.canonical_counted(), sealed(nonce, line))))
        found.size += 1
        if record.allowed and record.event == "request":
            found.requests[record.transaction_id.encode()] += 1
        number = value.get("subject_sequence")
        if number is not None:
            found.numbers[record.subject] = found.numbers.get(record.subject, 0) + 1
            if number != found.numbers[record.subject]:
                found.misnumbered.append(f"{name}: record {found.size - 1} has number {number} of its resident")
    _hold(name, found, tree, checkpoints)
    for size in sorted(checkpoints):
        if size > found.size:
            found.inconsistent.append(f"{name}: signed {size} records, holds {found.size}")
    return found


def compare(answered: Mapping[bytes, bool], consumer: Read, provider: Read, seen: Counter[bytes]) -> Findings:
    """Every answered request is at both sides and at the service; `answered` says which may be there only once."""
    findings = Findings(inconsistent=[*consumer.inconsistent, *provider.inconsistent])
    findings.misnumbered = [*consumer.misnumbered, *provider.misnumbered]
    for transaction, strict in answered.items():
        out, into, there = consumer.requests[transaction], provider.requests[transaction], seen[transaction]
        where = f"{transaction.decode()} (consumer {out}, provider {into}, service {there})"
        if not (out and into and there):
            findings.lost.append(where)
        elif out > 1 or (strict and max(into, there) > 1):
            findings.doubled.append(where)
        elif max(into, there) > 1:
            findings.repeated_looks += 1
    for transaction in seen:
        if not (consumer.requests[transaction] and provider.requests[transaction]):
            findings.unrecorded.append(transaction.decode())
    return findings


def seen_by_service(file: Path) -> Counter[bytes]:
    """How often each transaction reached the service."""
    with file.open("rb") as lines:
        return Counter(line.rstrip(b"\n") for line in lines if line.endswith(b"\n"))


def _hold(name: str, found: Read, tree: _Tree, checkpoints: Mapping[int, bytes]) -> None:
    root = checkpoints.get(found.size)
    if root is not None and root != tree.root():
        found.inconsistent.append(f"{name}: what it signed of its first {found.size} records is not what it holds")


class _Tree:
    """The right edge of a Merkle tree (RFC 6962, section 2.1): complete subtrees of falling height."""

    def __init__(self) -> None:
        self._edge: list[tuple[int, bytes]] = []

    def append(self, leaf: bytes) -> None:
        level = 0
        while self._edge and self._edge[-1][0] == level:
            level, leaf = level + 1, node_hash(self._edge.pop()[1], leaf)
        self._edge.append((level, leaf))

    def root(self) -> bytes:
        hashes: Iterator[bytes] = (value for _, value in reversed(self._edge))
        root = next(hashes, EMPTY_ROOT)
        for value in hashes:
            root = node_hash(value, root)
        return root

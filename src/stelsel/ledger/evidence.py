"""Counted evidence: from it anyone recomputes how often what happened, and that nothing was left out or made up.

Newline-delimited JSON, a line a record, in the order of the ledger: `{"counted": {...}, "sealed": "<hex>"}`.
From both a leaf follows, from all leaves the root, and the root is in a signed checkpoint. `counted` holds nothing
about a person; `sealed` tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stelsel.base.canonical import canonical, parse_object
from stelsel.base.certificates import TrustAnchors
from stelsel.base.errors import BadRequest
from stelsel.ledger.checkpoint import verify_checkpoint
from stelsel.ledger.commitment import commitment
from stelsel.ledger.endorsement import Endorsement
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.merkle import EMPTY_ROOT, leaf_hash, node_hash
from stelsel.ledger.receipts import unhex

LONGEST_LINE = 64 * 1024


def line(counted: bytes, seal: bytes) -> bytes:
    """The line of a record with this canonical counted part."""
    return b'{"counted":' + counted + b',"sealed":"' + seal.hex().encode("ascii") + b'"}\n'


def verify_counted(
    lines: Iterable[bytes], checkpoint: str, endorsement: Endorsement, anchors: TrustAnchors | None, now: float
) -> Iterator[dict[str, Any]]:
    """The counted parts behind a checkpoint, one by one. Raises `ProofInvalid`.

    **Nothing is proven before the iterator has ended by itself**: only then the root was compared. Sum up while
    iterating, and use the sums after. Memory stays small whatever the size.
    """
    verified = verify_checkpoint(checkpoint, endorsement, anchors, now)
    edge: list[tuple[int, bytes]] = []  # complete subtrees of the right edge: (level, hash), falling levels
    size = 0
    for text in lines:
        if size == verified.size:
            raise ProofInvalid("the evidence holds more records than the checkpoint")
        counted, leaf = _read(text)
        level, value = 0, leaf
        while edge and edge[-1][0] == level:
            level, value = level + 1, node_hash(edge.pop()[1], value)
        edge.append((level, value))
        size += 1
        yield counted
    if size != verified.size:
        raise ProofInvalid("the evidence holds fewer records than the checkpoint")
    root = edge.pop()[1] if edge else EMPTY_ROOT
    while edge:
        root = node_hash(edge.pop()[1], root)
    if root != verified.root:
        raise ProofInvalid("the evidence is not what the ledger signed")


def read_line(text: bytes) -> tuple[bytes, bytes]:
    """(canonical counted part, seal) of a line of evidence. Raises `ProofInvalid`."""
    counted, seal = _parse(text)
    return canonical(counted), seal


def _read(text: bytes) -> tuple[dict[str, Any], bytes]:
    counted, seal = _parse(text)
    return counted, leaf_hash(commitment(canonical(counted), seal))


def _parse(text: bytes) -> tuple[dict[str, Any], bytes]:
    if len(text) > LONGEST_LINE:
        raise ProofInvalid("a line of the evidence is too long")
    try:
        value = parse_object(text)
    except BadRequest as error:
        raise ProofInvalid(f"a line of the evidence cannot be read: {error.detail}") from error
    counted = value.get("counted")
    if set(value) != {"counted", "sealed"} or not isinstance(counted, dict):
        raise ProofInvalid("a line of the evidence is not what it should be")
    return counted, unhex(value["sealed"])

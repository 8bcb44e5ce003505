"""Evidence that a ledger told two histories, for anyone to check offline.

A document of canonical JSON with two checkpoints that the same peer's ledger signed, of which one cannot continue the
other:

    format, version      "stelsel-two-histories", 1
    kind                 "fork" or "rollback"
    first, second        {"checkpoint": the signed note, "endorsement": the peer's word for the key}
    consistency_proof    hashes (base64) by RFC 9162, 2.1.4, from the size of `first` to `second`; may be empty
    beginning            base64: the root that the tree of `second` had at the size of `first`, or ""

`fork`: the tree behind `second` had, at the size of `first`, the root `beginning`, as the proof shows, and `first` says
another. With equal sizes no proof is needed. `rollback`: `second` is smaller, and later by more than the clocks of the
hosts of one ledger may differ, so records are gone; that holds as far as no clock was set back between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stelsel.base.canonical import canonical, parse_object
from stelsel.base.certificates import TrustAnchors
from stelsel.base.errors import BadRequest
from stelsel.ledger.checkpoint import TreeHead, VerifiedCheckpoint, verify_checkpoint
from stelsel.ledger.endorsement import CLOCK_SKEW, Endorsement
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.merkle import beginning_of, verify_consistency
from stelsel.ledger.note import base64_of, unbase64

FORMAT = "stelsel-two-histories"
VERSION = 1
FORK, ROLLBACK = "fork", "rollback"
MAXIMUM_SIZE = 512 * 1024
_MEMBERS = {"format", "version", "kind", "first", "second", "consistency_proof", "beginning"}
_HIGHEST_TREE = 64


@dataclass(frozen=True, slots=True)
class VerifiedTwoHistories:
    """What the evidence proves: this peer's ledger signed both."""

    peer_id: str
    peer_name: str
    kind: str
    first: VerifiedCheckpoint
    second: VerifiedCheckpoint
    anchored: bool

    @property
    def sentence(self) -> str:
        """In plain words."""
        first, second = self.first, self.second
        if self.kind == ROLLBACK:
            return f"it signed {first.size} records, and later a ledger of only {second.size}"
        if first.size == second.size:
            return f"it signed two different ledgers of {first.size} records"
        return f"it signed {first.size} records, and then {second.size} of which the first {first.size} are others"


def contradiction(
    first: TreeHead, second: TreeHead, proof: Sequence[bytes], beginning: bytes = b""
) -> tuple[str, bytes] | None:
    """(kind, beginning) when `second` cannot continue `first`, by what is at hand; None when that is not shown.

    `proof` is what was given as consistency proof from the size of `first` to that of `second`, `beginning` the root
    that `second` is said to have had then, if anything was said; both may be anything.
    """
    if first.size == second.size:
        return (FORK, second.root) if first.root != second.root else None
    if second.size < first.size:
        if first.time is None or second.time is None:
            return None
        return (ROLLBACK, b"") if second.time > first.time + CLOCK_SKEW else None
    try:
        if beginning:
            verify_consistency(first.size, second.size, beginning, second.root, proof)
        else:
            beginning = beginning_of(first.size, second.size, second.root, proof)
    except ProofInvalid:
        return None
    return (FORK, beginning) if beginning != first.root else None


def make(
    kind: str,
    beginning: bytes,
    proof: Sequence[bytes],
    first: tuple[str, Endorsement],
    second: tuple[str, Endorsement],
) -> dict[str, Any]:
    """The document. `first` and `second`: a signed checkpoint and the endorsement of the key that signed it."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "first": {"checkpoint": first[0], "endorsement": first[1]},
        "second": {"checkpoint": second[0], "endorsement": second[1]},
        "consistency_proof": [base64_of(step) for step in proof],
        "beginning": base64_of(beginning) if beginning else "",
    }


def write(document: dict[str, Any]) -> bytes:
    """The document as a file."""
    return canonical(document) + b"\n"


def read(data: bytes) -> dict[str, Any]:
    """The document in a file. Proves nothing yet. Raises `ProofInvalid`."""
    if len(data) > MAXIMUM_SIZE:
        raise ProofInvalid("the file is too large for evidence of two histories")
    try:
        return parse_object(data)
    except BadRequest as error:
        raise ProofInvalid(f"the file cannot be read: {error.detail}") from error


def verify(document: dict[str, Any], anchors: TrustAnchors | None, now: float) -> VerifiedTwoHistories:
    """Check that one ledger did tell two histories. Raises `ProofInvalid` when that is not shown."""
    if set(document) != _MEMBERS or document["format"] != FORMAT or document["version"] != VERSION:
        raise ProofInvalid("this is not evidence of two histories")
    steps, kind = document["consistency_proof"], document["kind"]
    if not isinstance(steps, list) or len(steps) > _HIGHEST_TREE or kind not in (FORK, ROLLBACK):
        raise ProofInvalid("the evidence's kind or proof is not what it should be")
    proof = [unbase64(step) for step in steps]
    first, second = (_signed(document[name], anchors, now) for name in ("first", "second"))
    if first.origin != second.origin:
        raise ProofInvalid("the checkpoints are of two different ledgers")
    beginning = unbase64(document["beginning"])
    if kind == ROLLBACK:
        shown = second.size < first.size and second.time > first.time + CLOCK_SKEW and not (proof or beginning)
    elif first.size == second.size:
        shown = first.root != second.root == beginning and not proof
    else:
        verify_consistency(first.size, second.size, beginning, second.root, proof)
        shown = beginning != first.root
    if not shown:
        raise ProofInvalid("the two checkpoints do not contradict each other")
    return VerifiedTwoHistories(first.peer_id, first.peer_name, kind, first, second, first.anchored)


def _signed(value: object, anchors: TrustAnchors | None, now: float) -> VerifiedCheckpoint:
    if not isinstance(value, dict) or set(value) != {"checkpoint", "endorsement"}:
        raise ProofInvalid("a checkpoint in the evidence is not what it should be")
    if not isinstance(value["checkpoint"], str):
        raise ProofInvalid("a checkpoint in the evidence is not text")
    return verify_checkpoint(value["checkpoint"], value["endorsement"], anchors, now)

"""What a witness decides, pure: C2SP tlog-witness, `add-checkpoint`.

A witness keeps, of each ledger, the last tree that it cosigned. It cosigns another only when that is shown to continue
this one; so whoever demands its cosignature can be told no other history than everyone else. The order of the checks
and the status of each refusal are the standard's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from stelsel.base.errors import BadRequest, Conflict, Fault, Forbidden, NotFound
from stelsel.ledger.checkpoint import TreeHead, read_tree_head
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.merkle import EMPTY_ROOT, HASH_SIZE, verify_consistency
from stelsel.ledger.note import MAXIMUM_NOTE, Note, VerifierKey, is_signed_by, read_note, unbase64

MAXIMUM_PROOF = 63
MAXIMUM_REQUEST = 4 * MAXIMUM_NOTE
"""Bytes; a character in a note may take four."""
_OLD = re.compile(r"old (0|[1-9][0-9]{0,15})")


@dataclass(frozen=True, slots=True)
class Submission:
    """A request to cosign, as it was read; nothing was checked."""

    old: int
    proof: tuple[bytes, ...]
    note: Note
    head: TreeHead


class Outdated(Conflict):
    """The old size is not that of the tree that was cosigned last, which is `size`."""

    kind, title = "outdated", "The witness knows another tree of this ledger"

    def __init__(self, size: int) -> None:
        super().__init__("the witness cosigned another size last", next_step="prove consistency from that size")
        self.size = size


def read_submission(body: bytes) -> Submission:
    """Read the body of `add-checkpoint`. Raises `BadRequest`."""
    try:
        head, found, checkpoint = body.decode("utf-8").partition("\n\n")
        first, *steps = head.split("\n")
        old = _OLD.fullmatch(first)
        if not found or old is None or len(steps) > MAXIMUM_PROOF:
            raise BadRequest("a request has an old size line, at most 63 proof lines, an empty line and a checkpoint")
        proof = tuple(unbase64(step) for step in steps)
        if any(len(step) != HASH_SIZE for step in proof):
            raise BadRequest("a line of the proof is not a hash")
        note = read_note(checkpoint)
        return Submission(int(old[1]), proof, note, read_tree_head(note.text))
    except UnicodeDecodeError as error:
        raise BadRequest("the request is not text in UTF-8") from error
    except ProofInvalid as error:
        raise BadRequest(error.detail) from error


def write_submission(old: int, proof: Sequence[str], checkpoint: str) -> bytes:
    """The body of `add-checkpoint`; `proof` in base64."""
    return "".join([f"old {old}\n", *(f"{step}\n" for step in proof), "\n", checkpoint]).encode("utf-8")


def signer(submission: Submission, keys: Sequence[VerifierKey]) -> VerifierKey:
    """The key, of those known for this origin, that signed. Raises `NotFound` (no such ledger) or `Forbidden`."""
    if not keys:
        raise NotFound("the witness does not know this ledger", next_step="introduce it first")
    try:
        signers = [key for key in keys if is_signed_by(submission.note, key)]
    except ProofInvalid as error:
        raise Forbidden(error.detail) from error
    if not signers:
        raise Forbidden("the checkpoint is not signed by a key that the witness knows for this ledger")
    return signers[0]


def objection(submission: Submission, seen: TreeHead | None) -> Fault | None:
    """Why a witness that last cosigned `seen` must not cosign this; None: it must, and then has seen this.

    The signature was checked before (`signer`).
    """
    size, root = (seen.size, seen.root) if seen is not None else (0, EMPTY_ROOT)
    head, old, proof = submission.head, submission.old, submission.proof
    if old > head.size:
        return BadRequest("the old size is larger than the checkpoint's")
    if old != size:
        return Outdated(size)
    if head.size == 0 and head.root != EMPTY_ROOT:
        return ProofInvalid("an empty tree has the hash of nothing as its root")
    if old == 0:
        return ProofInvalid("from nothing no proof is needed, and none may be given") if proof else None
    try:
        verify_consistency(old, head.size, root, head.root, proof)
    except ProofInvalid as error:
        return error
    return None

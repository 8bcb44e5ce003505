"""Receipts: a small file that proves, offline, that a record is in a peer's ledger.

A receipt is canonical JSON (RFC 8785) and a newline, with exactly these members:

    format, version     "stelsel-receipt", 1; 2 when there are witnesses
    index               the record's place in the ledger
    record, nonce       the record, and the nonce (hexadecimal) that was sealed with it
    inclusion_proof     hashes (base64) that lead from the record's leaf to the root, leaf first
    checkpoint          the signed checkpoint (see `checkpoint`)
    endorsement         the peer's word for the ledger's key, with its certificate chain
    witnesses           the same of each witness that cosigned the checkpoint (version 2)

Every member is covered by a hash or a signature, and there is one way to write each: any changed byte is noticed.
`tlog_proof` writes the same receipt in the form of C2SP tlog-proof.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from stelsel.base.canonical import canonical, parse_object
from stelsel.base.certificates import TrustAnchors
from stelsel.base.errors import BadRequest
from stelsel.ledger.checkpoint import SignedCheckpoint, verify_checkpoint
from stelsel.ledger.commitment import NONCE_SIZE, commitment, sealed
from stelsel.ledger.cosignature import VerifiedWitness, demand, verify_cosignatures
from stelsel.ledger.endorsement import Endorsement
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.merkle import HASH_SIZE, leaf_hash, verify_inclusion
from stelsel.ledger.note import base64_of, unbase64
from stelsel.ledger.record import Record

FORMAT = "stelsel-receipt"
VERSION, WITNESSED = 1, 2
MAXIMUM_SIZE = 256 * 1024
_MEMBERS = {"format", "version", "index", "record", "nonce", "inclusion_proof", "checkpoint", "endorsement"}
_MORE_MEMBERS: dict[int, set[str]] = {VERSION: set(), WITNESSED: {"witnesses"}}
_HIGHEST_TREE = 64


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """What a receipt proves: this peer's ledger held this record at this place when it held `size` records."""

    peer_id: str
    peer_name: str
    record: Record
    index: int
    size: int
    checkpoint_time: int
    """When the ledger signed, seconds since the epoch."""
    origin: str
    anchored: bool
    """Whether the peer's certificate was checked against trust anchors; else nothing says who made the receipt."""
    witnesses: tuple[VerifiedWitness, ...] = ()
    """The peers that cosigned: none of them ever saw another history of this ledger."""


def make(
    index: int,
    record: bytes,
    nonce: bytes,
    proof: list[bytes],
    checkpoint: SignedCheckpoint,
    endorsement: Endorsement,
    witnesses: Sequence[Endorsement] = (),
) -> dict[str, Any]:
    """The receipt of a record (canonical JSON)."""
    receipt = {
        "format": FORMAT,
        "version": WITNESSED if witnesses else VERSION,
        "index": index,
        "record": parse_object(record),
        "nonce": nonce.hex(),
        "inclusion_proof": [base64_of(step) for step in proof],
        "checkpoint": checkpoint.text,
        "endorsement": endorsement,
    }
    return receipt | {"witnesses": list(witnesses)} if witnesses else receipt


def write(receipt: dict[str, Any]) -> bytes:
    """The receipt as a file."""
    return canonical(receipt) + b"\n"


def read(data: bytes) -> dict[str, Any]:
    """The receipt in a file, written exactly as `write` writes it. Proves nothing yet. Raises `ProofInvalid`."""
    if len(data) > MAXIMUM_SIZE:
        raise ProofInvalid("the file is too large for a receipt")
    try:
        receipt = parse_object(data)
        same = write(receipt) == data
    except BadRequest as error:
        raise ProofInvalid(f"the file is not a receipt: {error.detail}") from error
    if not same:
        raise ProofInvalid("the file was changed: it is not written as receipts are (canonical JSON, RFC 8785)")
    return receipt


def verify_file(
    data: bytes,
    anchors: TrustAnchors | None,
    now: float,
    *,
    witnesses: Collection[str] | None = None,
    quorum: int = 0,
) -> VerifiedReceipt:
    """What the receipt in this file proves. Raises `ProofInvalid`; `now` in seconds since the epoch. See `verify`."""
    return verify(read(data), anchors, now, witnesses=witnesses, quorum=quorum)


def verify(
    receipt: dict[str, Any],
    anchors: TrustAnchors | None,
    now: float,
    *,
    witnesses: Collection[str] | None = None,
    quorum: int = 0,
) -> VerifiedReceipt:
    """What a receipt proves, with nothing else at hand than the group's trust anchors. Raises `ProofInvalid`.

    The peer's certificate is judged at the time of the checkpoint, so that a receipt outlives it. At least `quorum` of
    `witnesses` (peer ids; None: any peer of the group) must have cosigned the checkpoint.
    """
    if not set(receipt) >= _MEMBERS or receipt["format"] != FORMAT:
        raise ProofInvalid("this is not a receipt")
    version, members = receipt["version"], set(receipt) - _MEMBERS
    if type(version) is not int or version not in _MORE_MEMBERS:
        raise ProofInvalid("the receipt is of another version", next_step="use a newer stelsel to check it")
    if members != _MORE_MEMBERS[version]:
        raise ProofInvalid("this is not a receipt")
    endorsements = receipt.get("witnesses", [])
    if not isinstance(endorsements, list) or bool(endorsements) != (version == WITNESSED):
        raise ProofInvalid("the receipt's witnesses are not what they should be")
    index, proof = receipt["index"], receipt["inclusion_proof"]
    if type(index) is not int or not isinstance(proof, list) or len(proof) > _HIGHEST_TREE:
        raise ProofInvalid("the receipt's index or proof is not what it should be")
    steps = [unbase64(step) for step in proof]
    nonce = unhex(receipt["nonce"], NONCE_SIZE)
    try:
        record = Record.read(receipt["record"])
        leaf = leaf_hash(commitment(record.canonical_counted(), sealed(nonce, record.canonical())))
    except BadRequest as error:
        raise ProofInvalid(f"the receipt's record is not one: {error.detail}") from error
    text = _text(receipt["checkpoint"])
    checkpoint = verify_checkpoint(text, receipt["endorsement"], anchors, now)
    verify_inclusion(leaf, index, checkpoint.size, steps, checkpoint.root)
    found = verify_cosignatures(checkpoint, text, endorsements, anchors, now)
    demand(found, witnesses, quorum, anchored=checkpoint.anchored)
    return VerifiedReceipt(
        checkpoint.peer_id,
        checkpoint.peer_name,
        record,
        index,
        checkpoint.size,
        checkpoint.time,
        checkpoint.origin,
        checkpoint.anchored,
        found,
    )


def unhex(text: object, size: int = HASH_SIZE) -> bytes:
    """Bytes out of lower-case hexadecimal. Raises `ProofInvalid`."""
    try:
        data = bytes.fromhex(_text(text))
    except ValueError as error:
        raise ProofInvalid("the text is not hexadecimal") from error
    if len(data) != size or data.hex() != text:
        raise ProofInvalid("the text is not lower-case hexadecimal of the right length")
    return data


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ProofInvalid("a text is expected here")
    return value

"""A receipt in the form of C2SP tlog-proof: text that every verifier of transparency logs can read.

    c2sp.org/tlog-proof@v1
    extra <base64>            canonical JSON: endorsement, nonce, record, and witnesses when there are
    index <number>
    <base64>                  the inclusion proof, a hash a line
                              (an empty line)
    <the checkpoint>

It holds what the JSON receipt holds, no more and no less; each is written out of the other. A verifier that knows
nothing of us needs the leaf beside it, which `commitment` makes of `extra`, and the keys of ledger and witnesses.
"""

from __future__ import annotations

import re
from typing import Any

from stelsel.base.canonical import canonical, parse_object
from stelsel.base.errors import BadRequest
from stelsel.ledger import receipts
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.merkle import HASH_SIZE
from stelsel.ledger.note import base64_of, unbase64

HEADER = "c2sp.org/tlog-proof@v1"
SUFFIX = ".tlog-proof"
_EXTRA = ("endorsement", "nonce", "record", "witnesses")
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,15})")
_MAXIMUM_SIZE = 2 * receipts.MAXIMUM_SIZE


def write(receipt: dict[str, Any]) -> bytes:
    """The file of a receipt."""
    extra = {name: receipt[name] for name in _EXTRA if name in receipt}
    lines = [HEADER, f"extra {base64_of(canonical(extra))}", f"index {receipt['index']}", *receipt["inclusion_proof"]]
    checkpoint: str = receipt["checkpoint"]
    return "".join([*(f"{line}\n" for line in lines), "\n", checkpoint]).encode("utf-8")


def is_one(data: bytes) -> bool:
    """Whether a file says that it is a proof in this form."""
    return data.startswith(HEADER.encode("ascii"))


def read(data: bytes) -> dict[str, Any]:
    """The receipt in a file, written exactly as `write` writes it. Proves nothing yet. Raises `ProofInvalid`."""
    if len(data) > _MAXIMUM_SIZE:
        raise ProofInvalid("the file is too large for a proof")
    try:
        head, _, checkpoint = data.decode("utf-8").partition("\n\n")
        header, *lines = head.split("\n")
        if header != HEADER or len(lines) < 2 or not lines[0].startswith("extra "):
            raise ProofInvalid("the proof does not have the form of one of ours (C2SP tlog-proof, with an extra line)")
        index = _INDEX.fullmatch(lines[1])
        extra = parse_object(unbase64(lines[0].removeprefix("extra ")))
    except (UnicodeDecodeError, BadRequest) as error:
        raise ProofInvalid("the file is not a proof that can be read") from error
    if any(len(unbase64(step)) != HASH_SIZE for step in lines[2:]):
        raise ProofInvalid("a line of the proof is not a hash")
    if index is None or not set(extra) <= set(_EXTRA):
        raise ProofInvalid("the proof's index or extra data is not what it should be")
    receipt = {
        "format": receipts.FORMAT,
        "version": receipts.WITNESSED if "witnesses" in extra else receipts.VERSION,
        "index": int(index[1]),
        "inclusion_proof": lines[2:],
        "checkpoint": checkpoint,
    } | extra
    if write(receipt) != data:
        raise ProofInvalid("the file was changed: it is not written as proofs are")
    return receipt

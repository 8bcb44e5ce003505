"""Checkpoints: what the ledger says of itself, signed, in the format of C2SP tlog-checkpoint and signed-note.

    stelsel/ledger/<peer id>            origin
    1234                                size: how many records
    <base64>                            root of the Merkle tree over them
    time 1764000000                     extension line: seconds since the epoch
                                        (an empty line)
    — stelsel/ledger/<peer id> <base64> key id and Ed25519 signature
    — stelsel/witness/<peer id> <base64> the cosignature of a witness (see `cosignature`); none, or more

The ledger has a key of its own, and the peer endorses it (see `endorsement`): so whoever holds the group's trust
anchors can trust a checkpoint offline. The certificate is judged at the checkpoint's own time, since receipts are to
outlive certificates; what that leaves open is that somebody who steals an expired key could make checkpoints of the
past. Witnesses close that: they tell the time as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.ledger import note as notes
from stelsel.ledger.endorsement import CLOCK_SKEW, LEDGER, Endorsement, verify_endorsement
from stelsel.ledger.endorsement import endorse as endorse_key
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.keys import load_key, public_bytes
from stelsel.ledger.merkle import HASH_SIZE
from stelsel.ledger.note import ED25519, Note, VerifierKey, base64_of, is_signed_by, read_note, unbase64

_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")
_LONGEST_ORIGIN = 200
_TIME = "time "


@dataclass(frozen=True, slots=True)
class TreeHead:
    """The text of any log's checkpoint (C2SP tlog-checkpoint)."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...]

    @property
    def time(self) -> int | None:
        """When a ledger of ours says that it signed, seconds since the epoch; None for other logs."""
        line = self.extensions[0] if len(self.extensions) == 1 else ""
        number = line.removeprefix(_TIME)
        return int(number) if line.startswith(_TIME) and _NUMBER.fullmatch(number) else None


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint with its signatures; reading one proves nothing."""

    origin: str
    size: int
    root: bytes
    time: int
    """Seconds since the epoch."""
    text: str
    """The whole signed note."""
    note: Note


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint of which the signature, the endorsement and, if `anchored`, the certificate were checked."""

    peer_id: str
    peer_name: str
    origin: str
    size: int
    root: bytes
    time: int
    anchored: bool
    """False when no trust anchors were given: then nothing says that the peer is who it says."""


class LedgerKey:
    """The ledger's own Ed25519 key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = public_bytes(key)

    @classmethod
    def load(cls, path: Path) -> LedgerKey:
        """Read the key from `path` (PEM); make it, readable by this user only, when there is none."""
        return cls(load_key(path))

    def sign(self, origin: str, size: int, root: bytes, time: int) -> SignedCheckpoint:
        """The checkpoint that says this, signed. `time` in seconds since the epoch."""
        text = f"{origin}\n{size}\n{base64_of(root)}\n{_TIME}{time}\n"
        note = Note(text, (notes.sign(self._key, origin, self.public, text),))
        return SignedCheckpoint(origin, size, root, time, note.whole, note)


def origin_of(peer_id: str) -> str:
    """The origin line of a peer's ledger, which is also the name of its key."""
    return LEDGER.name_of(peer_id)


def endorse(keypair: KeyPair, ledger_key: bytes, now: float) -> Endorsement:
    """The peer's word for its ledger's public key (32 bytes)."""
    return endorse_key(keypair, LEDGER, ledger_key, now)


def read_tree_head(text: str) -> TreeHead:
    """The tree head in the text of a note. Raises `ProofInvalid`."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop():
        raise ProofInvalid("the checkpoint does not have the form of one (C2SP tlog-checkpoint)")
    origin, size, root, *extensions = lines
    if not 0 < len(origin) <= _LONGEST_ORIGIN or not _NUMBER.fullmatch(size) or not all(extensions):
        raise ProofInvalid("the checkpoint does not have the form of one (C2SP tlog-checkpoint)")
    hashed = unbase64(root)
    if len(hashed) != HASH_SIZE:
        raise ProofInvalid("the checkpoint's root is not a hash")
    return TreeHead(origin, int(size), hashed, tuple(extensions))


def read_checkpoint(text: str) -> SignedCheckpoint:
    """Read a checkpoint of a ledger, with whatever signature lines it has. Raises `ProofInvalid`."""
    note = read_note(text)
    head = read_tree_head(note.text)
    if head.time is None:
        raise ProofInvalid("the checkpoint does not say when it was signed")
    return SignedCheckpoint(head.origin, head.size, head.root, head.time, text, note)


def verify_checkpoint(
    text: str, endorsement: Endorsement, anchors: TrustAnchors | None, now: float
) -> VerifiedCheckpoint:
    """Check a checkpoint with nothing but the group's trust anchors. Raises `ProofInvalid`. `now` in seconds.

    Without anchors the rest is checked all the same; the outcome says `anchored=False` and proves nothing of who.
    """
    checkpoint = read_checkpoint(text)
    endorsed = verify_endorsement(endorsement, LEDGER, anchors, checkpoint.time)
    if endorsed.name != checkpoint.origin:
        raise ProofInvalid("the checkpoint is of another ledger than the endorsement")
    if not is_signed_by(checkpoint.note, VerifierKey(endorsed.name, ED25519, endorsed.key)):
        raise ProofInvalid("the checkpoint names another key than the ledger's: it is not signed")
    if endorsed.since > checkpoint.time + CLOCK_SKEW or checkpoint.time > now + CLOCK_SKEW:
        raise ProofInvalid("the checkpoint is dated before its endorsement, or in the future")
    return VerifiedCheckpoint(
        endorsed.peer_id,
        endorsed.peer_name,
        checkpoint.origin,
        checkpoint.size,
        checkpoint.root,
        checkpoint.time,
        anchored=anchors is not None,
    )

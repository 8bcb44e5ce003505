"""Signed notes (C2SP signed-note): a text, an empty line, and signature lines that anyone may add to.

    — <name> base64(key id || signature)

Name and key id together say which key signed. What unknown keys signed is passed over, so that a ledger, its witnesses
and others can sign the same note; what a known key is said to have signed must hold, or the whole note is refused.
Two kinds of signature are known here: Ed25519 over the text (0x01), by ledgers, and the timestamped Ed25519
cosignature over a checkpoint (0x04, C2SP tlog-cosignature), by witnesses.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.keys import SIGNATURE_SIZE, is_signed

ED25519 = b"\x01"
COSIGNATURE = b"\x04"
MAXIMUM_NOTE = 128 * 1024
"""Characters in a note: sixteen signatures of the largest kind there is must fit (signed-note, Format)."""
MAXIMUM_SIGNATURES = 64
_ID_SIZE = 4
_LATEST = 2**63 - 1
_DASH = "— "


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One signature as it stands in a note; reading it proves nothing."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def text(self) -> str:
        """The line, with its newline."""
        return f"{_DASH}{self.name} {base64_of(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note that was read; nothing of it was checked."""

    text: str
    """What is signed, with the newline at its end."""
    signatures: tuple[SignatureLine, ...]

    @property
    def whole(self) -> str:
        """The note as it is written."""
        return self.text + "\n" + "".join(line.text for line in self.signatures)


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A key that somebody trusts for signatures of one kind under one name."""

    name: str
    kind: bytes
    public: bytes
    """32 bytes, Ed25519."""

    @property
    def id(self) -> bytes:
        """The four bytes by which a note tells keys apart."""
        return key_id(self.name, self.kind, self.public)

    def of(self, note: Note) -> tuple[bytes, ...]:
        """The signatures in `note` that say to be of this key."""
        mine = self.id
        return tuple(line.signature for line in note.signatures if (line.name, line.key_id) == (self.name, mine))


def read_note(text: str) -> Note:
    """Read a signed note. Raises `ProofInvalid`; proves nothing."""
    if len(text) > MAXIMUM_NOTE:
        raise ProofInvalid("the note is too large")
    if any(character < " " and character != "\n" for character in text):
        raise ProofInvalid("the note holds control characters")
    head, found, tail = text.rpartition("\n\n")
    if not found or not tail.endswith("\n"):
        raise ProofInvalid("the note has no signatures, or does not end in a newline")
    return Note(head + "\n", read_signatures(tail))


def read_signatures(text: str) -> tuple[SignatureLine, ...]:
    """One or more signature lines, each with its newline. Raises `ProofInvalid`."""
    lines = text.split("\n")
    if lines.pop() or not 0 < len(lines) <= MAXIMUM_SIGNATURES:
        raise ProofInvalid(f"there must be 1 to {MAXIMUM_SIGNATURES} signature lines, each ending in a newline")
    return tuple(_read_line(line) for line in lines)


def sign(key: Ed25519PrivateKey, name: str, public: bytes, text: str) -> SignatureLine:
    """The line by which a key signs a text."""
    return SignatureLine(name, key_id(name, ED25519, public), key.sign(text.encode("utf-8")))


def cosign(key: Ed25519PrivateKey, name: str, public: bytes, text: str, time: int) -> SignatureLine:
    """The line by which a witness says that at `time` (seconds) this was the newest it knew of the log."""
    signature = time.to_bytes(8, "big") + key.sign(_cosigned(text, time))
    return SignatureLine(name, key_id(name, COSIGNATURE, public), signature)


def is_signed_by(note: Note, key: VerifierKey) -> bool:
    """Whether this key signed. Raises `ProofInvalid` when the note says so and it is not true."""
    signatures = key.of(note)
    for signature in signatures:
        if not is_signed(key.public, signature, note.text.encode("utf-8")):
            raise ProofInvalid("a signature is not of the key that it names")
    return bool(signatures)


def cosigned_at(note: Note, key: VerifierKey) -> int | None:
    """When this witness cosigned, last (seconds since the epoch); None when it did not. Raises as `is_signed_by`."""
    times: list[int] = []
    for signature in key.of(note):
        time = int.from_bytes(signature[:8], "big")
        if len(signature) != 8 + SIGNATURE_SIZE or not 0 < time <= _LATEST:
            raise ProofInvalid("a cosignature does not have the form of one (C2SP tlog-cosignature)")
        if not is_signed(key.public, signature[8:], _cosigned(note.text, time)):
            raise ProofInvalid("a cosignature is not of the witness that it names")
        times.append(time)
    return max(times, default=None)


def key_id(name: str, kind: bytes, public: bytes) -> bytes:
    """The first four bytes of SHA-256(name, newline, kind, public key)."""
    return hashlib.sha256(name.encode("utf-8") + b"\n" + kind + public).digest()[:_ID_SIZE]


def base64_of(data: bytes) -> str:
    """Base64 (RFC 4648, section 4)."""
    return base64.b64encode(data).decode("ascii")


def unbase64(text: object) -> bytes:
    """The bytes behind base64 in its one canonical form. Raises `ProofInvalid`."""
    if not isinstance(text, str):
        raise ProofInvalid("text in base64 is expected here")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProofInvalid("the text is not base64") from error
    if base64_of(data) != text:
        raise ProofInvalid("the text is not base64 in its one canonical form")
    return data


def _cosigned(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def _read_line(line: str) -> SignatureLine:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not name or "+" in name or any(character.isspace() for character in name):
        raise ProofInvalid("a signature line does not have the form of one (C2SP signed-note)")
    data = unbase64(encoded)
    if len(data) <= _ID_SIZE:
        raise ProofInvalid("a signature line holds no signature")
    return SignatureLine(name, data[:_ID_SIZE], data[_ID_SIZE:])

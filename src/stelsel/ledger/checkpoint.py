"""Checkpoints: what the ledger says of itself, signed, in the format of C2SP tlog-checkpoint and signed-note.

    stelsel/ledger/<peer id>            origin
    1234                                size: how many records
    <base64>                            root of the Merkle tree over them
    time 1764000000                     extension line: seconds since the epoch
                                        (an empty line)
    — stelsel/ledger/<peer id> <base64> key id and Ed25519 signature

The ledger has a key of its own. The peer endorses it: a JWS by the key of its group certificate over the ledger's key
and origin, and beside it the certificate chain. So whoever holds the group's trust anchors can trust a checkpoint
offline. The certificate is judged at the checkpoint's own time, since receipts are to outlive certificates; what that
leaves open is that somebody who steals an expired key could make checkpoints of the past. Witnesses close that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from stelsel.base.canonical import b64url, canonical, unb64url
from stelsel.base.certificates import Certificate, KeyPair, TrustAnchors
from stelsel.base.errors import ConfigurationFault, Fault
from stelsel.base.jose import Signer, peek
from stelsel.base.jose import verify as verify_jws
from stelsel.ledger.faults import ProofInvalid

ENDORSEMENT_FORMAT = "stelsel-ledger-endorsement"
MAXIMUM_NOTE = 4096
MAXIMUM_ENDORSEMENT = 64 * 1024
_MAXIMUM_CHAIN = 5
_SKEW = 300
"""Seconds by which the clocks of a ledger and of a verifier may differ."""
_ED25519 = b"\x01"  # the algorithm's number in a key id (C2SP signed-note)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")
_NOTE = re.compile(
    r"(?P<origin>[!-*,-~]{1,200})\n(?P<size>[0-9]+)\n(?P<root>[A-Za-z0-9+/=]+)\ntime (?P<time>[0-9]+)\n"
    r"\n— (?P<name>[!-*,-~]{1,200}) (?P<signature>[A-Za-z0-9+/=]+)\n"
)


Endorsement = dict[str, Any]
"""`jws`: compact JWS by the peer's certificate; `x5c`: the certificate chain, base64 DER, leaf first, without root."""


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint with its signature; reading one proves nothing."""

    origin: str
    size: int
    root: bytes
    time: int
    """Seconds since the epoch."""
    text: str
    """The whole signed note."""
    signature: bytes


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
        self.public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @classmethod
    def load(cls, path: Path) -> LedgerKey:
        """Read the key from `path` (PEM); make it, readable by this user only, when there is none."""
        try:
            if not path.exists():
                _make_key(path)
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationFault(
                f"{path}: holds no key for the ledger that can be read", next_step="put it back from the backup"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigurationFault(f"{path}: is not an Ed25519 key", next_step="put it back from the backup")
        return cls(key)

    def sign(self, origin: str, size: int, root: bytes, time: int) -> SignedCheckpoint:
        """The checkpoint that says this, signed. `time` in seconds since the epoch."""
        body = _body(origin, size, root, time)
        signature = self._key.sign(body.encode("utf-8"))
        text = f"{body}\n— {origin} {_base64(key_id(origin, self.public) + signature)}\n"
        return SignedCheckpoint(origin, size, root, time, text, signature)


def origin_of(peer_id: str) -> str:
    """The origin line of a peer's ledger, which is also the name of its key."""
    return f"stelsel/ledger/{peer_id}"


def key_id(name: str, public: bytes) -> bytes:
    """The four bytes by which a signed note tells keys apart (C2SP signed-note)."""
    return hashlib.sha256(name.encode("utf-8") + b"\n" + _ED25519 + public).digest()[:4]


def endorse(keypair: KeyPair, ledger_key: bytes, now: float) -> Endorsement:
    """The peer's word for its ledger's public key (32 bytes)."""
    payload = {
        "chain": _fingerprint(keypair.chain),
        "format": ENDORSEMENT_FORMAT,
        "iat": int(now),
        "ledger_key": b64url(ledger_key),
        "origin": origin_of(keypair.certificate.peer_id),
        "peer_id": keypair.certificate.peer_id,
    }
    return {"jws": Signer(keypair).sign(canonical(payload)), "x5c": [_base64(der) for der in keypair.chain]}


def read_checkpoint(text: str) -> SignedCheckpoint:
    """Read a checkpoint as `LedgerKey.sign` writes it, to the byte. Raises `ProofInvalid`."""
    match = _NOTE.fullmatch(text) if len(text) <= MAXIMUM_NOTE else None
    if match is None or not _NUMBER.fullmatch(match["size"]) or not _NUMBER.fullmatch(match["time"]):
        raise ProofInvalid("the checkpoint does not have the form of one (C2SP tlog-checkpoint)")
    root, signature = unbase64(match["root"]), unbase64(match["signature"])
    if len(root) != 32 or len(signature) != 68 or match["name"] != match["origin"]:
        raise ProofInvalid("the checkpoint's root, signature or name is not what it should be")
    return SignedCheckpoint(match["origin"], int(match["size"]), root, int(match["time"]), text, signature[4:])


def verify_checkpoint(
    text: str, endorsement: Endorsement, anchors: TrustAnchors | None, now: float
) -> VerifiedCheckpoint:
    """Check a checkpoint with nothing but the group's trust anchors. Raises `ProofInvalid`. `now` in seconds.

    Without anchors the rest is checked all the same; the outcome says `anchored=False` and proves nothing of who.
    """
    try:
        checkpoint = read_checkpoint(text)
        certificate, endorsed = _read_endorsement(endorsement, anchors, checkpoint.time)
        ledger_key = unb64url(endorsed["ledger_key"])
        public = Ed25519PublicKey.from_public_bytes(ledger_key)
        public.verify(checkpoint.signature, text[: text.index("\n\n") + 1].encode("utf-8"))
    except InvalidSignature as error:
        raise ProofInvalid("the checkpoint was not signed by the ledger's key") from error
    except ProofInvalid:
        raise
    except Fault as error:
        raise ProofInvalid(f"the checkpoint does not hold: {error.detail}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ProofInvalid("the checkpoint or its endorsement cannot be read") from error
    if checkpoint.text != _text(checkpoint, ledger_key):
        raise ProofInvalid("the checkpoint names another key")
    if endorsed["origin"] != checkpoint.origin or checkpoint.origin != origin_of(certificate.peer_id):
        raise ProofInvalid("the checkpoint is of another ledger than the endorsement")
    if endorsed["iat"] > checkpoint.time + _SKEW or checkpoint.time > now + _SKEW:
        raise ProofInvalid("the checkpoint is dated before its endorsement, or in the future")
    return VerifiedCheckpoint(
        certificate.peer_id,
        certificate.peer_name,
        checkpoint.origin,
        checkpoint.size,
        checkpoint.root,
        checkpoint.time,
        anchored=anchors is not None,
    )


def _read_endorsement(
    endorsement: object, anchors: TrustAnchors | None, time: int
) -> tuple[Certificate, dict[str, Any]]:
    if not isinstance(endorsement, dict) or set(endorsement) != {"jws", "x5c"}:
        raise ProofInvalid("the endorsement is not what it should be")
    compact, x5c = endorsement["jws"], endorsement["x5c"]
    if not isinstance(compact, str) or len(compact) > MAXIMUM_ENDORSEMENT:
        raise ProofInvalid("the endorsement's signature is not text of a sensible length")
    if not isinstance(x5c, list) or not 0 < len(x5c) <= _MAXIMUM_CHAIN:
        raise ProofInvalid("the endorsement does not carry a certificate chain")
    chain = tuple(unbase64(item) for item in x5c)
    if peek(compact)[1].get("chain") != _fingerprint(chain):  # before anything hostile is parsed as a certificate
        raise ProofInvalid("the endorsement was made with another certificate chain")
    certificate = anchors.verify(chain, time) if anchors is not None else Certificate.read(chain[0])
    unb64url(compact.rpartition(".")[2])  # one way to write a signature, so that no byte can be changed
    payload = verify_jws(compact, certificate)
    kinds = {"chain": str, "format": str, "iat": int, "ledger_key": str, "origin": str, "peer_id": str}
    if {name: type(member) for name, member in payload.items()} != kinds:
        raise ProofInvalid("the endorsement's members are not what they should be")
    if payload["format"] != ENDORSEMENT_FORMAT or payload["peer_id"] != certificate.peer_id:
        raise ProofInvalid("the endorsement is of another kind, or of another peer")
    return certificate, payload


def _fingerprint(chain: tuple[bytes, ...]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(der).digest() for der in chain)).hexdigest()


def _body(origin: str, size: int, root: bytes, time: int) -> str:
    return f"{origin}\n{size}\n{_base64(root)}\ntime {time}\n"


def _text(checkpoint: SignedCheckpoint, public: bytes) -> str:
    body = _body(checkpoint.origin, checkpoint.size, checkpoint.root, checkpoint.time)
    signature = _base64(key_id(checkpoint.origin, public) + checkpoint.signature)
    return f"{body}\n— {checkpoint.origin} {signature}\n"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def unbase64(text: object) -> bytes:
    """The bytes behind base64 in its one canonical form. Raises `ProofInvalid`."""
    if not isinstance(text, str):
        raise ProofInvalid("text in base64 is expected here")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProofInvalid("the text is not base64") from error
    if _base64(data) != text:
        raise ProofInvalid("the text is not base64 in its one canonical form")
    return data


def _make_key(path: Path) -> None:
    """Whole or not at all: a half-written key would shut the ledger."""
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = path.with_name(path.name + ".new")
    with suppress(FileNotFoundError):
        draft.unlink()
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, key)
        os.fsync(file)
    finally:
        os.close(file)
    draft.rename(path)

"""A peer's word for a key of its ledger, or of its witness, by its certificate of the group.

The word is a JWS over the key and the name under which it signs, with the certificate chain beside it. So whoever
holds the group's trust anchors can tie a checkpoint to its peer, and a cosignature to the peer that gave it, offline.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from stelsel.base.canonical import b64url, canonical, unb64url
from stelsel.base.certificates import Certificate, KeyPair, TrustAnchors
from stelsel.base.errors import Fault
from stelsel.base.jose import Signer, peek
from stelsel.base.jose import verify as verify_jws
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.note import base64_of, unbase64

Endorsement = dict[str, Any]
"""`jws`: compact JWS by the peer's certificate; `x5c`: the certificate chain, base64 DER, leaf first, without root."""

MAXIMUM_ENDORSEMENT = 64 * 1024
CLOCK_SKEW = 300
"""Seconds by which the clocks of a ledger, a witness and a verifier may differ."""
_MAXIMUM_CHAIN = 5
_KEY_SIZE = 32


@dataclass(frozen=True, slots=True)
class Role:
    """For what a key is endorsed: the document's format, and its members for the key and for the name."""

    format: str
    key: str
    name: str
    prefix: str

    def name_of(self, peer_id: str) -> str:
        """The name under which the key of this peer signs."""
        return f"{self.prefix}{peer_id}"


LEDGER = Role("stelsel-ledger-endorsement", "ledger_key", "origin", "stelsel/ledger/")
WITNESS = Role("stelsel-witness-endorsement", "witness_key", "name", "stelsel/witness/")


@dataclass(frozen=True, slots=True)
class Endorsed:
    """A key for which a peer stands."""

    peer_id: str
    peer_name: str
    name: str
    """The name under which the key signs: the origin of a ledger, the name of a witness."""
    key: bytes
    since: int
    """Seconds since the epoch."""


def endorse(keypair: KeyPair, role: Role, key: bytes, now: float) -> Endorsement:
    """The peer's word for a public key (32 bytes) of its own. `now` in seconds."""
    peer_id = keypair.certificate.peer_id
    payload = {
        "chain": _fingerprint(keypair.chain),
        "format": role.format,
        "iat": int(now),
        role.key: b64url(key),
        role.name: role.name_of(peer_id),
        "peer_id": peer_id,
    }
    return {"jws": Signer(keypair).sign(canonical(payload)), "x5c": [base64_of(der) for der in keypair.chain]}


def verify_endorsement(endorsement: object, role: Role, anchors: TrustAnchors | None, time: float) -> Endorsed:
    """The key that a peer endorsed, by a certificate that was valid at `time`. Raises `ProofInvalid`.

    Without anchors all but the certificate is checked; then nothing says that the peer is who it says.
    """
    try:
        certificate, payload = _read(endorsement, role, anchors, time)
        key = unb64url(payload[role.key])
    except ProofInvalid:
        raise
    except Fault as error:
        raise ProofInvalid(f"the endorsement does not hold: {error.detail}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ProofInvalid("the endorsement cannot be read") from error
    if len(key) != _KEY_SIZE or payload[role.name] != role.name_of(certificate.peer_id):
        raise ProofInvalid("the endorsement is for another name than the peer's own")
    return Endorsed(certificate.peer_id, certificate.peer_name, payload[role.name], key, payload["iat"])


def _read(
    endorsement: object, role: Role, anchors: TrustAnchors | None, time: float
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
    kinds = {"chain": str, "format": str, "iat": int, role.key: str, role.name: str, "peer_id": str}
    if {name: type(member) for name, member in payload.items()} != kinds:
        raise ProofInvalid("the endorsement's members are not what they should be")
    if payload["format"] != role.format or payload["peer_id"] != certificate.peer_id:
        raise ProofInvalid("the endorsement is of another kind, or of another peer")
    return certificate, payload


def _fingerprint(chain: tuple[bytes, ...]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(der).digest() for der in chain)).hexdigest()

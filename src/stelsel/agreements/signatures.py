"""Signatures on contracts: compact JWS over a contract's content hash (FSC Core 4.2.3).

Also the JSON Web Key Set in which a peer shows the certificates it signs with (4.4.1.4).
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from stelsel.agreements import hashes
from stelsel.agreements.contract import Contract
from stelsel.agreements.fsc_errors import (
    PeerIdSignatureMismatch,
    SignatureContentHashMismatch,
    SignatureVerificationFailed,
    UnknownSignatureAlgorithm,
)
from stelsel.base import jose
from stelsel.base.canonical import canonical
from stelsel.base.certificates import Certificate, KeyPair, TrustAnchors
from stelsel.base.errors import BadRequest, Unauthenticated

SignatureType = Literal["accept", "reject", "revoke"]
MAXIMUM_SIGNATURE = 8 * 1024
"""Characters in a signature; one of 4096 bits RSA has about 1,000."""
_MAXIMUM_KEYS = 50


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that was verified when it came in."""

    peer_id: str
    type: SignatureType
    compact: str
    signed_at: int
    certificate_not_after: float
    chain: tuple[bytes, ...] = ()
    """The certificate chain (DER) it was verified with, kept as evidence."""


def sign(contract: Contract, kind: SignatureType, signer: jose.Signer, keypair: KeyPair, now: float) -> Signature:
    """This peer's signature on a contract."""
    payload = {"contract_content_hash": contract.content_hash, "type": kind, "signed_at": int(now)}
    return Signature(
        peer_id=keypair.certificate.peer_id,
        type=kind,
        compact=signer.sign(canonical(payload)),
        signed_at=int(now),
        certificate_not_after=keypair.certificate.not_after,
        chain=keypair.chain,
    )


def thumbprint_of(compact: Any) -> str:
    """The thumbprint of the certificate that a signature says to be made with. Raises an FSC fault."""
    header, _ = _peek(compact)
    if header.get("alg") not in jose.ALGORITHMS:
        raise UnknownSignatureAlgorithm(f"a signature must be one of {', '.join(jose.ALGORITHMS)}")
    thumbprint = header.get("x5t#S256")
    if not isinstance(thumbprint, str):
        raise SignatureVerificationFailed("the signature's header lacks x5t#S256")
    return thumbprint


def check_meant_for(compact: Any, contract: Contract, kind: str) -> None:
    """Whether the signature says to be of this kind and for this content (4.2.4). Raises an FSC fault.

    Its own word, so nothing is proved until `verify`; it tells a mistaken peer what is wrong before anything is
    fetched.
    """
    _, payload = _peek(compact)
    signed = payload.get("contract_content_hash")
    if not isinstance(signed, str):
        raise SignatureVerificationFailed("the signature lacks contract_content_hash")
    hashes.check_content_hash(signed)
    if signed != contract.content_hash:
        raise SignatureContentHashMismatch("the signature is for other content than this contract's")
    if payload.get("type") != kind:
        raise SignatureVerificationFailed(f"the signature is not of the type {kind}")


def verify(
    compact: str,
    contract: Contract,
    kind: str,
    chain: tuple[bytes, ...],
    *,
    submitter: str,
    anchors: TrustAnchors,
    now: float,
    clock_skew: int,
) -> Signature:
    """The signature, proven to be made by `submitter` on this content. Raises an FSC fault."""
    check_meant_for(compact, contract, kind)
    try:
        certificate = anchors.verify(chain, now)
        if certificate.peer_id != submitter:
            raise PeerIdSignatureMismatch("the signature is by another peer than the one that submits it")
        payload = jose.verify(compact, certificate)
    except (Unauthenticated, BadRequest) as error:
        raise SignatureVerificationFailed(error.detail) from error
    signed_at = payload.get("signed_at")
    if isinstance(signed_at, bool) or not isinstance(signed_at, int) or signed_at < 0:
        raise SignatureVerificationFailed("the signature lacks signed_at")
    if signed_at > now + clock_skew:
        raise SignatureVerificationFailed("the signature was made in the future", next_step="set the clock right")
    return Signature(submitter, as_type(kind), compact, signed_at, certificate.not_after, chain)


def as_type(text: str) -> SignatureType:
    """`text` as a type of signature (4.2.3.2)."""
    if text not in get_args(SignatureType):
        raise SignatureVerificationFailed("a signature is of the type accept, reject or revoke")
    return cast("SignatureType", text)


def key_set(keypair: KeyPair) -> dict[str, Any]:
    """The JSON Web Key Set of this peer: its key with the certificate chain, root left out (4.4.1.4)."""
    key = jose.public_jwk(keypair.certificate.public_key()).as_dict(private=False)
    thumbprint = keypair.certificate.thumbprint
    return {
        "keys": [
            {
                **key,
                "use": "sig",
                "alg": jose.Signer(keypair).algorithm,
                "kid": thumbprint,
                "x5t#S256": thumbprint,
                "x5c": [base64.b64encode(der).decode("ascii") for der in keypair.chain],
            }
        ]
    }


def chain_in(keys: Any, thumbprint: str) -> tuple[bytes, ...] | None:
    """The certificate chain (DER) with this thumbprint in a peer's key set; None when it is not there.

    The thumbprint is computed from the certificate: what the key set says about itself proves nothing.
    """
    listed = keys.get("keys") if isinstance(keys, dict) else None
    for key in (listed if isinstance(listed, list) else [])[:_MAXIMUM_KEYS]:
        encoded = key.get("x5c") if isinstance(key, dict) else None
        if not isinstance(encoded, list) or not 0 < len(encoded) <= 10:
            continue
        try:
            chain = tuple(base64.b64decode(str(item), validate=True) for item in encoded)
            if Certificate.read(chain[0]).thumbprint == thumbprint:
                return chain
        except (binascii.Error, ValueError, BadRequest):
            continue
    return None


def pack(chain: tuple[bytes, ...]) -> str:
    """A chain as text for a database column."""
    return json.dumps([base64.b64encode(der).decode("ascii") for der in chain])


def unpack(text: str) -> tuple[bytes, ...]:
    """The chain that `pack` made text of."""
    return tuple(base64.b64decode(item) for item in json.loads(text))


def _peek(compact: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    if not isinstance(compact, str) or len(compact) > MAXIMUM_SIGNATURE:
        raise SignatureVerificationFailed("the signature must be a JWS in compact serialization")
    try:
        return jose.peek(compact)
    except BadRequest as error:
        raise SignatureVerificationFailed(error.detail) from error

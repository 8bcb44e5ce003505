"""Signatures on contracts: compact JWS over a contract's content hash (FSC Core 4.2.3).

Also the JSON Web Key Set in which a peer shows the certificates it signs with (4.4.1.4).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast, get_args

from stelsel.agreements import hashes
from stelsel.agreements.contract import Contract
from stelsel.agreements.dialect import USUAL, Dialect
from stelsel.agreements.fsc_errors import (
    PeerIdSignatureMismatch,
    SignatureContentHashMismatch,
    SignatureVerificationFailed,
    UnknownSignatureAlgorithm,
)
from stelsel.base import jose
from stelsel.base.canonical import b64url, canonical
from stelsel.base.certificates import USUAL_ELEMENTS, Certificate, KeyPair, PeerElements, TrustAnchors
from stelsel.base.errors import BadRequest, Unauthenticated

SignatureType = Literal["accept", "reject", "revoke"]
MAXIMUM_SIGNATURE = 8 * 1024
"""Characters in a signature; one of 4096 bits RSA has about 1,000."""
MAXIMUM_KEYS = 50


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


def sign(
    contract: Contract, kind: SignatureType, signer: jose.Signer, keypair: KeyPair, now: float, after: int = 0
) -> Signature:
    """This peer's signature on a contract, signed later than `after` (seconds): the newest of two counts (4.2.7)."""
    signed_at = max(int(now), after + 1)
    payload = {"contract_content_hash": contract.content_hash, "type": kind, "signed_at": signed_at}
    return Signature(
        peer_id=keypair.certificate.peer_id,
        type=kind,
        compact=signer.sign(canonical(payload)),
        signed_at=signed_at,
        certificate_not_after=keypair.certificate.not_after,
        chain=keypair.chain,
    )


def thumbprint_of(compact: Any, algorithms: Sequence[str] = jose.ALGORITHMS, dialect: Dialect = USUAL) -> str:
    """The thumbprint of the certificate that a signature says to be made with. Raises an FSC fault."""
    header, _ = _peek(compact)
    if header.get("alg") not in algorithms:
        raise UnknownSignatureAlgorithm(f"a signature must be one of {', '.join(algorithms)}")
    thumbprint = header.get("x5t#S256")
    if not isinstance(thumbprint, str):
        raise SignatureVerificationFailed("the signature's header lacks x5t#S256")
    return dialect.thumbprint(thumbprint)


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
    algorithms: Sequence[str] = jose.ALGORITHMS,
    dialect: Dialect = USUAL,
) -> Signature:
    """The signature, proven to be made by `submitter` on this content. Raises an FSC fault."""
    check_meant_for(compact, contract, kind)
    try:
        certificate = anchors.verify(chain, now)
        if certificate.peer_id != submitter:
            raise PeerIdSignatureMismatch("the signature is by another peer than the one that submits it")
        payload = jose.verify(compact, certificate, algorithms=algorithms, thumbprint=dialect.thumbprint)
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


def key_set(
    signer: jose.Signer,
    chain: tuple[bytes, ...],
    superseded: Iterable[tuple[bytes, ...]] = (),
    elements: PeerElements = USUAL_ELEMENTS,
) -> dict[str, Any]:
    """The JSON Web Key Set of this peer: its keys with their certificate chains, root left out (4.4.1.4).

    `superseded` are the chains of earlier certificates with which signatures were made that still count: who hears of
    such a contract only now must be able to check them.
    """
    keys = [_key(signer.certificate, chain) | {"alg": signer.algorithm}]
    others = {earlier: Certificate.read(earlier[0], elements) for earlier in superseded if earlier and earlier != chain}
    newest_first = sorted(others.items(), key=lambda item: item[1].not_after, reverse=True)
    keys += [_key(certificate, earlier) for earlier, certificate in newest_first[: MAXIMUM_KEYS - 1]]
    return {"keys": keys}


def _key(certificate: Certificate, chain: tuple[bytes, ...]) -> dict[str, Any]:
    return {
        **jose.public_jwk(certificate.public_key()).as_dict(private=False),
        "use": "sig",
        "kid": certificate.thumbprint,
        "x5t#S256": certificate.thumbprint,
        "x5c": [base64.b64encode(der).decode("ascii") for der in chain],
    }


def chain_in(keys: Any, thumbprint: str) -> tuple[bytes, ...] | None:
    """The certificate chain (DER) with this thumbprint in a peer's key set; None when it is not there.

    The thumbprint is computed from the certificate: what the key set says about itself proves nothing.
    """
    listed = keys.get("keys") if isinstance(keys, dict) else None
    for key in (listed if isinstance(listed, list) else [])[:MAXIMUM_KEYS]:
        encoded = key.get("x5c") if isinstance(key, dict) else None
        if not isinstance(encoded, list) or not 0 < len(encoded) <= 10:
            continue
        try:
            chain = tuple(base64.b64decode(str(item), validate=True) for item in encoded)
            if b64url(hashlib.sha256(chain[0]).digest()) == thumbprint:
                return chain
        except (binascii.Error, ValueError, BadRequest):
            continue
    return None


def pack(chain: tuple[bytes, ...]) -> str:
    """A chain as text for a database column."""
    return json.dumps([base64.b64encode(der).decode("ascii") for der in chain])


@lru_cache(maxsize=4096)
def unpack(text: str) -> tuple[bytes, ...]:
    """The chain that `pack` made text of; the same one in memory for all signatures made with it."""
    return tuple(base64.b64decode(item) for item in json.loads(text))


def _peek(compact: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    if not isinstance(compact, str) or len(compact) > MAXIMUM_SIGNATURE:
        raise SignatureVerificationFailed("the signature must be a JWS in compact serialization")
    try:
        return jose.peek(compact)
    except BadRequest as error:
        raise SignatureVerificationFailed(error.detail) from error

"""JSON Web Signatures as FSC uses them (FSC Core 4.2.3 and 4.3): compact, RS or ES, named by `x5t#S256`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NewType

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from stelsel.base.canonical import parse_object, unb64url
from stelsel.base.certificates import Certificate, KeyPair, PrivateKey, PublicKey
from stelsel.base.errors import BadRequest, ConfigurationFault, Unauthenticated

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")

VerifiedPayload = NewType("VerifiedPayload", dict[str, Any])
"""The payload of a signature that was checked; nothing else may be trusted."""

_CURVE_ALGORITHM = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA_ALGORITHMS = ("RS256", "RS384", "RS512")
_SMALLEST_RSA = 2048
"""Bits (RFC 7518, section 3.3)."""


class Signer:
    """Signs with one key pair. The algorithm follows from the key; for RSA it is the first RS of `algorithms`.

    Raises `ConfigurationFault` when none of `algorithms` goes with the key.
    """

    def __init__(self, keypair: KeyPair, algorithms: Sequence[str] = ALGORITHMS) -> None:
        key = keypair.key
        self.algorithm = next((each for each in algorithms if _goes_with(each, key)), "")
        if not self.algorithm:
            raise ConfigurationFault(
                f"{keypair.key_file}: the group allows no signatures with this kind of key (key peer.key)",
                next_step=f"use a key for one of {', '.join(algorithms)}; an RSA key has {_SMALLEST_RSA} bits or more",
            )
        self.certificate = keypair.certificate
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        elliptic = isinstance(key, ec.EllipticCurvePrivateKey)
        self._key: ECKey | RSAKey = ECKey.import_key(pem) if elliptic else RSAKey.import_key(pem)

    def sign(self, payload: bytes, **header: Any) -> str:
        """The compact JWS of `payload`."""
        protected = {"alg": self.algorithm, "x5t#S256": self.certificate.thumbprint} | header
        return jws.serialize_compact(protected, payload, self._key, algorithms=list(ALGORITHMS))


def peek(compact: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(header, payload) of a compact JWS **without checking it**: only to find the certificate to check it with.

    Raises `BadRequest` when it is not a compact JWS of a JSON object.
    """
    parts = compact.split(".")
    if len(parts) != 3:
        raise BadRequest("a signature must be a JWS in compact serialization (RFC 7515, section 7.1)")
    return parse_object(unb64url(parts[0])), parse_object(unb64url(parts[1]))


def verify(
    compact: str,
    certificate: Certificate,
    *,
    algorithms: Sequence[str] = ALGORITHMS,
    thumbprint: Callable[[str], str] = str,
) -> VerifiedPayload:
    """The payload of a JWS that this certificate's key made. Raises `Unauthenticated`, or `BadRequest` if it is none.

    The header must name this very certificate (`thumbprint` brings what it says to the usual form), an allowed
    algorithm, the one that goes with the key, and nothing critical (RFC 7515, 4.1.11).
    """
    header, payload = peek(compact)
    if header.get("alg") not in ALGORITHMS or header.get("alg") not in algorithms:
        raise Unauthenticated("the signature's algorithm is not one that is allowed")
    if thumbprint(str(header.get("x5t#S256"))) != certificate.thumbprint or "crit" in header:
        raise Unauthenticated("the signature names another certificate")
    key = certificate.public_key()
    if not _goes_with(header["alg"], key):
        raise Unauthenticated("the signature's algorithm does not go with the key of its certificate")
    try:
        jws.deserialize_compact(compact, public_jwk(key), algorithms=list(ALGORITHMS))
    except (JoseError, ValueError) as error:
        raise Unauthenticated("the signature does not match its content") from error
    return VerifiedPayload(payload)


def _goes_with(algorithm: str, key: PrivateKey | PublicKey) -> bool:
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return algorithm == _CURVE_ALGORITHM.get(key.curve.name)
    return algorithm in _RSA_ALGORITHMS and key.key_size >= _SMALLEST_RSA


def public_jwk(key: PublicKey) -> ECKey | RSAKey:
    """The key as joserfc wants it."""
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return ECKey.import_key(pem) if isinstance(key, ec.EllipticCurvePublicKey) else RSAKey.import_key(pem)

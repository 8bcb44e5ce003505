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
from stelsel.base.certificates import Certificate, KeyPair, Pair, PrivateKey, PublicKey
from stelsel.base.errors import BadRequest, ConfigurationFault, Unauthenticated

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")

VerifiedPayload = NewType("VerifiedPayload", dict[str, Any])
"""The payload of a signature that was checked; nothing else may be trusted."""

_CURVE_ALGORITHM = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA_ALGORITHMS = ("RS256", "RS384", "RS512")
_SMALLEST_RSA = 2048
"""Bits (RFC 7518, section 3.3)."""


class Signer:
    """Signs with one key pair, as it is then. The algorithm follows from the key; for RSA the first RS of `algorithms`.

    Raises `ConfigurationFault` when none of `algorithms` goes with the key.
    """

    def __init__(self, keypair: KeyPair, algorithms: Sequence[str] = ALGORITHMS) -> None:
        self._keypair = keypair
        self._algorithms = algorithms
        self._prepared = self._prepare(keypair.current)

    @property
    def algorithm(self) -> str:
        return self._now()[1]

    @property
    def certificate(self) -> Certificate:
        return self._now()[0].certificate

    def sign(self, payload: bytes, **header: Any) -> str:
        """The compact JWS of `payload`."""
        pair, algorithm, key = self._now()
        protected = {"alg": algorithm, "x5t#S256": pair.certificate.thumbprint} | header
        return jws.serialize_compact(protected, payload, key, algorithms=list(ALGORITHMS))

    def _now(self) -> tuple[Pair, str, ECKey | RSAKey]:
        if self._prepared[0] is not self._keypair.current:
            self._prepared = self._prepare(self._keypair.current)
        return self._prepared

    def _prepare(self, pair: Pair) -> tuple[Pair, str, ECKey | RSAKey]:
        algorithm = signs_with(pair.key, self._algorithms)
        if not algorithm:
            raise ConfigurationFault(
                f"{self._keypair.key_file}: the group allows no signatures with this kind of key (key peer.key)",
                next_step=f"use a key for one of {', '.join(self._algorithms)}; "
                f"an RSA key has {_SMALLEST_RSA} bits or more",
            )
        pem = pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        elliptic = isinstance(pair.key, ec.EllipticCurvePrivateKey)
        return pair, algorithm, ECKey.import_key(pem) if elliptic else RSAKey.import_key(pem)


def signs_with(key: PrivateKey, algorithms: Sequence[str] = ALGORITHMS) -> str:
    """The first of `algorithms` that goes with this key; empty when none does."""
    return next((each for each in algorithms if _goes_with(each, key)), "")


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

"""Canonical JSON, hashes and signatures, from the text of the standard: FSC Core 4.2.3 to 4.2.6, RFC 8785, RFC 7515.

Written apart from `stelsel.agreements` and `stelsel.base`, on the standard library and `cryptography` alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
"""FSC Core 4.2.3."""

HASH_TYPES = {
    "GRANT_TYPE_SERVICE_PUBLICATION": 2,
    "GRANT_TYPE_SERVICE_CONNECTION": 3,
    "GRANT_TYPE_DELEGATED_SERVICE_CONNECTION": 4,
    "GRANT_TYPE_DELEGATED_SERVICE_PUBLICATION": 5,
}
"""FSC Core 4.2.6.1; a contract's own is 1."""

_DIGESTS: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def jcs(value: Any) -> bytes:
    """Canonical JSON (RFC 8785)."""
    return _jcs(value).encode("utf-8")


def _jcs(value: Any) -> str:
    if value is None or isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(_jcs(item) for item in value)}]"
    # 3.2.3: sorted by UTF-16 code units, which is not the order of code points
    names = sorted(value, key=lambda name: name.encode("utf-16-be"))
    return f"{{{','.join(f'{_jcs(name)}:{_jcs(value[name])}' for name in names)}}}"


def _number(value: float) -> str:
    """As ECMAScript writes numbers (RFC 8785, 3.2.2.3)."""
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    parts = Decimal(repr(abs(value))).normalize().as_tuple()
    digits, count = "".join(map(str, parts.digits)), len(parts.digits)
    point = count + int(parts.exponent)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    mantissa = digits[0] + (f".{digits[1:]}" if count > 1 else "")
    return f"{sign}{mantissa}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def base64url(data: bytes) -> str:
    """Base64 URL encoding, all trailing `=` omitted (4.2.4, step 3)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_base64url(text: str) -> bytes:
    """The bytes. Raises `ValueError`."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def content_hash(content: Mapping[str, Any]) -> str:
    """FSC Core 4.2.4."""
    return "$1$1$" + base64url(hashlib.sha3_512(jcs(content)).digest())


def grant_hash(hash_of_content: str, data: Mapping[str, Any]) -> str:
    """FSC Core 4.2.5; the content hash goes in as the whole string that 4.2.4 ends with."""
    digest = hashlib.sha3_512(hash_of_content.encode("ascii") + jcs(data)).digest()
    return f"$1${HASH_TYPES[data['type']]}${base64url(digest)}"


def sign_jws(header: Mapping[str, Any], payload: bytes, key: PrivateKey) -> str:
    """Compact JWS (RFC 7515, 7.1); the algorithm is what `header["alg"]` says, of those that FSC knows."""
    encoded = base64url(json.dumps(dict(header), separators=(",", ":")).encode())
    signing_input = f"{encoded}.{base64url(payload)}"
    digest = _DIGESTS[str(header["alg"])[2:]]
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(signing_input.encode(), padding.PKCS1v15(), digest)
    else:
        r, s = decode_dss_signature(key.sign(signing_input.encode(), ec.ECDSA(digest)))
        size = (key.curve.key_size + 7) // 8  # RFC 7518, 3.4: both numbers at the full size of the curve
        signature = r.to_bytes(size, "big") + s.to_bytes(size, "big")
    return f"{signing_input}.{base64url(signature)}"


@dataclass(frozen=True, slots=True)
class Jws:
    """A compact JWS, taken apart."""

    header: dict[str, Any]
    payload: dict[str, Any]
    signing_input: bytes
    signature: bytes

    @classmethod
    def read(cls, compact: str) -> Jws:
        """Raises `ValueError` or `TypeError` when it is not a compact JWS of JSON objects."""
        first, second, third = compact.split(".")
        header, payload = json.loads(from_base64url(first)), json.loads(from_base64url(second))
        return cls(dict(header), dict(payload), f"{first}.{second}".encode(), from_base64url(third))

    def holds(self, key: PublicKey) -> bool:
        """Whether `key` made it, with the algorithm in its header, of those that FSC allows."""
        algorithm = self.header.get("alg")
        if algorithm not in ALGORITHMS:
            return False
        digest = _DIGESTS[algorithm[2:]]
        try:
            if isinstance(key, rsa.RSAPublicKey):
                if not algorithm.startswith("RS"):
                    return False
                key.verify(self.signature, self.signing_input, padding.PKCS1v15(), digest)
            else:
                size = (key.curve.key_size + 7) // 8
                if not algorithm.startswith("ES") or len(self.signature) != 2 * size:
                    return False
                r, s = (int.from_bytes(part, "big") for part in (self.signature[:size], self.signature[size:]))
                key.verify(encode_dss_signature(r, s), self.signing_input, ec.ECDSA(digest))
        except InvalidSignature:
            return False
        return True

"""The provider's keys: a secret file from which keys for one use each are derived, and the key that signs tokens.

Files are made at first start, mode 600, in the node's data folder. Losing the secret means that residents get other
pseudonyms and that sealed values cannot be read any more: it belongs in the backup.

Tokens are signed with RS256: "RS256 MUST" be supported (NL GOV Assurance profile for OAuth 2.0, Algorithms); 2048 bits
signs in under a millisecond. A second key file, `signing-previous.pem`, is still published but signs nothing, so that
keys can be replaced with overlap.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from stelsel.base.canonical import canonical
from stelsel.base.certificates import PublicKey
from stelsel.base.errors import BadRequest, ConfigurationFault, Unauthenticated
from stelsel.base.jose import peek, public_jwk

SIGNING_ALGORITHM = "RS256"
ASSERTION_ALGORITHMS = ("ES256", "PS256", "RS256")

_SECRET_LENGTH = 32
_NONCE_LENGTH = 12
_MOST_KEYS = 50


class Vault:
    """Keys for one use each, out of one secret; seals values that may not lie readable on a disk."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._sealing = AESGCM(self.key("seal"))
        self._hashing = self.key("hash")

    @classmethod
    def open(cls, folder: Path) -> Vault:
        """The vault whose secret is in `folder`; the first time it is made. Raises `ConfigurationFault`."""
        path = folder / "secret.key"
        secret = read_or_make(path, lambda: os.urandom(_SECRET_LENGTH))
        if len(secret) != _SECRET_LENGTH:
            raise ConfigurationFault(f"{path}: is not a secret of {_SECRET_LENGTH} bytes", next_step="restore it")
        return cls(secret)

    def key(self, use: str) -> bytes:
        """32 bytes for one use (HKDF-SHA-256, RFC 5869)."""
        return HKDF(SHA256(), 32, salt=None, info=f"stelsel identity {use}".encode()).derive(self._secret)

    def hashed(self, purpose: str, value: str) -> str:
        """A keyed hash, hex: what is stored instead of a secret or an identifying value."""
        return hmac.new(self._hashing, f"{purpose}\0{value}".encode(), hashlib.sha256).hexdigest()

    def seal(self, value: bytes, about: str) -> bytes:
        """`value` encrypted (AES-256-GCM); it can only be opened as being `about` the same."""
        nonce = os.urandom(_NONCE_LENGTH)
        return nonce + self._sealing.encrypt(nonce, value, about.encode())

    def open_sealed(self, sealed: bytes, about: str) -> bytes:
        """What `seal` sealed. Raises `Unauthenticated` when it was altered or is about something else."""
        try:
            return self._sealing.decrypt(sealed[:_NONCE_LENGTH], sealed[_NONCE_LENGTH:], about.encode())
        except (InvalidTag, ValueError) as error:
            raise Unauthenticated("a sealed value was altered or belongs elsewhere") from error


class TokenSigner:
    """Signs the provider's tokens and publishes the keys to check them with."""

    def __init__(self, key: RSAKey, previous: tuple[RSAKey, ...] = ()) -> None:
        self._key = key
        self.key_id = key.thumbprint()
        self._published = (key, *previous)

    @classmethod
    def open(cls, folder: Path) -> TokenSigner:
        """The signer whose key is in `folder`; the first time it is made (tenths of a second: use a thread)."""
        previous = folder / "signing-previous.pem"
        older = (_import(previous),) if previous.exists() else ()
        path = folder / "signing.pem"
        read_or_make(path, _new_key)
        return cls(_import(path), older)

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether there is a key in `folder` already."""
        return (folder / "signing.pem").exists()

    def sign(self, claims: dict[str, Any], kind: str = "JWT") -> str:
        """A signed JWT of `claims`; `kind` is its `typ` (RFC 8725, section 3.11: kinds cannot be swapped)."""
        header = {"alg": SIGNING_ALGORITHM, "kid": self.key_id, "typ": kind}
        return jws.serialize_compact(header, canonical(claims), self._key, algorithms=[SIGNING_ALGORITHM])

    def verify(self, compact: str, kind: str = "JWT") -> dict[str, Any]:
        """The claims of a token that this provider signed. Raises `Unauthenticated` or `BadRequest`."""
        header, claims = peek(compact)
        if header.get("typ") != kind:
            raise Unauthenticated("this is another kind of token")
        _check(compact, tuple(key for key in self._published), (SIGNING_ALGORITHM,))
        return claims

    def jwks(self) -> dict[str, Any]:
        """The public keys (RFC 7517)."""
        return {
            "keys": [
                key.as_dict(private=False) | {"kid": key.thumbprint(), "use": "sig", "alg": SIGNING_ALGORITHM}
                for key in self._published
            ]
        }


def verify_assertion(compact: str, keys: tuple[PublicKey, ...]) -> dict[str, Any]:
    """The claims of a client assertion that one of these keys signed. Raises `Unauthenticated` or `BadRequest`."""
    claims = peek(compact)[1]
    _check(compact, tuple(public_jwk(key) for key in keys), ASSERTION_ALGORITHMS)
    return claims


def read_jwk_set(document: dict[str, Any]) -> tuple[RSAKey | ECKey, ...]:
    """The RSA and elliptic curve keys in a JWK Set; other kinds are passed over (RFC 7517, section 5).

    Raises `BadRequest` when it is no JWK Set or one of these keys is broken.
    """
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > _MOST_KEYS or not all(isinstance(key, dict) for key in listed):
        raise BadRequest("a JWK Set has a list of keys (RFC 7517, section 5)")
    try:
        return tuple(
            ECKey.import_key(key) if key["kty"] == "EC" else RSAKey.import_key(key)
            for key in listed
            if key.get("kty") in {"EC", "RSA"}
        )
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise BadRequest("a key in the JWK Set cannot be read") from error


def _check(compact: str, keys: tuple[RSAKey | ECKey, ...], algorithms: tuple[str, ...]) -> None:
    header = peek(compact)[0]
    if header.get("alg") not in algorithms or "crit" in header:
        raise Unauthenticated("the signature's algorithm is not allowed here")
    wanted = "EC" if str(header["alg"]).startswith("ES") else "RSA"
    for key in keys:
        if key.key_type != wanted:
            continue
        try:
            jws.deserialize_compact(compact, key, algorithms=list(algorithms))
        except (JoseError, ValueError):
            continue
        return
    raise Unauthenticated("the signature does not match its content")


def read_or_make(path: Path, make: Any) -> bytes:
    """The content of a file that only this user may read; made, whole or not at all, when it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ConfigurationFault(f"{path}: cannot be read ({error.strerror})") from error
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    content: bytes = make()
    fresh = path.with_name(f".{path.name}.{os.urandom(8).hex()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(fresh, path)  # fails when another process was first; then its key is the key
    except FileExistsError:
        return path.read_bytes()
    finally:
        fresh.unlink()
    return content


def _new_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _import(path: Path) -> RSAKey:
    try:
        return RSAKey.import_key(path.read_bytes())
    except (JoseError, ValueError, OSError, BadRequest) as error:
        raise ConfigurationFault(f"{path}: holds no RSA private key", next_step="restore it, or remove it") from error

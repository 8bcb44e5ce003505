"""The Ed25519 keys of a ledger and of a witness, in PEM files that only the node's user may read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from stelsel.base.errors import ConfigurationFault

SIGNATURE_SIZE = 64


def load_key(path: Path) -> Ed25519PrivateKey:
    """Read the key from `path`; make it when there is none. Raises `ConfigurationFault`."""
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
    return key


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of the public key (RFC 8032)."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def is_signed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether this key made this signature; False as well for bytes that are no key or no signature."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


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

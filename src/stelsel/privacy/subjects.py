"""Subject references: the pseudonyms under which this peer's ledger knows residents.

Pseudonymisation as GDPR article 4(5) means it: the key is kept apart from the ledger, in a file that only the node may
read. Every peer has a key of its own, so what two peers recorded about one resident cannot be put together by its
references; without the key nobody can try all numbers.
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from stelsel.base.errors import BadRequest, ConfigurationFault
from stelsel.privacy import bsn

KEY_LENGTH = 32
"""Bytes: as long as the hash (RFC 2104, section 3)."""
_DIGEST_LENGTH = 20


class SubjectReferences:
    """Turns a citizen service number into this peer's reference for that resident."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) < KEY_LENGTH:
            raise ValueError(f"the key must be at least {KEY_LENGTH} bytes")
        self._key = key

    def of(self, number: str) -> str:
        """The reference: 32 lower-case base32 characters, always the same for the same resident and key.

        Raises `BadRequest` (without the number) when it is no valid citizen service number.
        """
        if not bsn.valid(number):
            raise BadRequest("this is not a valid citizen service number: nine digits that pass the eleven-test")
        digest = hmac.digest(self._key, b"burgerservicenummer:" + number.encode("ascii"), "sha256")
        return base64.b32encode(digest[:_DIGEST_LENGTH]).decode("ascii").lower()

    @classmethod
    def load(cls, path: Path) -> SubjectReferences:
        """With the key in the file `path`, made with a new random key (mode 600) when there is none.

        Raises `ConfigurationFault` when others may read the file or when it holds no key.
        """
        with suppress(FileExistsError):
            _create(path)
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                key = file.read(KEY_LENGTH + 1)
        except OSError as error:
            raise ConfigurationFault(f"{path}: cannot be read ({error.strerror})") from error
        if mode & 0o077:
            raise ConfigurationFault(f"{path}: others may read this key", next_step=f"chmod 600 {path}")
        if len(key) != KEY_LENGTH:
            raise ConfigurationFault(
                f"{path}: does not hold a key of {KEY_LENGTH} bytes",
                next_step="put back the file from a backup: with another key no resident finds earlier uses",
            )
        return cls(key)


def _create(path: Path) -> None:
    """Make the key file whole or not at all: a crash half-way must not leave half a key behind."""
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_LENGTH))
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError as error:
        raise ConfigurationFault(f"{path}: cannot be made ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

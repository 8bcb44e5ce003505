"""What stands in the Merkle tree for a record: a commitment that says nothing, but to which parts can be opened.

    sealed     = SHA-256(nonce || canonical(record))        nonce: 16 random bytes
    commitment = SHA-256(canonical(counted) || sealed)      counted: `Record.counted()`

Showing `counted` and `sealed` proves what was counted and hides the rest; showing record and nonce proves all.
Erasing record and nonce leaves the tree, and so every other proof, as it was. The border between the two parts of
the commitment is fixed because `sealed` is always the last 32 bytes.
"""

from __future__ import annotations

import hashlib
import os

NONCE_SIZE = 16
HASH_SIZE = 32
_MANY = 1024


def new_nonce() -> bytes:
    """Sixteen unpredictable bytes, so that nobody can guess a record and check the guess against the tree."""
    return os.urandom(NONCE_SIZE)


class Nonces:
    """Nonces as `new_nonce` gives them; the system is asked once for many."""

    def __init__(self) -> None:
        self._left = b""
        self._at = 0

    def take(self) -> bytes:
        """The next one."""
        at = self._at
        if at == len(self._left):
            self._left, at = os.urandom(_MANY * NONCE_SIZE), 0
        self._at = at + NONCE_SIZE
        return self._left[at : at + NONCE_SIZE]


def sealed(nonce: bytes, record: bytes) -> bytes:
    """The seal over a record's canonical JSON (bytes)."""
    if len(nonce) != NONCE_SIZE:
        raise ValueError("a nonce has 16 bytes")
    return hashlib.sha256(nonce + record).digest()


def commitment(counted: bytes, seal: bytes) -> bytes:
    """The 32-byte leaf of the tree for a record with this counted part (canonical JSON) and this seal."""
    if len(seal) != HASH_SIZE:
        raise ValueError("a seal has 32 bytes")
    return hashlib.sha256(counted + seal).digest()

"""Content hashes and grant hashes (FSC Core 4.2.4 and 4.2.5)."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from stelsel.agreements.fsc_errors import UnknownHashAlgorithm
from stelsel.base.canonical import b64url, canonical

HASH_ALGORITHM = "HASH_ALGORITHM_SHA3_512"
HASH_TYPES = {
    "GRANT_TYPE_SERVICE_PUBLICATION": 2,
    "GRANT_TYPE_SERVICE_CONNECTION": 3,  # the prose of 4.2.5 says 2; the table in 4.2.6.1 is right
    "GRANT_TYPE_DELEGATED_SERVICE_CONNECTION": 4,
    "GRANT_TYPE_DELEGATED_SERVICE_PUBLICATION": 5,
}
"""Grant type to the number of its hash type (4.2.6.1)."""

_CONTENT_HASH = re.compile(r"\$1\$1\$[A-Za-z0-9_-]{86}")
_GRANT_HASH = re.compile(r"\$1\$[2-5]\$[A-Za-z0-9_-]{86}")
_OTHER_ALGORITHM = re.compile(r"\$[0-9]{1,5}\$[0-9]{1,5}\$[!-~]{1,500}")


def content_hash(content: dict[str, Any]) -> str:
    """The hash of a contract's content: `$1$1$` and 86 characters of base64url (4.2.4)."""
    return "$1$1$" + b64url(hashlib.sha3_512(canonical(content)).digest())


def grant_hash(hash_of_content: str, data: dict[str, Any]) -> str:
    """The hash of a grant's `data`, of a known type, within the content with this hash (4.2.5)."""
    digest = hashlib.sha3_512(_bound_to(hash_of_content) + canonical(data)).digest()
    return f"$1${HASH_TYPES[data['type']]}${b64url(digest)}"


def _bound_to(hash_of_content: str) -> bytes:
    # 4.2.5 step 3 appends to "the content hash": we read that as the whole string that 4.2.4 makes, prefix included.
    return hash_of_content.encode("ascii")


def check_content_hash(text: str) -> None:
    """Raises `UnknownHashAlgorithm` when a well-formed hash is of an algorithm that is not supported."""
    if not is_content_hash(text) and _OTHER_ALGORITHM.fullmatch(text) and not text.startswith("$1$"):
        raise UnknownHashAlgorithm("the content hash is made with a hash algorithm that is not supported")


def is_content_hash(text: str) -> bool:
    """Whether `text` has the form of a content hash."""
    return _CONTENT_HASH.fullmatch(text) is not None


def is_grant_hash(text: str) -> bool:
    """Whether `text` has the form of a grant hash."""
    return _GRANT_HASH.fullmatch(text) is not None

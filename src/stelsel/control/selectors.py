"""How people name a contract: by the start of its content hash, or of the hash of a grant in it."""

from __future__ import annotations

from collections.abc import Iterable

from stelsel.agreements.stored import StoredContract
from stelsel.base.errors import Conflict, NotFound


def find(contracts: Iterable[StoredContract], selector: str) -> StoredContract:
    """The one contract that `selector` names. Raises `NotFound`, or `Conflict` when there are more."""
    found = [stored for stored in contracts if _matches(stored, selector)]
    if not found:
        raise NotFound("no agreement here has that hash", next_step="list them with: stelsel agreement list")
    if len(found) > 1:
        raise Conflict(f"{len(found)} agreements start with that", next_step="give more of the hash")
    return found[0]


def _matches(stored: StoredContract, selector: str) -> bool:
    hashes = [stored.content_hash, *(agreement.grant_hash for agreement in stored.agreements)]
    return any(text.startswith(selector) or text.rpartition("$")[2].startswith(selector) for text in hashes)

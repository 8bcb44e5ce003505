"""Paging as the OpenAPI of FSC asks: `cursor`, `limit`, `sort_order`, and `next_cursor` in the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from stelsel.agreements.fsc_errors import RequestNotReadable
from stelsel.base.canonical import b64url, unb64url
from stelsel.base.errors import BadRequest

T = TypeVar("T")
_LARGEST = 1000


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page is asked: what comes after `after` (None: the first), in this order."""

    after: str | None = None
    limit: int = _LARGEST
    descending: bool = True


def read(query: Mapping[str, str]) -> Paging:
    """The paging parameters of a query. Raises `RequestNotReadable`."""
    limit, order = query.get("limit") or str(_LARGEST), query.get("sort_order") or "SORT_ORDER_DESCENDING"
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= _LARGEST):
        raise RequestNotReadable(f"limit must be a number from 1 to {_LARGEST}")
    if order not in {"SORT_ORDER_ASCENDING", "SORT_ORDER_DESCENDING"}:
        raise RequestNotReadable("sort_order must be SORT_ORDER_ASCENDING or SORT_ORDER_DESCENDING")
    cursor, after = query.get("cursor") or "", None
    if cursor:
        try:
            after = unb64url(cursor).decode("utf-8")
        except (BadRequest, UnicodeDecodeError):
            raise RequestNotReadable("cursor is not one that this manager gave") from None
    return Paging(after, int(limit), order == "SORT_ORDER_DESCENDING")


def page(items: list[T], key: Callable[[T], str], paging: Paging) -> tuple[list[T], str]:
    """(the items of this page, the cursor of the next). The cursor is empty on an empty page only.

    Clients exist that stop at an empty cursor and others that stop at an empty page; both end this way.
    """
    ordered = sorted(items, key=key, reverse=paging.descending)
    if paging.after is not None:
        after = paging.after
        ordered = [item for item in ordered if (key(item) < after if paging.descending else key(item) > after)]
    chosen = ordered[: paging.limit]
    return chosen, b64url(key(chosen[-1]).encode()) if chosen else ""

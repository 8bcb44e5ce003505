"""Paging as the OpenAPI of FSC asks: `cursor`, `limit`, `sort_order`, and `next_cursor` in the answer."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from stelsel.agreements.dialect import USUAL, Dialect
from stelsel.agreements.fsc_errors import RequestNotReadable
from stelsel.base.canonical import unb64url
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


def page_of(keys: Sequence[str], paging: Paging, dialect: Dialect = USUAL) -> tuple[list[str], str]:
    """(the keys of this page, the cursor of the next) out of keys that are in ascending order.

    However many keys there are, only those of the page are looked at.
    """
    after = paging.after
    if paging.descending:
        end = len(keys) if after is None else bisect_left(keys, after)
        start = max(0, end - paging.limit)
        chosen, more = list(reversed(keys[start:end])), start > 0
    else:
        start = 0 if after is None else bisect_right(keys, after)
        chosen = list(keys[start : start + paging.limit])
        more = start + paging.limit < len(keys)
    return chosen, dialect.next_cursor(chosen[-1], more=more) if chosen else ""


def page(items: Iterable[T], key: Callable[[T], str], paging: Paging, dialect: Dialect = USUAL) -> tuple[list[T], str]:
    """As `page_of`, of items that are not in order yet, by a key that no two share."""
    by_key = {key(item): item for item in items}
    chosen, cursor = page_of(sorted(by_key), paging, dialect)
    return [by_key[each] for each in chosen], cursor

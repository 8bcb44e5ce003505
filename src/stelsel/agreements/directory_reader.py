"""Reading what the managers of other peers list, page by page: the directory's, or a counterparty's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from stelsel.agreements.client import PeerClients
from stelsel.agreements.group import Group
from stelsel.agreements.stored import ListedPeer, ListedService
from stelsel.base.errors import BadGateway

_MOST_PAGES = 1000


async def pages(
    clients: PeerClients, peer_id: str, address: str, path: str, member: str, query: dict[str, str], limit: int = 1000
) -> AsyncIterator[list[Any]]:
    """The items that a peer's manager lists, a page at a time, oldest or lowest first.

    Raises `Unavailable`, `BadGateway` or `PeerRefused`.
    """
    cursor = ""
    for _ in range(_MOST_PAGES):
        asked = query | {"limit": str(limit), "sort_order": "SORT_ORDER_ASCENDING"}
        page = await clients.get(peer_id, address, path, asked | ({"cursor": cursor} if cursor else {}))
        items, pagination = page.get(member), page.get("pagination")
        if not isinstance(items, list) or not isinstance(pagination, dict):
            raise BadGateway("the other manager's list is not in the form that FSC asks")
        yield items
        following = pagination.get("next_cursor")
        # Some set the cursor on the last page too: an empty page or the same cursor ends it as well.
        if not items or not isinstance(following, str) or following in {"", cursor}:
            return
        cursor = following
    raise BadGateway("the other manager's list has no end")


class DirectoryReader:
    """Reads the group's directory over mutual TLS. Raises `Unavailable`, `BadGateway` or `PeerRefused`."""

    def __init__(self, clients: PeerClients, group: Group) -> None:
        self._clients = clients
        self._group = group

    async def peers(self, peer_id: str | None = None) -> list[ListedPeer]:
        """All peers, or the one with this id if the directory knows it."""
        if peer_id is None:
            return [_peer_from_json(item) for item in await self._all("/v1/peers", "peers", {})]
        # With `peer_id` there is no paging (the OpenAPI).
        page = await self._clients.get(
            self._group.directory_peer_id, self._group.directory_address, "/v1/peers", {"peer_id": peer_id}
        )
        found = page.get("peers")
        if not isinstance(found, list):
            raise BadGateway("the directory's answer is not in the form that FSC asks")
        return [_peer_from_json(item) for item in found]

    async def services(self, peer_id: str | None, name: str | None) -> list[ListedService]:
        """The services of this peer or with this in their name; all when neither is given."""
        query = {key: value for key, value in (("peer_id", peer_id), ("service_name", name)) if value is not None}
        return [_service_from_json(item) for item in await self._all("/v1/services", "services", query)]

    async def _all(self, path: str, member: str, query: dict[str, str]) -> list[Any]:
        where = self._group.directory_peer_id, self._group.directory_address
        return [item async for page in pages(self._clients, *where, path, member, query) for item in page]


def _text(item: Any, name: str) -> str:
    value = item.get(name) if isinstance(item, dict) else None
    if not isinstance(value, str) or len(value) > 500:
        raise BadGateway(f"the directory's answer lacks {name}")
    return value


def _peer_from_json(item: Any) -> ListedPeer:
    return ListedPeer(_text(item, "id"), _text(item, "name"), _text(item, "manager_address"))


def _service_from_json(item: Any) -> ListedService:
    data = item.get("data") if isinstance(item, dict) else None
    if not isinstance(data, dict):
        raise BadGateway("the directory's answer lacks data")
    properties, delegator = data.get("properties"), data.get("delegator")
    return ListedService(
        peer=_peer_from_json(data.get("peer")),
        name=_text(data, "name"),
        protocol=_text(data, "protocol"),
        properties=properties if isinstance(properties, dict) else {},
        delegator=None
        if delegator is None
        else ListedPeer(_text(delegator, "peer_id"), _text(delegator, "peer_name"), ""),
    )

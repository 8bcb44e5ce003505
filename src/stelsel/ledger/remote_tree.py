"""Proofs out of the tiles that another ledger serves (C2SP tlog-tiles): whoever has tiles needs no one to prove."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from stelsel.ledger.merkle import HASH_SIZE, TILE_HEIGHT, TILE_WIDTH, Tiles, consistency_proof, root

Fetch = Callable[[str, int, int, int], Awaitable[bytes]]


async def beginning_and_proof(fetch: Fetch, peer_id: str, first: int, second: int) -> tuple[bytes, tuple[bytes, ...]]:
    """The root that the tree of `second` leaves has at size `first`, and the proof of that, by the peer's own tiles.

    Nothing is checked: the proof must lead to the root that the peer signed. Raises `ValueError` when tiles are not
    what they should be, and what `fetch` raises.
    """
    wanted: set[tuple[int, int]] = set()

    def note(level: int, index: int) -> bytes:
        wanted.add((level // TILE_HEIGHT, (index << level % TILE_HEIGHT) // TILE_WIDTH))
        return bytes(HASH_SIZE)

    root(first, note)
    consistency_proof(first, second, note)
    tiles: dict[tuple[int, int], bytes] = {}
    for level, number in sorted(wanted):
        width = tile_width(second, level, number)
        tiles[level, number] = await fetch(peer_id, level, number, width)
    tree = Tiles(second, lambda level, number: tiles[level, number])
    return root(first, tree.node), tuple(consistency_proof(first, second, tree.node))


def tile_width(size: int, level: int, number: int) -> int:
    """How many hashes a tile has in the tree of `size` leaves; 0 or less: there is no such tile."""
    return min(TILE_WIDTH, (size >> (TILE_HEIGHT * level)) - number * TILE_WIDTH)


def tile_path(level: int, number: int, width: int) -> str:
    """`<L>/<N>[.p/<W>]` of C2SP tlog-tiles: 0/x001/x234/067, 1/000.p/17."""
    text = str(number)
    text = text.zfill(-(-len(text) // 3) * 3)
    parts = [text[at : at + 3] for at in range(0, len(text), 3)]
    path = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
    return f"{level}/{path}" if width == TILE_WIDTH else f"{level}/{path}.p/{width}"

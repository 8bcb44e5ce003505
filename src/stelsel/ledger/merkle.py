"""Merkle trees by RFC 6962 section 2.1 (and RFC 9162 section 2.1), pure.

`Tiles` keeps the hashes of complete subtrees in the layout of C2SP tlog-tiles: a tile is up to 256 hashes of one
level, and levels are eight apart. So the tree grows by appending to a few small byte strings, every inner node is
found in one tile, and tiles can be served as they are. Where tiles are kept is up to the caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from stelsel.ledger.faults import ProofInvalid

HASH_SIZE = 32
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
EMPTY_ROOT = hashlib.sha256(b"").digest()

Node = Callable[[int, int], bytes]
"""Gives the hash of the complete subtree of 2**level leaves that starts at leaf `index * 2**level`."""

_sha256 = hashlib.sha256


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf: SHA-256(0x00 || data)."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256(0x01 || left || right)."""
    return _sha256(b"\x01" + left + right).digest()


class Tiles:
    """A growing tree. `load(level, number)` gives the bytes of a tile that was saved before."""

    def __init__(self, size: int = 0, load: Callable[[int, int], bytes] | None = None) -> None:
        self.size = size
        self._load = load
        self._tiles: dict[tuple[int, int], bytearray] = {}
        self.changed: set[tuple[int, int]] = set()
        """Tiles that differ from what was saved; see `saved`."""

    def append(self, leaf: bytes) -> int:
        """Add a leaf hash; gives its index."""
        index = self.size
        level = 0
        place = index
        value = leaf
        while True:
            number, column = divmod(place, TILE_WIDTH)
            tile = self._tile(level, number, column)
            tile += value
            self.changed.add((level, number))
            if column != TILE_WIDTH - 1:
                break
            value = _subtree(tile)
            level += 1
            place = number
        self.size = index + 1
        return index

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add leaf hashes, many at a time."""
        taken = 0
        while taken < len(leaves):
            number, column = divmod(self.size, TILE_WIDTH)
            room = TILE_WIDTH - 1 - column
            if room == 0:
                self.append(leaves[taken])
                taken += 1
                continue
            more = leaves[taken : taken + room]
            tile = self._tile(0, number, column)
            tile += b"".join(more)
            self.changed.add((0, number))
            self.size += len(more)
            taken += len(more)

    def tile(self, level: int, number: int) -> bytes:
        """The bytes of a tile, as it is now."""
        width = min(TILE_WIDTH, (self.size >> (TILE_HEIGHT * level)) - number * TILE_WIDTH)
        return bytes(self._tile(level, number, width))

    def stored(self, level: int, number: int) -> bytes:
        """The bytes of a tile as they were saved, whatever they are; empty when there is none."""
        return self._load(level, number) if self._load is not None else b""

    def saved(self) -> None:
        """Forget tiles that are complete and saved; the right edge of the tree stays in memory."""
        self.changed.clear()
        if self._load is not None:
            edge = {key: tile for key, tile in self._tiles.items() if len(tile) < TILE_WIDTH * HASH_SIZE}
            self._tiles = edge

    def node(self, level: int, index: int) -> bytes:
        """A `Node` of this tree."""
        tile_level, height = divmod(level, TILE_HEIGHT)
        first = index << height
        number, column = divmod(first, TILE_WIDTH)
        width = 1 << height
        data = self.tile(tile_level, number)[column * HASH_SIZE : (column + width) * HASH_SIZE]
        if len(data) != width * HASH_SIZE:
            raise ValueError("the tree has no such complete subtree")
        return _subtree(data)

    def _tile(self, level: int, number: int, width: int) -> bytearray:
        tile = self._tiles.get((level, number))
        if tile is None:
            tile = bytearray()
            if width and self._load is not None:
                tile += self._load(level, number)[: width * HASH_SIZE]
            if len(tile) != width * HASH_SIZE:
                raise ValueError(f"tile {level}/{number} does not hold the {width} hashes it should")
            self._tiles[level, number] = tile
        return tile


def _subtree(hashes: bytes | bytearray) -> bytes:
    """The root over a power of two of hashes."""
    row = bytes(hashes)
    while len(row) > HASH_SIZE:
        pairs = range(0, len(row), 2 * HASH_SIZE)
        row = b"".join([_sha256(b"\x01" + row[at : at + 2 * HASH_SIZE]).digest() for at in pairs])
    return row


def root(size: int, node: Node) -> bytes:
    """The root of the tree of the first `size` leaves."""
    return EMPTY_ROOT if size == 0 else _range(0, size, node)


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """The audit path of leaf `index` in the tree of `size` leaves (RFC 6962, 2.1.1), leaf to root."""
    if not 0 <= index < size:
        raise ValueError("no such leaf in a tree of that size")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range(middle, end, node))
            end = middle
        else:
            path.append(_range(start, middle, node))
            start = middle
    return path[::-1]


def consistency_proof(first: int, second: int, node: Node) -> list[bytes]:
    """The proof that the tree of `first` leaves is the beginning of that of `second` (RFC 6962, 2.1.2)."""
    if not 0 < first <= second:
        raise ValueError("a consistency proof goes from a tree that is not empty to one that is not smaller")
    path: list[bytes] = []
    start, end = 0, second
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            path.append(_range(middle, end, node))
            end = middle
        else:
            path.append(_range(start, middle, node))
            start = middle
    if start:  # the old tree is not itself a left part of the new one: its last part comes first
        path.append(_range(start, first, node))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], tree_root: bytes) -> None:
    """Check an audit path (RFC 9162, 2.1.3.2). `leaf` is the leaf's hash. Raises `ProofInvalid`."""
    if not 0 <= index < size:
        raise ProofInvalid("the proof is about a leaf that the tree does not have")
    if any(len(value) != HASH_SIZE for value in (leaf, tree_root, *proof)):
        raise ProofInvalid("a hash in the proof does not have 32 bytes")
    position, last, value = index, size - 1, leaf
    for step in proof:
        if last == 0:
            raise ProofInvalid("the proof is longer than the tree is high")
        if position & 1 or position == last:
            value = node_hash(step, value)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            value = node_hash(value, step)
        position, last = position >> 1, last >> 1
    if last != 0 or value != tree_root:
        raise ProofInvalid("the proof does not lead to the root of the tree")


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that one tree is the beginning of another (RFC 9162, 2.1.4.2). Raises `ProofInvalid`.

    A tree of size 0 is the beginning of every tree, so a proof from it would prove nothing and is refused.
    """
    if not 0 < first <= second:
        raise ProofInvalid("the sizes of the trees do not allow a proof")
    if first == second:
        if proof or first_root != second_root:
            raise ProofInvalid("two trees of one size must be the same tree, without a proof")
        return
    if any(len(value) != HASH_SIZE for value in (first_root, second_root, *proof)):
        raise ProofInvalid("a hash in the proof does not have 32 bytes")
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not path or _climb(first, second, path) != (first_root, second_root):
        raise ProofInvalid("the trees do not share their beginning: two histories were told")


def beginning_of(first: int, second: int, second_root: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that a tree had at size `first`, as this proof shows of the tree of `second` leaves under `second_root`.

    So two trees can be shown to differ in their beginning. For a `first` that is a power of two the usual proof leaves
    that root out, since whoever checks it has it: here it stands first. Raises `ProofInvalid`.
    """
    if not 0 < first < second or not proof or any(len(value) != HASH_SIZE for value in (second_root, *proof)):
        raise ProofInvalid("the sizes of the trees, or the proof, show nothing")
    old, new = _climb(first, second, proof)
    if new != second_root:
        raise ProofInvalid("the proof does not lead to the root of the tree")
    return old


def _climb(first: int, second: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots of both trees to which a consistency proof leads (RFC 9162, 2.1.4.2, steps 4 to 6)."""
    position, last = first - 1, second - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = path[0]
    for step in path[1:]:
        if last == 0:
            raise ProofInvalid("the proof is longer than the tree is high")
        if position & 1 or position == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, step)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ProofInvalid("the proof is shorter than the tree is high")
    return old, new


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << (size - 1).bit_length() - 1


def _range(start: int, end: int, node: Node) -> bytes:
    """The root over the leaves start..end-1, a range that occurs in the recursion of RFC 6962, 2.1."""
    parts: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        parts.append(node(level, start >> level))
        start += 1 << level
    value = parts.pop()
    while parts:
        value = node_hash(parts.pop(), value)
    return value

"""The tree is that of RFC 6962, its proofs hold, and nothing else does."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.merkle import (
    EMPTY_ROOT,
    Tiles,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root,
    verify_consistency,
    verify_inclusion,
)


def _naive(data: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word for word."""
    if not data:
        return hashlib.sha256(b"").digest()
    if len(data) == 1:
        return hashlib.sha256(b"\0" + data[0]).digest()
    k = 1
    while k * 2 < len(data):
        k *= 2
    return hashlib.sha256(b"\1" + _naive(data[:k]) + _naive(data[k:])).digest()


def _path(m: int, data: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, 2.1.1, word for word."""
    if len(data) == 1:
        return []
    k = 1
    while k * 2 < len(data):
        k *= 2
    if m < k:
        return [*_path(m, data[:k]), _naive(data[k:])]
    return [*_path(m - k, data[k:]), _naive(data[:k])]


def _subproof(m: int, data: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962, 2.1.2, word for word."""
    if m == len(data):
        return [] if whole else [_naive(data)]
    k = 1
    while k * 2 < len(data):
        k *= 2
    if m <= k:
        return [*_subproof(m, data[:k], whole), _naive(data[k:])]
    return [*_subproof(m - k, data[k:], False), _naive(data[:k])]


LEAVES = [number.to_bytes(4, "big") for number in range(1200)]
TREE = Tiles()
for _leaf in LEAVES:
    TREE.append(leaf_hash(_leaf))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 1200).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))))
def test_roots_and_inclusion_proofs_are_those_of_the_rfc(case: tuple[int, int]) -> None:
    size, index = case
    assert root(size, TREE.node) == _naive(LEAVES[:size])
    proof = inclusion_proof(index, size, TREE.node)
    assert proof == _path(index, LEAVES[:size])
    verify_inclusion(leaf_hash(LEAVES[index]), index, size, proof, root(size, TREE.node))
    with pytest.raises(ProofInvalid):
        verify_inclusion(leaf_hash(b"another"), index, size, proof, root(size, TREE.node))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 1200).flatmap(lambda size: st.tuples(st.integers(1, size), st.just(size))))
def test_consistency_proofs_are_those_of_the_rfc(case: tuple[int, int]) -> None:
    first, second = case
    proof = consistency_proof(first, second, TREE.node)
    assert proof == _subproof(first, LEAVES[:second], True)
    verify_consistency(first, second, root(first, TREE.node), root(second, TREE.node), proof)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 300), st.data())
def test_a_history_that_was_changed_has_no_consistency_proof(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second - 1))
    changed = data.draw(st.integers(0, first - 1))
    other = Tiles()
    for number, leaf in enumerate(LEAVES[:second]):
        other.append(leaf_hash(b"rewritten" if number == changed else leaf))
    with pytest.raises(ProofInvalid):
        verify_consistency(
            first,
            second,
            root(first, TREE.node),
            root(second, other.node),
            consistency_proof(first, second, other.node),
        )


def test_a_tree_goes_on_from_saved_tiles() -> None:
    saved: dict[tuple[int, int], bytes] = {}

    def load(level: int, number: int) -> bytes:
        return saved.get((level, number), b"")

    tree = Tiles(0, load)
    for number, leaf in enumerate(LEAVES):
        tree.append(leaf_hash(leaf))
        if number % 97 == 0:
            saved.update({key: tree.tile(*key) for key in tree.changed})
            tree.saved()
            tree = Tiles(tree.size, load)
    assert root(tree.size, tree.node) == root(1200, TREE.node)
    assert inclusion_proof(300, 1100, tree.node) == inclusion_proof(300, 1100, TREE.node)


def test_an_empty_tree_has_the_root_of_the_rfc_and_a_missing_tile_is_noticed() -> None:
    assert root(0, TREE.node) == EMPTY_ROOT
    with pytest.raises(ValueError, match="tile 0/0"):
        Tiles(3, lambda level, number: b"").node(0, 1)
    with pytest.raises(ValueError):
        inclusion_proof(5, 5, TREE.node)
    with pytest.raises(ValueError):
        consistency_proof(0, 5, TREE.node)


@pytest.mark.external
@pytest.mark.parametrize("kind", ["inclusion", "consistency"])
def test_the_probes_of_others_are_judged_right(kind: str, external_data: Path) -> None:
    files = sorted((external_data / "merkle" / kind).rglob("*.json"))
    assert len(files) > 50
    wrong = []
    for path in files:
        probe = json.loads(path.read_text())
        proof = [base64.b64decode(step) for step in probe["proof"] or ()]
        try:
            if kind == "inclusion":
                leaf, tree_root = base64.b64decode(probe["leafHash"]), base64.b64decode(probe["root"])
                verify_inclusion(leaf, probe["leafIdx"], probe["treeSize"], proof, tree_root)
            else:
                roots = base64.b64decode(probe["root1"]), base64.b64decode(probe["root2"])
                verify_consistency(probe["size1"], probe["size2"], *roots, proof)
            refused = False
        except ProofInvalid:
            refused = True
        if refused != probe["wantErr"]:
            wrong.append(f"{path.relative_to(external_data)}: {probe['desc']}")
    assert wrong == []

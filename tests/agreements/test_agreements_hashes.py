"""Content and grant hashes: the worked steps of FSC Core 4.2.4 and 4.2.5, and what may not change them."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelsel.agreements import hashes
from stelsel.agreements.fsc_errors import UnknownHashAlgorithm
from stelsel.base.canonical import parse_json

EXAMPLE: dict[str, Any] = {
    "fsc_version": "2.0.0",
    "iv": "06338364-8305-7b74-8000-de4963503139",
    "group_id": "fsc-example-group",
    "validity": {"not_before": 1672527600, "not_after": 1704063600},
    "grants": [
        {
            "data": {
                "type": "GRANT_TYPE_SERVICE_CONNECTION",
                "service": {
                    "type": "SERVICE_TYPE_SERVICE",
                    "peer_id": "00000000000000000001",
                    "name": "example-service",
                },
                "outway": {
                    "peer_id": "00000000000000000002",
                    "identification": {
                        "type": "OUTWAY_IDENTIFICATION_TYPE_PUBLIC_KEY_THUMBPRINT",
                        "public_key_thumbprint": "3a56f2e9269ac63f0d4394c46b96539da1625b6a985d38029ff89f34e490960c",
                    },
                },
            }
        }
    ],
    "hash_algorithm": "HASH_ALGORITHM_SHA3_512",
    "created_at": 1672527600,
}


def _by_hand(prefix: str, data: bytes) -> str:
    return prefix + base64.urlsafe_b64encode(hashlib.sha3_512(data).digest()).rstrip(b"=").decode()


def test_the_content_hash_is_made_as_the_steps_say() -> None:
    # These members sort the same by code unit as by Python's rule, and hold no floats: json.dumps makes their JCS.
    plain = json.dumps(EXAMPLE, sort_keys=True, separators=(",", ":")).encode()
    assert hashes.content_hash(EXAMPLE) == _by_hand("$1$1$", plain)


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("GRANT_TYPE_SERVICE_PUBLICATION", 2),
        ("GRANT_TYPE_SERVICE_CONNECTION", 3),
        ("GRANT_TYPE_DELEGATED_SERVICE_CONNECTION", 4),
        ("GRANT_TYPE_DELEGATED_SERVICE_PUBLICATION", 5),
    ],
)
def test_the_grant_hash_is_over_the_content_hash_with_its_prefix_and_the_grant(kind: str, number: int) -> None:
    content_hash, data = hashes.content_hash(EXAMPLE), {"type": kind, "a": 1}
    expected = _by_hand(f"$1${number}$", content_hash.encode() + b'{"a":1,"type":"' + kind.encode() + b'"}')
    assert hashes.grant_hash(content_hash, data) == expected
    assert hashes.is_grant_hash(expected)
    assert not hashes.is_content_hash(expected)


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
_objects = st.dictionaries(st.text(max_size=5), _values, max_size=5)


@given(_objects)
def test_the_order_of_members_does_not_matter_and_a_trip_over_the_wire_changes_nothing(content: dict[str, Any]) -> None:
    turned = dict(reversed(content.items()))
    assert hashes.content_hash(turned) == hashes.content_hash(content)
    assert hashes.content_hash(parse_json(json.dumps(content, ensure_ascii=False))) == hashes.content_hash(content)


@given(st.lists(_values, min_size=2, max_size=4, unique_by=repr))
def test_the_order_in_an_array_does_matter(items: list[Any]) -> None:
    turned = list(reversed(items))
    same = json.dumps(turned) == json.dumps(items)
    assert (hashes.content_hash({"grants": turned}) == hashes.content_hash({"grants": items})) is same


def test_a_hash_of_an_unknown_algorithm_is_told_apart_from_nonsense() -> None:
    with pytest.raises(UnknownHashAlgorithm):
        hashes.check_content_hash("$2$1$" + "A" * 86)
    hashes.check_content_hash("nonsense")
    hashes.check_content_hash(hashes.content_hash(EXAMPLE))

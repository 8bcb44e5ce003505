"""JSON: what I-JSON refuses is refused, and what is signed has one form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelsel.base.canonical import b64url, canonical, parse_json, parse_object, unb64url
from stelsel.base.errors import BadRequest

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcé", max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(_json)
def test_the_canonical_form_reads_back_as_the_same_value(value: Any) -> None:
    assert parse_json(canonical(value)) == value


@given(_json)
def test_the_order_of_members_does_not_change_the_canonical_form(value: Any) -> None:
    def reverse(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: reverse(item[name]) for name in reversed(item)}
        return [reverse(member) for member in item] if isinstance(item, list) else item

    assert canonical(reverse(value)) == canonical(value)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"a":{"b":1,"b":2}}',
        "NaN",
        "[1e400]",
        "-Infinity",
        '"\\ud800"',
        "9007199254740993",
        "[" * 70 + "]" * 70,
        "[" * 100_000,
        "",
        "{",
        b"\xff",
        "'x'",
    ],
)
def test_what_i_json_refuses_is_refused(text: str | bytes) -> None:
    with pytest.raises(BadRequest):
        parse_json(text)


def test_a_list_is_not_an_object() -> None:
    with pytest.raises(BadRequest):
        parse_object(json.dumps([1]))


@given(st.binary())
def test_base64url_has_one_form(data: bytes) -> None:
    assert unb64url(b64url(data)) == data


@pytest.mark.parametrize("text", ["QQ==", "QR", "Q", "Q+", "é"])
def test_base64url_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        unb64url(text)

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from privacy_builders import PERSONEN, WEATHER, numbers

from stelsel.base.errors import BadGateway
from stelsel.privacy.guard import answer_subjects, error_holds_records, oversupplied, record_count

WHOLE = PERSONEN.model_copy(update={"records": ""})


def over(answer: Any, *asked: str, service: Any = PERSONEN) -> tuple[str, ...]:
    return oversupplied(service, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), asked)


def test_an_answer_with_only_what_was_asked_passes() -> None:
    person = {"naam": {"voornamen": "A", "geslachtsnaam": "B"}, "nationaliteiten": [{"code": 1}, {"code": 2}]}
    answer = {"type": "RaadpleegMetBurgerservicenummer", "personen": [person, {"naam": {"voornamen": "C"}}]}
    assert over(answer, "naam", "nationaliteiten.code") == ()
    assert over({"personen": []}, "naam") == ()
    assert over({"gebruik": [{"a": {"b": None}}]}, "gebruik", service=WHOLE) == ()


def test_a_leaf_that_was_not_asked_is_named_once() -> None:
    answer = {"personen": [{"naam": {"voornamen": "A", "voorvoegsel": None}, "leeftijd": 3}, {"leeftijd": 4}]}
    assert over(answer, "naam.voornamen") == ("naam.voorvoegsel", "leeftijd")


def test_links_are_not_special() -> None:
    assert over({"personen": [{"naam": "A", "_links": {"self": {"href": "/1"}}}]}, "naam") == ("(other).self.href",)


def test_members_beside_the_records_are_refused_except_the_kind_of_answer() -> None:
    assert over({"personen": [], "type": "x", "totaal": 3, "extra": {"naam": "A"}}, "naam") == ("totaal", "extra.naam")
    assert over({"personen": [], "type": {"naam": "A"}}, "naam") == ("type.naam",)


def test_a_value_where_an_object_was_expected_is_refused() -> None:
    assert over({"personen": [{"naam": "Jan"}]}, "naam.voornamen") == ("naam",)
    assert over({"personen": ["Jan"]}, "naam") == ("personen",)
    assert over({"personen": "Jan"}, "naam") == ("personen",)


def test_what_is_empty_passes_only_above_what_was_asked() -> None:
    answer = {"personen": [{"naam": {}, "partners": [], "kinderen": None, "ouders": {}}]}
    assert over(answer, "naam.voornamen", "partners.naam", "kinderen.naam") == ("ouders",)


def test_a_name_with_a_dot_is_not_taken_for_a_path() -> None:
    assert over({"personen": [{"naam.voornamen": "A"}]}, "naam.voornamen") == ("(other)",)
    assert over({"personen": [{"naam": {"a.b": "A"}}]}, "naam") == ()


def test_names_that_may_be_data_about_people_are_not_repeated() -> None:
    assert over({"personen": [{"Jan Jansen": 1, "999990019": {"x": 1}}]}, "naam") == ("(other)", "(other).x")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b'"x"',
        b"null",
        b"<x/>",
        b"\xff",
        b'{"personen":[],"personen":[{"naam":1}]}',
        b'{"a":NaN}',
        b"[" * 100_000,
    ],
)
def test_an_answer_that_cannot_be_read_with_certainty_raises(answer: bytes) -> None:
    for check in (lambda: over(answer, "naam"), lambda: record_count(PERSONEN, answer)):
        with pytest.raises(BadGateway):
            check()


def test_records_are_counted() -> None:
    assert record_count(PERSONEN, b'{"personen":[{},{}]}') == 2
    assert record_count(PERSONEN, b'{"personen":{}}') == 1
    assert record_count(PERSONEN, b"{}") == 0
    assert record_count(WHOLE, b"{}") == 1
    assert record_count(WEATHER, b"[{},{},{}]") == 3


def test_the_residents_an_answer_is_about_are_found() -> None:
    first, second = numbers(2)
    people = [{"burgerservicenummer": number} for number in (first, second, first)]
    assert answer_subjects(PERSONEN, json.dumps({"personen": [*people, {"naam": "x"}]}).encode()) == (first, second)
    with pytest.raises(BadGateway) as caught:
        answer_subjects(PERSONEN, b'{"personen":[{"burgerservicenummer":"999990018"}]}')
    assert "999990018" not in str(caught.value.problem())


def test_a_verdict_is_bounded() -> None:
    answer = {"personen": [{f"f{number}": 1 for number in range(5_000)}]}
    assert len(over(answer, "naam")) == 100


NAMES = st.sampled_from("abc")
VALUES = st.recursive(
    st.integers(0, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(NAMES, inner, min_size=1, max_size=3),
    max_leaves=12,
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(".".join)


def leaves(value: Any, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return set().union(*(leaves(member, f"{path}.{name}".strip(".")) for name, member in value.items()))
    if isinstance(value, list):
        return set().union(*(leaves(member, path) for member in value))
    return {path}


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=3), st.lists(PATHS, max_size=4).map(tuple))
def test_the_verdict_equals_a_plain_recomputation(person: dict[str, Any], asked: tuple[str, ...]) -> None:
    expected = {leaf for leaf in leaves(person) if not any(leaf == a or leaf.startswith(a + ".") for a in asked)}
    assert set(over({"personen": [person]}, *asked)) == expected
    assert set(over(person, *asked, service=WHOLE)) == expected


@given(st.binary())
def test_any_bytes_give_a_verdict_or_a_fault(answer: bytes) -> None:
    with suppress(BadGateway):
        assert isinstance(oversupplied(PERSONEN, answer, ("naam",)), tuple)


@pytest.mark.parametrize(
    ("body", "holds"),
    [
        (b'{"personen": []}', False),
        (b'{"personen": null, "title": "x"}', False),
        (b'{"personen": {"naam": "x"}}', True),
        (b'{"personen": "x"}', True),
        (b'[{"details": {"personen": [1]}}]', True),
        (b'{"naam": "x"}', False),
        (b"not json", False),
        (b"7", False),
    ],
)
def test_an_error_holds_records_when_their_member_holds_something(body: bytes, holds: bool) -> None:
    assert error_holds_records(PERSONEN, "text/plain", body, ("naam",)) is holds


@pytest.mark.parametrize(
    ("body", "holds"),
    [
        (b'{"title": "x", "status": 404}', False),
        (b'{"data": {"naam": "x"}}', True),
        (b'{"naam": null}', False),
        (b'[{"adres": "x"}]', True),
        (b"[]", False),
    ],
)
def test_an_error_where_the_answer_is_the_record_may_not_hold_what_was_asked(body: bytes, holds: bool) -> None:
    assert error_holds_records(WHOLE, "application/json", body, ("naam.voornamen", "status")) is holds


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/problem+json", b"not json"),
        ("text/plain", b' {"personen": [1], "personen": []}'),
        ("", b"\xef\xbb\xbf[NaN]"),
    ],
)
def test_an_error_that_looks_like_json_but_cannot_be_read_is_not_trusted(kind: str, body: bytes) -> None:
    with pytest.raises(BadGateway):
        error_holds_records(PERSONEN, kind, body, ("naam",))


def test_what_is_remembered_of_what_was_asked_is_bounded_in_bytes_too() -> None:
    """Whoever may ask a service chooses which fields it asks, and how many: it must not fill our memory."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(200):
            asked = tuple(f"naam.veld-{number}-{each}" for each in range(2000))
            assert oversupplied(PERSONEN, b'{"personen": [{"naam": {"x": "y"}}]}', asked) == ("naam.x",)
        assert tracemalloc.get_traced_memory()[0] - before < 4_000_000
    finally:
        tracemalloc.stop()

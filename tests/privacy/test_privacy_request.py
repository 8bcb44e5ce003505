from __future__ import annotations

import json
import traceback
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from privacy_builders import PERSONEN, WEATHER, numbers

from stelsel.base.errors import BadRequest
from stelsel.privacy.paths import covered, is_path
from stelsel.privacy.request import DataRequest, read_request

BSN, OTHER = numbers(2)
WRONG = "999990018"


def post(body: Any, content_type: str = "application/json", target: str = "/personen") -> DataRequest:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_request(PERSONEN, "POST", target, content_type, data)


def get(target: str) -> DataRequest:
    return read_request(PERSONEN, "GET", target, "", b"")


def test_a_post_in_the_manner_of_haal_centraal_is_read() -> None:
    request = post(
        {
            "type": "RaadpleegMetBurgerservicenummer",
            "fields": ["naam", "verblijfplaats.verblijfadres.postcode", "naam"],
            "burgerservicenummer": [BSN, OTHER, BSN],
            "gemeenteVanInschrijving": "0599",
        },
        "application/json; charset=UTF-8",
    )
    assert request.fields == ("naam", "verblijfplaats.verblijfadres.postcode")
    assert request.search_parameters == ("burgerservicenummer", "gemeenteVanInschrijving")
    assert request.subjects == (BSN, OTHER)


def test_of_nested_parameters_the_dotted_paths_count() -> None:
    request = post(
        {"fields": ["naam"], "adres": {"postcode": "1234AB", "huis": [{"nummer": 1}, {"letter": "a"}]}, "q": []}
    )
    assert request.search_parameters == ("adres.postcode", "adres.huis.nummer", "adres.huis.letter", "q")


def test_a_get_is_read() -> None:
    request = get("/v2/personen?fields=naam,geboorte.datum&postcode=1234AB&woonplaats=%27s-Gravenhage")
    assert request == DataRequest(("naam", "geboorte.datum"), ("postcode", "woonplaats"))
    assert get("/personen?fields=naam%2Cgeboorte&q=").fields == ("naam", "geboorte")


@pytest.mark.parametrize(
    "ask",
    [
        lambda: post({"burgerservicenummer": BSN}),
        lambda: post({"fields": [], "burgerservicenummer": BSN}),
        lambda: post({"fields": None}),
        lambda: get("/personen?postcode=1234AB"),
        lambda: get("/personen?fields="),
        lambda: get("/personen"),
    ],
)
def test_a_request_without_fields_is_refused_and_told_so(ask: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        ask()
    problem = caught.value.problem()
    assert problem["status"] == 400
    assert problem["code"] == "paramsRequired"
    assert problem["invalidParams"][0]["name"] == "fields"
    assert "mandatory" in problem["detail"]


ODD_PATHS = [
    "*",
    "naam.*",
    "naam..x",
    "naam.",
    ".naam",
    "",
    " naam",
    "naam ",
    "naam\n",
    "naаm",
    "ｎaam",
    "naam[0]",
    "naam/x",
    "$.naam",
    "naam.1",
    "na\u200bam",
    "naam%2Ex",
    "a" * 201,
    "naam,leeftijd",
    "..",
    "naam\x00",
]


@pytest.mark.parametrize("path", ODD_PATHS)
def test_an_odd_field_path_is_refused(path: str) -> None:
    with pytest.raises(BadRequest):
        post({"fields": ["naam", path]})


@pytest.mark.parametrize("name", [path for path in ODD_PATHS if path] + ["naam.voornamen", ""])
def test_an_odd_parameter_name_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        post({"fields": ["naam"], name: "x"})


@pytest.mark.parametrize(
    "fields", ["naam", {"naam": True}, [["naam"]], [1], [None], True, 5, ["naam", {"x": 1}], ["f"] * 501]
)
def test_fields_that_are_no_list_of_texts_are_refused(fields: Any) -> None:
    with pytest.raises(BadRequest):
        post({"fields": fields})


@pytest.mark.parametrize(
    "body",
    [
        b'{"fields":["naam"],"fields":["naam","geboorte"]}',
        b'{"fields":["naam"],"adres":{"a":1,"a":2}}',
        b'["fields"]',
        b"null",
        b"",
        b'{"fields":["naam"]',
        b'{"fields":["naam"]}{}',
        b'{"fields":["naam"],"x":NaN}',
        b'\xff\xfe{\x00"',
        b'\xef\xbb\xbf{"fields":["naam"]}',
        b"fields=naam",
        b'{"fields":["naam"],"type":["a"]}',
        b'{"fields":["naam"],"type":"a b"}',
        b'{"fields":["naam"],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_body_that_two_programs_may_read_differently_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        post(body)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/xml",
        "application/json; charset=utf-16",
        "application/json, text/plain",
        "application/jsonx",
        "multipart/form-data",
        "application/json; charset=utf-8; x=y",
    ],
)
def test_an_unknown_content_type_is_refused(content_type: str) -> None:
    with pytest.raises(BadRequest):
        post({"fields": ["naam"]}, content_type)


@pytest.mark.parametrize(
    "target",
    [
        "/personen?fields=naam&fields=geboorte",
        "/personen?fields=&fields=naam",
        "/personen?fields=naam&q=1&q=2",
        "/personen?fields=naam&fields%5B%5D=geboorte",
        "/personen?fields[]=naam",
        "/personen?%66ields=naam",
        "/personen?fields=naam;fields=geboorte",
        "/personen?fields=naam&&q=1",
        "/personen?fields=naam&",
        "/personen?fields=naam&q",
        "/personen?fields=naam%",
        "/personen?fields=naam%2",
        "/personen?fields=naam&q=%GG",
        "/personen?fields=naam&q=%ff",
        "/personen?fields=naam&q=%00",
        "/personen?fields=naam&q=%0d%0aX:1",
        "/personen?fields=naam%252Cgeboorte",
        "/personen?fields=naam+geboorte",
        "/personen?fields=naam,,geboorte",
        "/personen?fields=naam,",
        "/personen?fields=n%C3%A0am",
        "/personen?fields=naam#geboorte",
        "/personen?fields=na\u0430m",
        "/personen?Fields=naam",
        f"/personen?fields=naam&burgerservicenummer={BSN}",
        f"/personen/{BSN}?fields=naam",
        "/personen/../alles?fields=naam",
        "/personen//x?fields=naam",
        "/personen/%2e%2e/alles?fields=naam",
        "/person%65n?fields=naam",
        "/personen/1234AB?fields=naam",
        "/personen;fields=geboorte?fields=naam",
        "personen?fields=naam",
        "http://elders/personen?fields=naam",
        "",
        "/personen?fields=naam&q=" + "a" * 9000,
        "/personen?fields=naam&" + "&".join(f"p{number}=1" for number in range(51)),
    ],
)
def test_an_odd_address_is_refused(target: str) -> None:
    with pytest.raises(BadRequest):
        get(target)


def test_a_post_with_a_query_and_a_get_with_a_body_are_refused() -> None:
    with pytest.raises(BadRequest):
        post({"fields": ["naam"]}, target="/personen?fields=naam,geboorte")
    with pytest.raises(BadRequest):
        post({"fields": ["naam"]}, target="/personen?")
    with pytest.raises(BadRequest):
        read_request(PERSONEN, "GET", "/personen?fields=naam", "application/json", b'{"fields":["geboorte"]}')


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "post", "get", "QUERY", ""])
def test_another_method_is_refused(method: str) -> None:
    with pytest.raises(BadRequest):
        read_request(PERSONEN, method, "/personen?fields=naam", "application/json", b"")


@pytest.mark.parametrize("number", [WRONG, int(BSN), [BSN, WRONG], None, [], {}, "", BSN + " ", True])
def test_a_wrong_number_is_refused_and_never_repeated(number: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        post({"fields": ["naam"], "burgerservicenummer": number})
    shown = "".join(traceback.format_exception(caught.value)) + json.dumps(caught.value.problem())
    assert WRONG not in shown
    assert BSN not in shown


def test_too_many_parameters_or_residents_are_refused() -> None:
    with pytest.raises(BadRequest):
        post({"fields": ["naam"], **{f"p{number}": 1 for number in range(51)}})
    assert len(post({"fields": ["naam"], "burgerservicenummer": numbers(100)}).subjects) == 100
    with pytest.raises(BadRequest):
        post({"fields": ["naam"], "burgerservicenummer": numbers(101)})


def test_a_number_under_another_name_is_a_parameter_of_its_own() -> None:
    request = post({"fields": ["naam"], "Burgerservicenummer": BSN, "partner": {"burgerservicenummer": OTHER}})
    assert request.search_parameters == ("Burgerservicenummer", "partner.burgerservicenummer")
    assert request.subjects == ()


def test_the_subject_parameter_may_be_nested() -> None:
    service = PERSONEN.model_copy(update={"subject_parameter": "persoon.bsn"})
    body = json.dumps({"fields": ["naam"], "persoon": {"bsn": BSN}}).encode()
    assert read_request(service, "POST", "/p", "application/json", body).subjects == (BSN,)


@given(st.sampled_from(numbers(50)))
def test_a_number_is_never_in_the_repr(number: str) -> None:
    request = post({"fields": ["naam"], "burgerservicenummer": [number]})
    assert request.subjects == (number,)
    assert number not in repr(request)
    assert number not in str(request)


def test_a_service_that_is_not_about_people_may_be_asked_in_any_form() -> None:
    assert read_request(WEATHER, "PUT", "/a//b?x", "image/png", b"\x00") == DataRequest((), ())
    assert read_request(WEATHER, "GET", "/weer?fields=wind", "", b"").fields == ("wind",)


@given(st.sampled_from(["GET", "POST", "HEAD"]), st.text(), st.sampled_from(["application/json", "", "x"]), st.binary())
def test_any_bytes_give_a_request_or_a_fault(method: str, target: str, content_type: str, body: bytes) -> None:
    with suppress(BadRequest):
        assert read_request(PERSONEN, method, "/" + target, content_type, body).fields


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "zoek"]), JSON, max_size=3))
def test_every_leaf_of_the_parameters_is_named(parameters: dict[str, Any]) -> None:
    def naive(value: Any, path: str) -> set[str]:
        if isinstance(value, dict) and value:
            return set().union(*(naive(member, f"{path}.{name}") for name, member in value.items()))
        if isinstance(value, list) and value:
            return set().union(*(naive(member, path) for member in value))
        return {path}

    expected = set().union(*(naive(value, name) for name, value in parameters.items())) if parameters else set()
    try:
        request = post({"fields": ["naam"], **parameters})
    except BadRequest:
        return  # an integer too large for JSON
    assert set(request.search_parameters) == expected


@given(st.text(max_size=20))
def test_a_path_is_ascii_names_joined_by_single_dots(text: str) -> None:
    naive = all(part.isascii() and part.isidentifier() and part[0] != "_" for part in text.split("."))
    assert is_path(text) == naive


def test_an_agreed_path_covers_what_lies_under_it_and_nothing_else() -> None:
    assert covered("naam", {"naam"})
    assert covered("naam.voornamen", {"naam"})
    assert covered("a.b.c.d", {"a.b"})
    assert not covered("naam", {"naam.voornamen"})
    assert not covered("naamgebruik", {"naam"})
    assert not covered("x.naam", {"naam"})
    assert not covered("naam", set())

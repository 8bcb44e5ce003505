from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from privacy_builders import GEMEENTE, NOW, PERSONEN, REGISTER, UITKERING, Client, agreement, terms

from stelsel.agreements.agreement import Agreement, State
from stelsel.base.clock import SetClock
from stelsel.base.errors import BadRequest
from stelsel.base.web import application
from stelsel.privacy.api import authzen_routes
from stelsel.privacy.authzen import AgreementIndex, evaluate, read_question

QUESTION: dict[str, Any] = {
    "subject": {"type": "peer", "id": GEMEENTE},
    "action": {"name": "read", "properties": {"processing_activity_id": "https://gemeente.example/parkeren"}},
    "resource": {
        "type": "service",
        "id": "personen",
        "properties": {"fields": ["naam.voornamen"], "search_parameters": ["burgerservicenummer"]},
    },
    "context": {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "unknown": [1]},
    "unknown": {"is": "ignored"},
}


class Held:
    """Agreements as a node holds them: a snapshot, and who wants to know of changes."""

    peer_id = REGISTER

    def __init__(self, *agreements: Agreement) -> None:
        self._agreements = agreements
        self._callbacks: list[Callable[[], None]] = []

    def agreements(self) -> tuple[Agreement, ...]:
        return self._agreements

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def become(self, *agreements: Agreement) -> None:
        self._agreements = agreements
        for callback in self._callbacks:
            callback()


def client(held: Held) -> Client:
    return Client(application(authzen_routes(held, (PERSONEN,), SetClock(NOW), "https://localhost:7243")))


def changed(*path: str, to: Any = None, drop: bool = False) -> dict[str, Any]:
    question = copy.deepcopy(QUESTION)
    node = question
    for name in path[:-1]:
        node = node[name]
    if drop:
        del node[path[-1]]
    else:
        node[path[-1]] = to
    return question


def ask(question: dict[str, Any], *agreements: Agreement) -> dict[str, Any]:
    answer = evaluate(read_question(question), {"personen": PERSONEN}, AgreementIndex(REGISTER, agreements), NOW)
    return answer.to_json()


def test_a_question_within_the_agreement_is_answered_yes() -> None:
    answer = ask(QUESTION, agreement(terms()))
    assert answer["decision"] is True
    assert answer["context"]["agreement"] == "$1$4$parkeren"


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (changed("subject", "id", to=UITKERING), "no-agreement"),
        (changed("subject", "type", to="user"), "no-agreement"),
        (changed("resource", "id", to="ander"), "unknown-service"),
        (changed("resource", "type", to="route"), "unknown-service"),
        (changed("action", "name", to="delete"), "unknown-action"),
        (changed("action", "properties", "processing_activity_id", to="https://x/y"), "other-activity"),
        (changed("resource", "properties", "fields", to=["naam", "leeftijd"]), "unauthorized-field"),
        (changed("resource", "properties", "search_parameters", to=["postcode"]), "unauthorized-parameter"),
        (changed("resource", "properties", "fields", to=[]), "no-fields"),
        (changed("resource", "properties", drop=True), "no-fields"),
    ],
)
def test_a_question_outside_the_agreement_is_answered_no_with_the_reason(question: Any, reason: str) -> None:
    answer = ask(question, agreement(terms()))
    assert answer["decision"] is False
    assert answer["context"]["reason"] == reason
    assert set(answer["context"]["reason_user"]) == {"nl", "en"}


def test_the_activity_may_be_left_out_or_given_with_its_version() -> None:
    assert ask(changed("action", "properties", drop=True), agreement(terms()))["decision"]
    versioned = changed("action", "properties", "processing_activity_id", to="https://gemeente.example/parkeren@1")
    assert ask(versioned, agreement(terms()))["decision"]


def test_one_of_several_agreements_suffices_and_else_the_nearest_miss_is_told() -> None:
    narrow = agreement(terms(("leeftijd",)), grant_hash="$1$4$smal")
    revoked = agreement(terms(), grant_hash="$1$4$oud", state=State.REVOKED)
    assert ask(QUESTION, revoked, narrow, agreement(terms()))["decision"]
    answer = ask(QUESTION, revoked, narrow)
    assert answer["context"]["reason"] == "unauthorized-field"
    assert answer["context"]["refused"] == ["naam.voornamen"]
    assert answer["context"]["agreement"] == "$1$4$smal"


def test_an_agreement_about_another_peers_service_of_the_same_name_does_not_count() -> None:
    assert not ask(QUESTION, replace(agreement(terms()), provider=UITKERING))["decision"]


MALFORMED = [
    changed("subject", drop=True),
    changed("action", drop=True),
    changed("resource", drop=True),
    changed("subject", to="peer"),
    changed("subject", to=None),
    changed("subject", to=[]),
    changed("subject", "id", drop=True),
    changed("subject", "id", to=3),
    changed("subject", "id", to=""),
    changed("subject", "type", drop=True),
    changed("subject", "properties", to=[]),
    changed("action", "name", drop=True),
    changed("action", "name", to=None),
    changed("action", "properties", to="x"),
    changed("action", "properties", "processing_activity_id", to=7),
    changed("resource", "id", to={}),
    changed("resource", "type", to=False),
    changed("resource", "properties", to=None),
    changed("resource", "properties", "fields", to="naam"),
    changed("resource", "properties", "fields", to=["naam.*"]),
    changed("resource", "properties", "fields", to=[1]),
    changed("resource", "properties", "search_parameters", to={"a": 1}),
    changed("resource", "properties", "fields", to=["a"] * 501),
    changed("context", to="now"),
]


@pytest.mark.parametrize("question", MALFORMED)
def test_a_malformed_question_is_a_400(question: dict[str, Any]) -> None:
    response = client(Held(agreement(terms()))).post(
        "/access/v1/evaluation", json=question, headers={"X-Request-ID": "r-1"}
    )
    assert response.status_code == 400
    assert response.headers["x-request-id"] == "r-1"
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"subject":{},"subject":{}}', b"\xff"])
def test_a_body_that_is_no_object_is_a_400(body: bytes) -> None:
    response = client(Held()).post("/access/v1/evaluation", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400


def test_another_content_type_is_a_400() -> None:
    data = json.dumps(QUESTION).encode()
    headers = {"Content-Type": "text/plain"}
    assert client(Held()).post("/access/v1/evaluation", content=data, headers=headers).status_code == 400


def test_a_refusal_is_a_200_and_the_request_id_comes_back() -> None:
    response = client(Held()).post("/access/v1/evaluation", json=QUESTION, headers={"X-Request-ID": "bfe9eb29"})
    assert response.status_code == 200
    assert response.json()["decision"] is False
    assert response.headers["x-request-id"] == "bfe9eb29"
    response = client(Held()).post("/access/v1/evaluation", json=QUESTION)
    assert "x-request-id" not in response.headers


@pytest.mark.parametrize("identity", ["x" * 201, "a\x1b[31m", "a\x80b"])
def test_a_request_id_that_could_do_harm_does_not_come_back(identity: str) -> None:
    headers = {"X-Request-ID": identity.encode("latin-1")}
    response = client(Held()).post("/access/v1/evaluation", json=QUESTION, headers=headers)  # type: ignore[arg-type]
    assert "x-request-id" not in response.headers


def test_a_revocation_counts_at_once() -> None:
    held = Held(agreement(terms()))
    asking = client(held)
    assert asking.post("/access/v1/evaluation", json=QUESTION).json()["decision"]
    held.become(agreement(terms(), state=State.REVOKED))
    answer = asking.post("/access/v1/evaluation", json=QUESTION).json()
    assert not answer["decision"]
    assert answer["context"]["reason"] == "revoked"


def test_the_decision_point_says_where_it_is() -> None:
    response = client(Held()).get("/.well-known/authzen-configuration")
    assert response.json() == {
        "policy_decision_point": "https://localhost:7243",
        "access_evaluation_endpoint": "https://localhost:7243/access/v1/evaluation",
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["subject", "action", "resource", "type", "id", "name", "properties", "fields"]), inner
        )
    ),
    max_leaves=15,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["subject", "action", "resource", "context"]), JSON))
def test_any_question_gets_an_answer_or_a_fault_but_never_a_yes(question: dict[str, Any]) -> None:
    try:
        answer = ask(question, agreement(terms()))
    except BadRequest:
        return
    assert answer["decision"] is False


@pytest.mark.external
def test_questions_of_others_are_well_formed_and_refused_here(external_data: Path) -> None:
    """The interoperability questions are about other resources: readable, so answered, and without ground no yes."""
    asked = 0
    for name in ("todo-decisions-authorization-api-1_0-02.json", "gateway-decisions.json"):
        for case in json.loads((external_data / "authzen" / name).read_text())["evaluation"]:
            response = client(Held(agreement(terms()))).post("/access/v1/evaluation", json=case["request"])
            assert response.status_code == 200
            assert response.json()["decision"] is False
            asked += 1
    assert asked >= 65

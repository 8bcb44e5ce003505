"""The operator's own socket: a slip of the pen is refused, nothing happens that was not meant."""

from __future__ import annotations

from typing import Any

import pytest
from robust_siege import client_for, is_fault_document, state_of

from stelsel.demo.cast import BOUWER, GEMEENTE, PARKING_TERMS, REGIE, REGISTER, Actor
from stelsel.demo.country import MUNICIPALITY, Country
from stelsel.demo.population_register.store import notable_people

_PROPOSAL: dict[str, Any] = {"peer_id": REGISTER.peer_id, "service": "personen", "days": 30}


@pytest.mark.parametrize(
    ("actor", "path", "body"),
    [
        (BOUWER, "/agreements", _PROPOSAL | {"dayz": 3}),
        (BOUWER, "/agreements", _PROPOSAL | {"days": True}),
        (BOUWER, "/agreements", _PROPOSAL | {"days": 0}),
        (BOUWER, "/agreements", _PROPOSAL | {"days": 10**9}),
        (BOUWER, "/agreements", _PROPOSAL | {"peer_id": "1234"}),
        (BOUWER, "/agreements", _PROPOSAL | {"properties": {"nl.stelsel.terms": {"version": 99}}}),
        (BOUWER, "/agreements", _PROPOSAL | {"properties": {"nl.stelsel.terms": "everything"}}),
        (BOUWER, "/log", {"limt": 5}),
        (REGISTER, "/commands/publish", {"schema": "/nowhere", "source": "/nowhere", "query": "x", "force": True}),
        (REGISTER, "/commands/publish", {"schema": "/etc/passwd", "source": "/etc/passwd", "query": "DROP TABLE x"}),
        (REGIE, "/commands/check", {"per": REGISTER.peer_id}),
        (REGIE, "/commands/activate", {"burgerservicenummer": "123456789"}),
        (REGISTER, "/commands/prune", {"before": 4e9, "dryrun": True}),  # all that it has, for good
        (REGISTER, "/commands/retention", {"days": 30}),
        (BOUWER, "/commands/destroy", {}),
    ],
)
def test_a_slip_of_the_pen_is_refused_in_words(
    besieged: Country, actor: Actor, path: str, body: dict[str, Any]
) -> None:
    before = state_of(besieged, actor)
    with client_for(besieged, actor, "control") as client:
        answer = client.post(path, json=body)
    assert 400 <= answer.status_code < 500, answer.text
    assert is_fault_document(answer), answer.text
    assert "incident" not in answer.text, "a mistake of ours"
    assert "123456789" not in answer.text
    assert state_of(besieged, actor) == before


def test_the_municipality_s_own_application_gets_its_answer_through_the_whole_chain(besieged: Country) -> None:
    content_hash = besieged.propose(GEMEENTE, REGISTER, "personen", PARKING_TERMS)
    besieged.agree(GEMEENTE, REGISTER, "personen", PARKING_TERMS)
    resident = notable_people(besieged.folder / "people.sqlite", 1, MUNICIPALITY)[0]
    with client_for(besieged, GEMEENTE, "application") as browser:
        page = browser.get("/")
        assert page.status_code == 200
        answer = browser.post("/", data={"burgerservicenummer": resident.burgerservicenummer})
        assert answer.status_code == 200, answer.text
        wrong = browser.post("/", data={"burgerservicenummer": "123456789"})
        assert wrong.status_code in (200, 400, 422)
        assert "123456789" not in wrong.text
    rows = besieged.control(REGISTER).post("/log", {"peer": GEMEENTE.peer_id, "limit": 4})
    assert any(row["allowed"] for row in rows)
    besieged.control(REGISTER).post(f"/agreements/{content_hash}/revoke")
    besieged.until(GEMEENTE, content_hash, {"revoked"})  # the story begins without it

"""Steps about asking: exactly what was agreed, nothing more, nobody else, and never without a record."""

from __future__ import annotations

import html
import time

from stelsel.demo.cast import BOUWER, GEMEENTE, REGISTER, Actor
from stelsel.demo.scenario.browser import Visitor
from stelsel.demo.scenario.calls import ask_inway, ask_outway, leaves, question, token_of
from stelsel.demo.scenario.play import Evidence, Story, expect
from stelsel.privacy.paths import covered

EXTRA_FIELD = "geboorte.datum"


def ask(story: Story) -> Evidence:
    """The municipality's application asks through its outway and gets exactly the agreed fields."""
    answer = ask_outway(story, GEMEENTE, "personen/personen", question(story, story.terms.fields))
    expect(answer.status_code == 200, "the register answers", answer.text)
    people = answer.json()["personen"]
    expect(len(people) == 1, "about one person", len(people))
    got = leaves(people)
    outside = {path for path in got if not covered(path, frozenset(story.terms.fields))}
    missing = {
        name for name in story.terms.fields if not any(path == name or path.startswith(f"{name}.") for path in got)
    }
    expect(not outside and not missing, "exactly the agreed fields", f"beside: {outside}, missing: {missing}")
    story.transaction_id = answer.headers["fsc-transaction-id"]
    verdict = _fill_in_the_form(story)
    return {
        "status": 200,
        "values": len(got),
        "outside the agreement": 0,
        "the page for the official": verdict,
        "transaction": story.transaction_id,
    }


def _fill_in_the_form(story: Story) -> str:
    """An official fills in the form of the municipality's application; gives what the page says of a permit."""
    verdict = "Een vergunning kan"
    with Visitor() as official:
        official.go(f"{story.country.application(GEMEENTE)}/")
        official.forms[0].fields["burgerservicenummer"] = story.resident.burgerservicenummer
        page = html.unescape(official.press("Vraag het bevolkingsregister").text)
    shown = " ".join(page.partition("<main")[2].split())
    expect(f">{verdict}<" in shown, f"the page says: {verdict}", shown[:1500])
    expect(story.resident.name in shown, "the page names the resident", shown[:1500])
    expect(story.resident.burgerservicenummer not in page, "without the number on the page")
    return verdict


def ask_too_much(story: Story) -> Evidence:
    """One field more: refused at home and at the register, naming the field; and both refusals are recorded."""
    body = question(story, (*story.terms.fields, EXTRA_FIELD))
    at_home = ask_outway(story, GEMEENTE, "personen/personen", body)
    at_register = ask_inway(story, GEMEENTE, token_of(story, GEMEENTE, story.grant_hash), body)
    for answer in (at_home, at_register):
        expect(answer.status_code == 403, "403", f"{answer.status_code} {answer.text}")
        expect(answer.headers["content-type"].startswith("application/problem+json"), "problem+json", answer.headers)
        expect(EXTRA_FIELD in answer.text, "it names the field", answer.text)
        expect("personen" not in answer.json(), "no person in it", answer.text)
    for actor, answer in ((GEMEENTE, at_home), (REGISTER, at_register)):
        rows = _records(story, actor, answer.headers["fsc-transaction-id"])
        expect(rows and not any(row.get("allowed") for row in rows), f"{actor.name} recorded the refusal", rows)
        expect(rows[0]["refused"] == [EXTRA_FIELD], "with the name of the field", rows[0])
    return {"refused by": "the outway and the inway", "field": EXTRA_FIELD, "code": at_register.json().get("code", "")}


def strangers(story: Story) -> Evidence:
    """The company has no agreement: refused. A token of the municipality is no use with the company's certificate."""
    body = question(story, ("naam.volledigeNaam",))
    without = ask_outway(story, BOUWER, f"{REGISTER.peer_id}/personen/personen", body)
    expect(without.status_code == 403, "no agreement: 403", f"{without.status_code} {without.text}")
    reason = without.json().get("reason")
    expect(reason == "no-agreement", "with the reason", without.text)
    rows = _records(story, BOUWER, without.headers["fsc-transaction-id"])
    expect(rows and not any(row.get("allowed") for row in rows), f"{BOUWER.name} recorded the refusal", rows)
    expect({row["reason"] for row in rows} == {reason}, "with the same reason", rows)
    bare = ask_inway(story, BOUWER, None, body)
    expect(bare.headers.get("fsc-error-code") == "ERROR_CODE_ACCESS_TOKEN_MISSING", "a token is asked", bare.text)
    stolen = ask_inway(story, BOUWER, token_of(story, GEMEENTE, story.grant_hash), body)
    expect(stolen.status_code == 401, "a token is bound to its certificate", f"{stolen.status_code} {stolen.text}")
    expect(stolen.headers.get("fsc-error-code") == "ERROR_CODE_ACCESS_TOKEN_INVALID", "the FSC code", stolen.headers)
    return {
        "without agreement": f"{without.status_code} {reason}, recorded by {BOUWER.name}",
        "without token": bare.headers["fsc-error-code"],
        "with a stolen token": stolen.headers["fsc-error-code"],
    }


def both_ledgers(story: Story) -> Evidence:
    """Both ledgers hold the exchange under one transaction id and one trace id; without a ledger there are no calls."""
    mine, theirs = (_records(story, actor, story.transaction_id) for actor in (GEMEENTE, REGISTER))
    expect(mine and theirs, "both have a record", (mine, theirs))
    expect(mine[0]["trace_id"] == theirs[0]["trace_id"], "one trace id", (mine[0]["trace_id"], theirs[0]["trace_id"]))
    refused = {}
    for actor in (REGISTER, GEMEENTE):
        refused[actor.name] = _without_ledger(story, actor)
    again = ask_outway(story, GEMEENTE, "personen/personen", question(story, story.terms.fields))
    expect(again.status_code == 200, "and it works again by itself", again.text)
    return {"trace": mine[0]["trace_id"], "records": len(mine) + len(theirs), "ledger away": refused}


def _without_ledger(story: Story, actor: Actor) -> str:
    segments = story.country.data(actor) / "ledger" / "segments"
    away = segments.with_name("segments-away")
    segments.rename(away)
    try:
        answer = ask_outway(story, GEMEENTE, "personen/personen", question(story, story.terms.fields))
    finally:
        away.rename(segments)
    code = answer.headers.get("fsc-error-code", "")
    expect(
        answer.status_code >= 500, f"refused while {actor.name} cannot record", f"{answer.status_code} {answer.text}"
    )
    expect(code == "TRANSACTION_LOG_WRITE_ERROR", "with the code for it", code)
    # The ledger notices by itself that it can write again; how soon is up to it.
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        answer = ask_outway(story, GEMEENTE, "personen/personen", question(story, story.terms.fields))
        if answer.status_code == 200:
            break
        time.sleep(0.05)
    return f"{code} ({actor.key})"


def _records(story: Story, actor: Actor, transaction_id: str) -> list[Evidence]:
    rows: list[Evidence] = story.country.control(actor).post("/log", {"transaction_id": transaction_id})
    return rows

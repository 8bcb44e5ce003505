"""Steps about the agreement itself: found, proposed, read, accepted; and at the end revoked."""

from __future__ import annotations

import time

from stelsel.demo.cast import GEMEENTE, REGISTER
from stelsel.demo.scenario.calls import ask_inway, question, token_of
from stelsel.demo.scenario.play import Evidence, Story, expect


def propose(story: Story) -> Evidence:
    """The municipality finds the service in the directory and proposes an agreement for a parking permit."""
    control = story.country.control(GEMEENTE)
    listed = control.get("/services")
    found = [row for row in listed if (row["peer_id"], row["service"]) == (REGISTER.peer_id, "personen")]
    expect(found, "the directory lists the service personen", listed)
    story.content_hash = story.country.propose(GEMEENTE, REGISTER, "personen", story.terms)
    row = control.get(f"/agreements/{story.content_hash}")
    expect(row["state"] == "proposed", "the agreement is proposed, not in force", row["state"])
    return {
        "in the directory": f"{found[0]['peer']}: {found[0]['service']}",
        "purpose": story.terms.purpose,
        "legal basis": story.terms.legal_basis.article,
        "fields": len(story.terms.fields),
        "contract": story.content_hash,
    }


def accept(story: Story) -> Evidence:
    """The register reads in plain words what is asked, and accepts."""
    story.country.until(REGISTER, story.content_hash, {"proposed"})
    control = story.country.control(REGISTER)
    words = control.get(f"/agreements/{story.content_hash}")["readable"]["nl"]
    text = " ".join(words)
    for told in (story.terms.purpose, story.terms.legal_basis.article):
        expect(told in text, f"the words for the register name {told!r}", text)
    control.post(f"/agreements/{story.content_hash}/accept")
    row = story.country.until(GEMEENTE, story.content_hash, {"valid"})
    story.grant_hash = row["grant_hashes"][0]
    return {"read": words[0], "sentences": len(words), "state at both": "valid", "grant": story.grant_hash}


def revoke(story: Story) -> Evidence:
    """The register revokes: the next call is refused within a second, though the token still lives."""
    token = token_of(story, GEMEENTE, story.grant_hash)
    body = question(story, story.terms.fields)
    before = ask_inway(story, GEMEENTE, token, body)
    expect(before.status_code == 200, "the token works before the revocation", before.text)
    begin = time.perf_counter()
    story.country.control(REGISTER).post(f"/agreements/{story.content_hash}/revoke")
    refused = ask_inway(story, GEMEENTE, token, body)
    seconds = time.perf_counter() - begin
    expect(refused.status_code in (401, 403), "the same token is refused after it", refused.text)
    expect(seconds < 1, "that takes less than a second", seconds)
    story.country.until(GEMEENTE, story.content_hash, {"revoked"})
    return {
        "answer before": before.status_code,
        "answer after": refused.status_code,
        "reason": refused.json().get("reason") or refused.headers.get("fsc-error-code", ""),
        "seconds from order to refusal": round(seconds, 3),
    }

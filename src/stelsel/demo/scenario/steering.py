"""Steps of the steward: who keeps the mandatory agreements, what follows if not, and what a goal comes to."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import httpx

from stelsel.demo.cast import BOUWER, GEMEENTE, REGIE, REGISTER
from stelsel.demo.scenario.calls import ask_outway
from stelsel.demo.scenario.play import Evidence, Story, expect

GOAL = "zonder-papier"


def board_and_gate(story: Story) -> Evidence:
    """The company fails an obligation past its deadline: its next contract is refused, until it mends."""
    country = story.country
    steward, company = country.control(REGIE), country.control(BOUWER)
    for _ in range(2):  # a consequence takes two failures, found by two runs
        steward.post("/commands/check")
    board = _get(f"{country.web(REGIE)}/steering/board")
    met = {peer["name"]: f"{peer['tally']['met']} of {peer['tally']['due']}" for peer in board["peers"]}
    expect(len(met) == 5, "five peers on the board", met)
    failing = next(peer for peer in board["peers"] if peer["peer_id"] == BOUWER.peer_id)
    expect(failing["refusal"], "the company gets no new contracts", failing)

    content_hash = str(
        company.post("/agreements", {"peer_id": GEMEENTE.peer_id, "service": "parkeerplaatsen", "days": 30})[
            "content_hash"
        ]
    )
    delivery = _delivery(story, content_hash, {"refused"})
    expect(delivery["reason"] and delivery["evidence"], "refused with the reason and the evidence", delivery)
    going_on = ask_outway(story, BOUWER, "parkeerplaatsen/parkeerplaatsen")
    expect(going_on.status_code == 200, "running agreements go on", going_on.text)

    country.write_node(BOUWER, security_contact=True)
    country.restart(BOUWER)
    steward.post("/commands/check", {"peer_id": BOUWER.peer_id})
    company = country.control(BOUWER)
    deadline = time.monotonic() + 15  # peers remember the steward's answer for seconds
    while time.monotonic() < deadline:
        company.post(f"/agreements/{content_hash}/resend")
        if _delivery(story, content_hash, {"refused", "delivered"})["status"] == "delivered":
            break
        time.sleep(0.5)
    country.until(GEMEENTE, content_hash, {"proposed"})
    country.control(GEMEENTE).post(f"/agreements/{content_hash}/accept")
    country.until(BOUWER, content_hash, {"valid"})
    return {
        "met today": met,
        "refused because": delivery["reason"],
        "evidence": [item.get("finding", item.get("id", "")) for item in delivery["evidence"]][:3],
        "running agreement": going_on.status_code,
        "after mending": "accepted",
    }


def goal(story: Story) -> Evidence:
    """A goal's indicator is computed from the ledger, and anyone recomputes the same value."""
    country = story.country
    report = _get(f"{country.web(REGIE)}/steering/goals/{GOAL}")
    expect(report["value"], "the goal is measured", report.get("why", report))
    ledger = report["ledger"]
    evidence = httpx.get(ledger["counted_at"], timeout=60, trust_env=False)
    expect(evidence.status_code == 200, "the evidence is public", evidence.text[:300])
    expect(story.resident.burgerservicenummer not in evidence.text, "and about no person")
    report_file, evidence_file = country.folder / "doel.json", country.folder / "doel-bewijs.ndjson"
    report_file.write_text(json.dumps(report))
    evidence_file.write_bytes(evidence.content)
    again = _recompute(story, report_file, evidence_file)
    expect(again.returncode == 0, "the same value comes out again", again.stderr)
    value = json.loads(again.stdout)["value"]
    expect(value == report["value"], "exactly the same", (value, report["value"]))
    report_file.write_text(json.dumps(report | {"value": report["value"] + 1}))
    expect(_recompute(story, report_file, evidence_file).returncode == 1, "another value does not hold")
    report_file.write_text(json.dumps(report))
    return {
        "goal": report["goal"]["sentence"]["nl"],
        "value": report["value"],
        "target": report["goal"]["target"],
        "status": report["status"],
        "ledger of": REGISTER.name,
        "records": ledger["size"],
        "root": ledger["root"],
    }


def _recompute(story: Story, report: Any, evidence: Any) -> subprocess.CompletedProcess[str]:
    anchors = story.country.folder / "trust-anchors.pem"
    command = [sys.executable, "-m", "stelsel", "verify", str(report), "--evidence", str(evidence)]
    command += ["--trust-anchors", str(anchors), "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def _delivery(story: Story, content_hash: str, statuses: set[str]) -> dict[str, Any]:
    """What became of the company's proposal at the municipality, once it is one of these."""
    deadline = time.monotonic() + 15
    found: dict[str, Any] = {}
    while time.monotonic() < deadline:
        row = story.country.control(BOUWER).get(f"/agreements/{content_hash}")
        mine = [one for one in row["deliveries"] if one["peer_id"] == GEMEENTE.peer_id and one["kind"] == "submit"]
        found = mine[-1] if mine else {}
        if found.get("status") in statuses:
            return found
        time.sleep(0.05)
    expect(False, f"the proposal is {' or '.join(sorted(statuses))}", found)
    return found


def _get(url: str) -> Any:
    answer = httpx.get(url, headers={"accept": "application/json"}, timeout=60, trust_env=False)
    expect(answer.status_code == 200, f"{url} answers", f"{answer.status_code} {answer.text[:300]}")
    return answer.json()

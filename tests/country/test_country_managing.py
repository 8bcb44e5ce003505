"""What people who manage agreements do from the command line, against real nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stelsel.agreements.terms import Terms
from stelsel.demo.cast import BENEFIT_TERMS, GEMEENTE, REGIE, REGISTER, UITKERING, Actor
from stelsel.demo.country import Country
from stelsel.demo.scenario.calls import ask_outway, question
from stelsel.demo.scenario.play import Story

# A relation that no other test here uses.
TERMS = BENEFIT_TERMS.model_copy(update={"purpose": "Beheer van afspraken beproeven"})


def stelsel(country: Country, actor: Actor, *arguments: str) -> subprocess.CompletedProcess[str]:
    node = str(country.folder / actor.key / "node.toml")
    command = [sys.executable, "-m", "stelsel", *arguments, "--node", node]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def as_json(country: Country, actor: Actor, *arguments: str, code: int = 0) -> Any:
    done = stelsel(country, actor, *arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def propose(country: Country, terms: Terms) -> str:
    """A new proposal of the municipality to the register, known at both; its content hash."""
    body = {"peer_id": REGISTER.peer_id, "service": "personen", "days": 20, "properties": terms.to_properties()}
    content_hash = str(country.control(GEMEENTE).post("/agreements", body)["content_hash"])
    country.until(REGISTER, content_hash, {"proposed", "valid"})
    return content_hash


def end(country: Country, *hashes: str) -> None:
    for content_hash in hashes:
        row = country.until(REGISTER, content_hash, {"proposed", "valid", "revoked", "rejected"})
        if row["state"] in {"proposed", "valid"}:
            action = "reject" if row["state"] == "proposed" else "revoke"
            country.control(REGISTER).post(f"/agreements/{content_hash}/{action}")
            country.until(GEMEENTE, content_hash, {"rejected", "revoked"})


def short(content_hash: str) -> str:
    return content_hash.rpartition("$")[2]


@contextmanager
def changed(country: Country, actor: Actor, addition: str) -> Iterator[None]:
    """A node with more in its file, for as long as this lasts."""
    file = country.folder / actor.key / "node.toml"
    before = file.read_text()
    file.write_text(before + addition)
    try:
        country.restart(actor)
        yield
    finally:
        file.write_text(before)
        country.restart(actor)


def test_an_agreement_is_compared_renewed_simulated_and_seen_on_the_radar(country: Country, story: Story) -> None:
    first = propose(country, TERMS)
    country.control(REGISTER).post(f"/agreements/{first}/accept")
    country.until(GEMEENTE, first, {"valid"})

    wider = TERMS.model_copy(update={"fields": (*TERMS.fields, "partners"), "retention": "P1Y"})
    second = propose(country, wider)
    found = as_json(country, REGISTER, "agreement", "diff", short(second))
    (grant,) = found["grants"]
    assert grant["against"] == first
    assert {(change["what"], change["effect"]) for change in grant["changes"]} >= {
        ("field", "widens"),
        ("retention", "narrows"),
    }
    assert "approval rule" in found["approval"]["objections"][0]["en"]
    shown = stelsel(country, REGISTER, "agreement", "diff", short(second))
    assert shown.returncode == 0
    assert "WIDER" in shown.stdout
    assert "partners" in shown.stdout
    end(country, second)

    answer = ask_outway(story, GEMEENTE, f"{REGISTER.peer_id}/personen/personen", question(story, ("leeftijd",)))
    assert answer.status_code == 200, answer.text
    for actor in (GEMEENTE, REGISTER):
        simulated = as_json(country, actor, "agreement", "simulate", short(first), "--revoke", code=1)
        (flow,) = simulated["flows"]
        assert (flow["outcome"], flow["breaking"], flow["calls"]) == ("breaks", flow["calls"], flow["calls"])
        assert flow["calls"] >= 1
        assert simulated["complete"]
    kept = as_json(country, REGISTER, "agreement", "simulate", short(first), "--without-field", "naam.volledigeNaam")
    assert kept["flows"][0]["outcome"] == "goes on"
    gone = stelsel(country, REGISTER, "agreement", "simulate", short(first), "--without-field", "leeftijd")
    assert gone.returncode == 1
    assert "breaks" in gone.stdout
    expired = as_json(country, REGISTER, "agreement", "simulate", short(first), "--certificate-expires")
    assert [flow["outcome"] for flow in expired["flows"] if flow["content_hash"] == first] == ["ends before"]
    undecided = stelsel(country, REGISTER, "agreement", "simulate", short(first))
    assert undecided.returncode == 1
    assert "--without-field" in undecided.stderr

    seen = as_json(country, GEMEENTE, "radar", code=1)
    (item,) = [item for item in seen["expiring"] if item["contracts"] == [first]]
    assert (item["kind"], item["urgent"]) == ("contract", True)
    assert "stelsel agreement renew" in item["next_step"]["en"]
    assert as_json(country, GEMEENTE, "radar", "--days", "1", "--urgent-days", "1")["expiring"] == []

    renewed = as_json(country, GEMEENTE, "agreement", "renew", short(first), "--days", "200")
    assert any("must sign" in words["en"] for words in renewed["follows"])
    assert not renewed["new_key"]
    again = stelsel(country, GEMEENTE, "agreement", "renew", short(first))
    assert again.returncode == 1
    assert "waits already" in again.stderr
    new = renewed["content_hash"]
    country.until(REGISTER, new, {"proposed"})
    (grant,) = as_json(country, REGISTER, "agreement", "diff", short(new))["grants"]
    assert [change["what"] for change in grant["changes"]] == ["validity"]
    country.control(REGISTER).post(f"/agreements/{new}/accept")
    country.until(GEMEENTE, new, {"valid"})
    replaced = as_json(country, GEMEENTE, "agreement", "simulate", short(first), "--revoke")
    assert replaced["flows"][0]["outcome"] == "goes on"
    (item,) = [item for item in as_json(country, GEMEENTE, "radar")["expiring"] if item["contracts"] == [first]]
    assert not item["urgent"]
    end(country, first, new)
    assert stelsel(country, GEMEENTE, "agreement", "renew", short(first)).returncode == 1


RULE = f"""

[[agreements.approve]]
name = "proef"
peers = ["{GEMEENTE.peer_id}"]
services = ["personen"]
maximum_days = 30
purposes = ["{TERMS.purpose}"]
fields = ["naam", "leeftijd", "gemeenteVanInschrijving"]
search_parameters = ["burgerservicenummer", "geslachtsnaam", "geboortedatum"]
longest_retention = "P10Y"
"""


def test_a_rule_accepts_what_lies_within_it_and_the_rest_waits_with_the_reason(country: Country) -> None:
    with changed(country, REGISTER, RULE):
        within = propose(country, TERMS)
        country.until(GEMEENTE, within, {"valid"})
        beyond = propose(country, TERMS.model_copy(update={"fields": (*TERMS.fields, "partners")}))
        found = as_json(country, REGISTER, "agreement", "diff", short(beyond))
        assert found["state"] == "proposed"
        assert not found["approval"]["accepted"]
        assert "partners" in found["approval"]["objections"][0]["en"]
        log = (country.folder / REGISTER.key / "node.log").read_text()
        assert "accepted by rule" in log
        assert "waits for a person" in log
        end(country, within, beyond)


def test_an_unsafe_rule_stops_the_start_with_the_key_and_the_fix(country: Country, tmp_path: Path) -> None:
    text = (country.folder / REGISTER.key / "node.toml").read_text()
    unsafe = RULE.replace(f'peers = ["{GEMEENTE.peer_id}"]', 'peers = ["*"]')
    file = country.folder / REGISTER.key / "unsafe.toml"
    file.write_text(text + unsafe)
    try:
        command = [sys.executable, "-m", "stelsel", "run", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    finally:
        file.unlink()
    assert done.returncode == 1
    assert "agreements.approve.0" in done.stderr
    assert "must name the peers" in " ".join(done.stderr.split())


def test_the_doctor_finds_a_healthy_node_in_order(country: Country) -> None:
    seen = {item["name"]: item for item in as_json(country, UITKERING, "doctor")}
    for name in ("settings", "certificate", "chain", "manager host name", "private key", "running", "directory"):
        assert seen[name]["ok"] is not False, seen[name]
    for name in ("clock", "manager reachable", "inway reachable", "outbox", "ledger", "disk"):
        assert seen[name]["ok"] is True, seen[name]
    assert seen[f"peer {REGISTER.name}"]["ok"] is True
    assert "speaks FSC 2.0.0" in seen[f"peer {REGISTER.name}"]["detail"]
    table = stelsel(country, REGIE, "doctor")
    assert "In order" in table.stdout


def test_the_doctor_names_what_is_wrong_and_what_to_do(country: Country) -> None:
    key = country.folder / UITKERING.key / "key.pem"
    country.processes[REGISTER.key].kill()
    key.chmod(0o644)
    try:
        seen = {item["name"]: item for item in as_json(country, UITKERING, "doctor", code=1)}
        assert "chmod 600" in seen["private key"]["next_step"]
        assert seen[f"peer {REGISTER.name}"]["ok"] is False
        assert seen[f"peer {REGISTER.name}"]["next_step"]
    finally:
        key.chmod(0o600)
        country.processes[REGISTER.key].start()
        country.await_node(REGISTER)


def test_the_doctor_looks_at_a_stopped_node_as_far_as_that_goes(country: Country) -> None:
    country.processes[GEMEENTE.key].stop()
    try:
        seen = {item["name"]: item for item in as_json(country, GEMEENTE, "doctor", code=1)}
    finally:
        country.processes[GEMEENTE.key].start()
        country.await_node(GEMEENTE)
    assert seen["certificate"]["ok"] is True
    assert seen["running"]["ok"] is False
    assert "were not looked at" in seen["running"]["detail"]
    assert "stelsel run" in seen["running"]["next_step"]
    assert [name for name, item in seen.items() if item["ok"] is False] == ["running"]


def test_the_doctor_reads_a_broken_file_as_one_line(country: Country, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("data = 1\n")
    command = [sys.executable, "-m", "stelsel", "doctor", "--node", str(file), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    (only,) = json.loads(done.stdout)
    assert (only["name"], only["ok"]) == ("settings", False)
    assert only["next_step"]

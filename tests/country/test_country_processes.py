"""Processes of a country: clean stops, power cuts, mistakes in files; nothing acknowledged is lost."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stelsel.demo.cast import BENEFIT_TERMS, GEMEENTE, REGISTER, UITKERING
from stelsel.demo.country import Country
from stelsel.demo.scenario.calls import ask_outway, question
from stelsel.demo.scenario.play import Story


def _stelsel(*arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stelsel", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def _copy_of_node(country: Country, tmp_path: Path) -> Path:
    """A node folder of its own that nothing runs in yet, with the same keys and group as the municipality's."""
    shutil.copy(country.folder / "group.toml", tmp_path / "group.toml")
    shutil.copy(country.folder / "trust-anchors.pem", tmp_path / "trust-anchors.pem")
    node = tmp_path / "n"
    node.mkdir()
    for name in ("node.toml", "certificate.pem", "key.pem"):
        shutil.copy(country.folder / GEMEENTE.key / name, node / name)
    return node / "node.toml"


def test_an_answered_call_is_in_both_ledgers_after_a_power_cut(country: Country, story: Story) -> None:
    country.agree(UITKERING, REGISTER, "personen", BENEFIT_TERMS)
    transactions = []
    for _ in range(10):
        answer = ask_outway(story, UITKERING, "personen/personen", question(story, ("leeftijd",)))
        assert answer.status_code == 200, answer.text
        transactions.append(answer.headers["fsc-transaction-id"])
    agreements = {row["content_hash"]: row["state"] for row in country.control(REGISTER).get("/agreements")}
    for actor in (UITKERING, REGISTER):
        country.processes[actor.key].kill()
        country.processes[actor.key].start()
    for actor in (UITKERING, REGISTER):
        country.await_node(actor)
        for transaction in transactions:
            rows = country.control(actor).post("/log", {"transaction_id": transaction})
            assert rows, f"{actor.name} lost {transaction}"
    assert {row["content_hash"]: row["state"] for row in country.control(REGISTER).get("/agreements")} == agreements
    again = ask_outway(story, UITKERING, "personen/personen", question(story, ("leeftijd",)))
    assert again.status_code == 200, again.text


def test_an_agreement_accepted_while_the_other_side_is_down_reaches_it_later(country: Country) -> None:
    content_hash = country.propose(GEMEENTE, REGISTER, "personen", BENEFIT_TERMS)
    country.until(REGISTER, content_hash, {"proposed"})
    country.processes[GEMEENTE.key].kill()
    country.control(REGISTER).post(f"/agreements/{content_hash}/accept")
    country.processes[GEMEENTE.key].start()
    country.await_node(GEMEENTE)
    row = country.until(GEMEENTE, content_hash, {"valid"}, seconds=30)
    country.control(REGISTER).post(f"/agreements/{content_hash}/revoke")
    assert row["grant_hashes"]


def test_two_nodes_in_one_folder_is_one_clear_line(country: Country) -> None:
    second = _stelsel("run", str(country.folder / GEMEENTE.key / "node.toml"))
    assert second.returncode == 1
    assert "cannot listen on" in second.stderr
    assert "Next step:" in second.stderr
    assert "Traceback" not in second.stderr
    assert country.control(GEMEENTE).get("/about")["name"] == GEMEENTE.name


@pytest.mark.parametrize(
    ("change", "says", "fix"),
    [
        (lambda text: text + "\n[ledgers]\n", "unknown key ledgers", "did you mean ledger?"),
        (lambda text: text + "\n[qzxqzx]\n", "unknown key qzxqzx", "docs/run/settings.md"),
        (lambda text: text.replace('certificate = "certificate.pem"', 'certificate = "gone.pem"'), "gone.pem", "peer"),
        (
            lambda text: text.replace('certificate = "certificate.pem"\n', ""),
            "peer.certificate",
            "add peer.certificate",
        ),
        (lambda text: text.replace('key = "key.pem"', 'key = "certificate.pem"'), "private key", "peer.key"),
        (lambda text: text.replace('group = "../group.toml"', 'group = "../none.toml"'), "none.toml", ""),
        (
            lambda text: text.replace("[ledger]\n", "[ledger]\ndeadline = -1\n"),
            "ledger.deadline",
            "correct ledger.deadline",
        ),
        (lambda text: text + "\n= broken", "is not TOML", ""),
    ],
)
def test_a_mistake_in_a_node_file_is_one_line_with_the_key_and_the_fix(
    country: Country, tmp_path: Path, change: object, says: str, fix: str
) -> None:
    file = _copy_of_node(country, tmp_path)
    file.write_text(change(file.read_text()))  # type: ignore[operator]
    refused = _stelsel("run", str(file))
    assert refused.returncode == 1
    told = " ".join(refused.stderr.split())
    assert says in told
    assert fix in told
    assert "Traceback" not in refused.stderr


def test_a_certificate_of_another_authority_gets_no_connection_to_a_manager(country: Country, tmp_path: Path) -> None:
    """By the same name and with the same OIN; expired and other faults: tests/agreements/test_agreements_strangers."""
    import httpx

    from stelsel.base.certificates import KeyPair, TrustAnchors
    from stelsel.demo.authority import Authority

    anchors = TrustAnchors.load(country.folder / "trust-anchors.pem")
    keypair = KeyPair.load(*Authority().issue(tmp_path / "other", GEMEENTE.peer_id, "Gemeente"))
    manager = f"https://localhost:{REGISTER.port(country.base, 'manager')}/v1/peers"
    with pytest.raises(httpx.TransportError):
        httpx.get(manager, verify=keypair.client_context(anchors), trust_env=False)


def test_ctrl_c_stops_a_node_cleanly_and_quickly(country: Country) -> None:
    process = country.processes[GEMEENTE.key]
    assert process.pid is not None
    begin = time.monotonic()
    subprocess.run(["kill", f"-{int(signal.SIGINT)}", str(process.pid)], check=True)
    process.await_end(10)
    assert time.monotonic() - begin < 8
    assert "stopped" in process.log.read_text().splitlines()[-1]
    process.start()
    country.await_node(GEMEENTE)


def test_the_command_line_lists_and_explains_against_a_running_node(country: Country) -> None:
    node = str(country.folder / UITKERING.key / "node.toml")
    listed = json.loads(_stelsel("agreement", "list", "--node", node, "--json").stdout)
    assert any(row["state"] == "valid" for row in listed)
    assert "personen" in _stelsel("services", "--node", node).stdout
    assert GEMEENTE.name in _stelsel("peers", "--node", node).stdout
    explained = _stelsel("explain", "personen", "--field", "geboorte.datum", "--node", node, "--json")
    assert explained.returncode == 1
    assert any(step["ok"] is False and "geboorte.datum" in step["detail"] for step in json.loads(explained.stdout))
    fine = _stelsel("explain", "personen", "--field", "leeftijd", "--node", node, "--json")
    assert fine.returncode == 0, fine.stdout
    unknown = _stelsel("agreement", "show", "zzzz", "--node", node)
    assert unknown.returncode == 1
    assert "Next step:" in unknown.stderr


def test_a_stopped_node_is_said_to_be_stopped(tmp_path: Path, country: Country) -> None:
    file = _copy_of_node(country, tmp_path)
    answer = _stelsel("peers", "--node", str(file))
    assert answer.returncode == 1
    assert "does not answer" in answer.stderr
    assert "stelsel run" in answer.stderr

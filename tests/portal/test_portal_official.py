"""The official's pages on real nodes: what is asked in readable words, signing it, and everybody who may not."""

from __future__ import annotations

import json
import re
import time
from html import unescape

import httpx
import pytest
from desk_site import (
    BSN,
    OFFICIAL_OF_GEMEENTE,
    OFFICIAL_OF_REGISTER,
    WITHOUT_ROLE,
    Reader,
    propose,
)
from portal_site import GEMEENTE, REGIE, REGISTER, Site, hidden

from stelsel.agreements.agreement import State
from stelsel.demo.cast import PARKING_TERMS
from stelsel.ledger.query import Query

ELSEWHERE = "http://evil.example"


def _official(site: Site, handle: str = OFFICIAL_OF_REGISTER, language: str = "nl") -> Reader:
    reader = Reader(site, GEMEENTE if handle == OFFICIAL_OF_GEMEENTE else REGISTER, language)
    reader.log_in(handle)
    return reader


def _state(site: Site, tail: str) -> State:
    return next(one.state for one in site.nodes[REGISTER.key].agreements.contracts() if one.content_hash.endswith(tail))


def test_a_visitor_who_is_not_logged_in_gets_a_calm_way_in(desk: Site) -> None:
    with Reader(desk, REGISTER) as reader:
        page = reader.get("/afspraken")
        assert page.status_code == 401
        assert 'href="/inloggen?terug=%2Fafspraken"' in page.text or 'href="/inloggen?terug=/afspraken"' in page.text
        assert page.headers["cache-control"] == "no-store"
        assert reader.get("/vastleggingen").status_code == 401
        assert reader.get(f"/afspraken/{desk.grants['hostile']}").status_code == 401


def test_after_logging_in_the_official_is_at_the_agreements(desk: Site) -> None:
    with Reader(desk, REGISTER) as reader:
        page = reader.log_in()
        assert page.status_code == 200
        assert page.url.path == "/afspraken"
        assert "Wacht op ons" in page.text


def test_an_official_of_another_organisation_sees_nothing(desk: Site) -> None:
    with Reader(desk, REGIE) as reader:
        page = reader.log_in(OFFICIAL_OF_GEMEENTE)
        assert page.status_code == 403
        assert "niet als medewerker van deze organisatie" in page.text
        assert "Parkeervergunning" not in page.text


def test_an_official_without_the_role_is_refused(desk: Site) -> None:
    with Reader(desk, REGISTER) as reader:
        page = reader.log_in(WITHOUT_ROLE)
        assert page.status_code == 403
        assert "Dit mag niet" in page.text
        tail = propose(desk)
        assert reader.post(f"/afspraken/{tail}/aanvaarden", {}).status_code == 403
        assert _state(desk, tail) is State.PROPOSED


def test_the_list_groups_agreements_by_what_they_wait_for(desk: Site) -> None:
    propose(desk)
    with _official(desk) as reader:
        page = reader.get("/afspraken").text
    assert page.index("Wacht op ons") < page.index("Geldt nu")
    urgent = page[page.index('class="entries entries--urgent"') : page.index("<h2>Geldt nu")]
    assert "Parkeervergunning: Regie wil ‘personen’ van Bevolkingsregister" in urgent
    assert "Parkeervergunning: Gemeente gebruikt ‘personen’ van Bevolkingsregister" in page[page.index("Geldt nu") :]
    assert re.search(r"nog 36[0-9] dagen", page)


def test_the_detail_page_says_in_words_and_exactly_what_is_asked(desk: Site) -> None:
    tail = propose(desk)
    with _official(desk) as reader, _official(desk, language="en") as english:
        page, other = unescape(reader.get(f"/afspraken/{tail}").text), unescape(english.get(f"/afspraken/{tail}").text)
    assert "Regie vraagt om gegevens van Bevolkingsregister, uit de dienst ‘personen’." in page
    assert "Regie asks for data from Bevolkingsregister" in other
    for text in (
        PARKING_TERMS.purpose,
        PARKING_TERMS.legal_basis.article,
        PARKING_TERMS.processing_activity.name,
        PARKING_TERMS.processing_activity.id,
        "hoogstens 5 jaar",
        "heeft nog niet getekend",
        *PARKING_TERMS.fields,
        *PARKING_TERMS.search_parameters,
        f"$1$1${tail}",
    ):
        assert text in page, text
    raw = re.search(r'<pre class="code"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert raw is not None
    stored = next(one for one in desk.nodes[REGIE.key].agreements.contracts() if one.content_hash.endswith(tail))
    assert json.loads(raw[1]) == stored.content  # the same contract, with the same hash, at the other peer


def test_accepting_makes_the_agreement_hold_at_both(desk: Site) -> None:
    tail = propose(desk)
    with _official(desk) as reader:
        page = reader.get(f"/afspraken/{tail}")
        done = reader.post(f"/afspraken/{tail}/aanvaarden", {"form_token": hidden(page, "form_token")})
        assert done.history[0].status_code == 303
        assert "U hebt de afspraak aanvaard." in done.text
        assert "Geldig" in done.text
        again = reader.post(f"/afspraken/{tail}/aanvaarden", {"form_token": hidden(page, "form_token")})
        assert again.status_code == 200  # accepted once more is accepted still
    assert _state(desk, tail) is State.VALID
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        states = [one.state for one in desk.nodes[REGIE.key].agreements.contracts() if one.content_hash.endswith(tail)]
        if states == [State.VALID]:
            return
        time.sleep(0.02)
    pytest.fail("the other peer did not hear of it")


def test_rejecting_is_for_ever(desk: Site) -> None:
    tail = propose(desk)
    with _official(desk) as reader:
        token = hidden(reader.get(f"/afspraken/{tail}"), "form_token")
        assert "U hebt de afspraak afgewezen." in reader.post(f"/afspraken/{tail}/afwijzen", {"form_token": token}).text
        late = reader.post(f"/afspraken/{tail}/aanvaarden", {"form_token": token})
        assert late.status_code == 409
        assert "Dit kan nu niet" in late.text
        assert "Hier valt niets meer te besluiten" in reader.get(f"/afspraken/{tail}").text
        assert reader.get(f"/afspraken/{tail}/intrekken").status_code == 409
    assert _state(desk, tail) is State.REJECTED


def test_revoking_asks_first_and_then_the_next_call_is_refused(desk: Site) -> None:
    grant = desk.grants["parking"]
    stored = desk.nodes[REGISTER.key].agreements.agreement(grant)
    assert stored is not None
    tail = stored.content_hash.rpartition("$")[2]
    assert desk.ask(BSN, grant_hash=grant).status_code == 200
    with _official(desk) as reader:
        page = reader.get(f"/afspraken/{tail}/intrekken")
        assert "binnen een seconde geweigerd" in page.text
        assert _state(desk, tail) is State.VALID  # looking at what would happen does nothing
        done = reader.post(f"/afspraken/{tail}/intrekken", {"form_token": hidden(page, "form_token")})
        assert "U hebt de afspraak ingetrokken." in done.text
        assert desk.ask(BSN, grant_hash=grant).status_code == 403
    assert _state(desk, tail) is State.REVOKED


@pytest.mark.parametrize("action", ["aanvaarden", "afwijzen", "intrekken", "opnieuw"])
@pytest.mark.parametrize("token", [None, "", "x", "foreign"])
def test_a_form_that_is_not_ours_does_nothing(desk: Site, action: str, token: str | None) -> None:
    tail = desk.grants["hostile"]
    with _official(desk) as reader, _official(desk) as other:
        if token == "foreign":  # another visitor's token
            token = hidden(other.get(f"/afspraken/{tail}"), "form_token")
        form = {"other": "x"} if token is None else {"form_token": token}
        refused = reader.post(f"/afspraken/{tail}/{action}", form)
        assert refused.status_code == 403
        bare = reader.client.post(f"/afspraken/{tail}/{action}", json={"form_token": token})
        assert bare.status_code == 400  # no form at all
    assert _state(desk, tail) is State.PROPOSED


def test_unknown_hashes_and_actions_are_not_found(desk: Site) -> None:
    with _official(desk) as reader:
        token = hidden(reader.get(f"/afspraken/{desk.grants['hostile']}"), "form_token")
        for path in ("/afspraken/niets", f"/afspraken/{'A' * 86}", "/afspraken/%24%24%24", "/afspraken/" + "A" * 2000):
            assert reader.get(path).status_code == 404, path
        for path in (f"/afspraken/{'A' * 86}/aanvaarden", f"/afspraken/{desk.grants['hostile']}/verkopen"):
            assert reader.post(path, {"form_token": token}).status_code == 404, path


def test_the_beginning_of_a_hash_is_enough_to_find_an_agreement(desk: Site) -> None:
    tail = desk.grants["hostile"]
    with _official(desk) as reader:
        assert reader.get(f"/afspraken/{tail[:12]}").status_code == 200
        assert reader.get(f"/afspraken/{tail[:7]}").status_code == 404


def test_hostile_strings_of_a_contract_are_shown_inert(desk: Site) -> None:
    with _official(desk) as reader:
        for path in ("/afspraken", f"/afspraken/{desk.grants['hostile']}"):
            page = reader.get(path).text
            for hostile in ("<script>alert", "<img src=x", "<b onclick", "\u202e", "\u0007"):
                assert hostile not in page, (path, hostile)
            assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u{a}Klik hier: \\u{202e}gnirekkal\\u{7} {{ 7*7 }}" in page
        detail = reader.get(f"/afspraken/{desk.grants['hostile']}").text
        assert 'rel="noopener noreferrer nofollow"' in detail


def test_a_refusal_for_an_obligation_shows_why_and_where_the_evidence_is(desk: Site) -> None:
    with _official(desk, OFFICIAL_OF_GEMEENTE) as reader:
        listing = reader.get("/afspraken").text
        assert "geweigerd" in listing
        assert "houdt zich na de uiterste datum niet aan een verplichte afspraak" in listing
        page = reader.get(f"/afspraken/{desk.grants['refused']}").text
    links = re.findall(r'href="([^"]+/stelsel/bevindingen/\d+)"', page)
    assert links
    assert all(link.startswith(desk.web(REGIE)) for link in links)
    assert "voorbij" in page
    assert httpx.get(links[0], timeout=10, trust_env=False).status_code == 200


def test_what_was_refused_can_be_sent_again_and_is_refused_again_while_nothing_was_mended(desk: Site) -> None:
    with _official(desk, OFFICIAL_OF_GEMEENTE) as reader:
        page = reader.get(f"/afspraken/{desk.grants['refused']}")
        assert "Opnieuw versturen" in page.text
        form = {"form_token": hidden(page, "form_token")}
        assert reader.post(f"/afspraken/{desk.grants['refused']}/opnieuw", form).status_code == 200
        deadline = time.monotonic() + 10
        while "Opnieuw versturen" not in reader.get(f"/afspraken/{desk.grants['refused']}").text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with _official(desk) as reader:
        assert "Opnieuw versturen" not in reader.get(f"/afspraken/{propose(desk)}").text


def test_the_log_tells_who_asked_what_and_never_about_whom(desk: Site) -> None:
    for handle, actor in ((OFFICIAL_OF_REGISTER, REGISTER), (OFFICIAL_OF_GEMEENTE, GEMEENTE)):
        with _official(desk, handle) as reader:
            page = reader.get("/vastleggingen")
        assert page.status_code == 200
        assert "Gemeente → Bevolkingsregister" in page.text
        assert "volledige naam" in page.text
        entries = desk.run(desk.nodes[actor.key].ledger.find(Query()))
        assert all(entry.record.transaction_id in page.text for entry in entries)
        subjects = {entry.record.subject for entry in entries} - {None, ""}
        assert subjects
        assert BSN not in page.text
        assert not any(str(subject) in page.text for subject in subjects)


def test_the_log_says_why_a_question_was_refused_where_it_was_stopped(desk: Site) -> None:
    with _official(desk, OFFICIAL_OF_GEMEENTE) as reader:  # its own outway let nothing leave
        page = " ".join(reader.get("/vastleggingen").text.split())
    assert "Er is gevraagd om gegevens die niet in de afspraak staan. Te veel gevraagd: leeftijd." in page


def test_the_log_is_read_in_pages(desk: Site) -> None:
    with _official(desk) as reader:
        assert reader.get("/vastleggingen?na=1").status_code == 200
        for hostile in ("-1", "x", "9" * 20, "1 OR 1=1", ""):
            assert reader.get("/vastleggingen", params={"na": hostile}).status_code == 400, hostile


def test_the_notice_of_what_was_done_cannot_be_made_by_a_link(desk: Site) -> None:
    with _official(desk) as reader:
        page = reader.get(f"/afspraken/{desk.grants['hostile']}?gedaan=aanvaarden").text
    assert "U hebt de afspraak aanvaard" not in page


def test_a_login_comes_back_to_this_site_only(desk: Site) -> None:
    with Reader(desk, REGISTER) as reader:
        page = reader.log_in(back=f"{ELSEWHERE}/afspraken")
        assert str(page.url).startswith(desk.web(REGISTER))


def test_the_pages_are_not_kept_by_a_cache(desk: Site) -> None:
    with Reader(desk, REGISTER) as reader:
        reader.log_in(OFFICIAL_OF_REGISTER)
        page = reader.get("/afspraken")
    assert page.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in page.headers["content-security-policy"]

"""The resident's pages on real nodes: what she sees, what she takes along, and what others cannot get at."""

from __future__ import annotations

import html
import re

import httpx
import pytest
from portal_site import (
    BRAM,
    BRAM_HANDLE,
    LOTTE,
    LOTTE_HANDLE,
    NOOR,
    OFFICIAL_HANDLE,
    Site,
    Visitor,
    hidden,
    receipt_forms,
)

from stelsel.base.certificates import TrustAnchors
from stelsel.demo.cast import GEMEENTE, PARKING_TERMS, REGIE, REGISTER
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.query import Entry, Query
from stelsel.ledger.receipts import verify_file


def _cards(page: httpx.Response) -> list[str]:
    """The text of every use on the page, without markup."""
    found = re.findall(r'<li class="use.*?</article>', page.text, re.DOTALL)
    texts = [" ".join(html.unescape(re.sub(r"<[^>]+>", " ", card)).split()) for card in found]
    return [text.replace(" .", ".") for text in texts]


def _main(page: httpx.Response) -> str:
    return page.text.partition("<main")[2].partition("</main>")[0]


def test_she_sees_who_when_what_why_by_which_law_and_under_which_agreement(site: Site, visitor: Visitor) -> None:
    page = visitor.log_in()
    assert str(page.url) == f"{site.address}/mijn-gegevens"
    cards = _cards(page)
    assert len(cards) == 3
    latest, refused, first = cards
    assert "Gemeente vroeg iets over u aan Bevolkingsregister" in latest
    assert re.search(r"\d+ \w+ 20\d\d, \d\d\.\d\d uur", latest)
    assert "volledige naam" in latest
    assert PARKING_TERMS.purpose in latest
    assert PARKING_TERMS.legal_basis.article in latest
    assert "Het is nodig voor een taak van de overheid. AVG, artikel 6 lid 1, onder e" in latest
    assert f"Afspraak {site.grants['parking'].rpartition('$')[2][:8]}" in latest
    assert site.grants["parking"] in latest
    assert f'href="{PARKING_TERMS.legal_basis.uri}"' in page.text
    assert "Toegestaan" in latest
    assert "Geweigerd" in refused
    assert "Er is gevraagd om gegevens die niet in de afspraak staan. Niet afgesproken leeftijd" in refused
    assert "gemeente" in first


def test_an_exchange_that_both_organisations_recorded_shows_once(visitor: Visitor) -> None:
    page = visitor.log_in()
    latest, refused, _ = _cards(page)
    assert "Beide organisaties hebben dit vastgelegd." in latest
    assert latest.count("Download het bewijs") == 2
    # What was not agreed did not leave the municipality's house, so only the municipality recorded it.
    assert "Vastgelegd door Gemeente." in refused


def test_that_she_looked_is_shown_apart(visitor: Visitor) -> None:
    visitor.log_in()
    page = visitor.get("/mijn-gegevens")
    assert "U keek zelf:" in page.text
    assert len(_cards(page)) == 3


def test_a_receipt_is_proved_offline_and_an_altered_one_is_not(site: Site, visitor: Visitor) -> None:
    page = visitor.log_in()
    anchors = TrustAnchors(visitor.get("/vertrouwen/trust-anchors.pem").content)
    for form, peer in zip(receipt_forms(page), (REGISTER, GEMEENTE), strict=False):
        answer = visitor.post("/mijn-gegevens/bewijs", form)
        assert answer.headers["content-disposition"] == f'attachment; filename="bewijs-{form["index"]}.json"'
        assert answer.headers["cache-control"] == "no-store"
        proven = verify_file(answer.content, anchors, 2e9)
        assert (proven.peer_id, proven.index) == (peer.peer_id, int(form["index"]))
        assert proven.record.fields == ("naam.volledigeNaam",)
        with pytest.raises(ProofInvalid):
            verify_file(answer.content.replace(b'"allowed":true', b'"allowed":false'), anchors, 2e9)


@pytest.mark.parametrize("path", ["bewijs", "ouder"])
@pytest.mark.parametrize("token", [None, "", "0" * 64])
def test_a_form_of_another_site_is_refused(site: Site, visitor: Visitor, path: str, token: str | None) -> None:
    form = receipt_forms(visitor.log_in())[0]
    forged = {name: value for name, value in form.items() if name != "form_token"}
    answer = visitor.post(f"/mijn-gegevens/{path}", forged if token is None else forged | {"form_token": token})
    assert answer.status_code == 403
    assert "Dit mag niet" in answer.text
    assert visitor.post(f"/mijn-gegevens/{path}", form).status_code == 200


def test_the_form_of_another_visitor_is_refused(site: Site, visitor: Visitor) -> None:
    mine = receipt_forms(visitor.log_in())[0]
    with Visitor(site) as other:
        other.log_in(BRAM_HANDLE)
        assert other.post("/mijn-gegevens/bewijs", mine).status_code == 403


def test_a_record_about_somebody_else_is_not_found_just_as_one_that_does_not_exist(
    site: Site, visitor: Visitor
) -> None:
    hers = receipt_forms(visitor.log_in())[0]
    with Visitor(site) as other:
        token = hidden(other.log_in(BRAM_HANDLE), "form_token") if site.ask(BRAM).status_code == 200 else ""
        token = token or hidden(other.get("/mijn-gegevens"), "form_token")
        answers = [
            other.post("/mijn-gegevens/bewijs", hers | {"form_token": token, "index": index})
            for index in (hers["index"], "999999")
        ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert _main(answers[0]) == _main(answers[1])


@pytest.mark.parametrize("index", ["", "-1", "1.5", "een", "²", "9" * 17, "9" * 4000])
def test_a_nonsense_index_is_refused_in_words(visitor: Visitor, index: str) -> None:
    form = receipt_forms(visitor.log_in())[0]
    answer = visitor.post("/mijn-gegevens/bewijs", form | {"index": index})
    assert answer.status_code == 400
    assert "Ga terug en probeer het nog eens." in answer.text


def test_a_source_that_no_agreement_names_is_not_asked(visitor: Visitor) -> None:
    form = receipt_forms(visitor.log_in())[0]
    for source in (REGIE.peer_id, "", "00000099000000009000", "../../control"):
        assert visitor.post("/mijn-gegevens/bewijs", form | {"source": source}).status_code == 404


def test_a_form_of_another_kind_or_size_is_refused(visitor: Visitor) -> None:
    visitor.log_in()
    assert visitor.client.post("/mijn-gegevens/bewijs", json={"index": 1}).status_code == 400
    assert visitor.post("/mijn-gegevens/bewijs", {"a": "x" * 40_000}).status_code == 413
    assert visitor.post("/mijn-gegevens/bewijs", {str(n): "" for n in range(200)}).status_code == 400


def test_who_is_not_logged_in_reads_what_she_will_see(visitor: Visitor) -> None:
    page = visitor.get("/mijn-gegevens")
    assert page.status_code == 200
    assert 'href="/inloggen?terug=/mijn-gegevens"' in page.text
    assert not _cards(page)
    for path in ("bewijs", "ouder"):
        answer = visitor.post(f"/mijn-gegevens/{path}", {"source": REGISTER.peer_id, "index": "1"})
        assert str(answer.url).endswith("/mijn-gegevens")
        assert 'href="/inloggen?terug=/mijn-gegevens"' in answer.text


def test_an_official_does_not_get_a_residents_page(visitor: Visitor) -> None:
    page = visitor.log_in(OFFICIAL_HANDLE)
    assert page.status_code == 403
    assert "U bent ingelogd als medewerker." in page.text
    assert not _cards(page)


def test_she_chooses_an_organisation_or_only_what_was_refused(visitor: Visitor) -> None:
    visitor.log_in()
    refused = visitor.get("/mijn-gegevens", params={"geweigerd": "ja", "organisatie": GEMEENTE.peer_id})
    assert len(_cards(refused)) == 1
    assert "U ziet 1 van de 3 keer" in refused.text
    nobody = visitor.get("/mijn-gegevens", params={"organisatie": '"><script>alert(1)</script>'})
    assert "Bij deze keuze hoort niets." in nobody.text
    assert "<script>" not in nobody.text


def test_the_page_is_english_for_who_asks_it_and_says_what_stays_dutch(site: Site, visitor: Visitor) -> None:
    visitor.log_in()
    page = visitor.get("/mijn-gegevens?taal=en")
    assert '<html lang="en">' in page.text
    assert "Gemeente asked something about you from Bevolkingsregister" in _cards(page)[0]
    assert f'lang="nl">{PARKING_TERMS.purpose}<' in page.text
    assert '<html lang="en">' in visitor.get("/").text  # and it stays so
    assert 'href="/mijn-gegevens?taal=nl"' in visitor.get("/mijn-gegevens").text


def test_markup_and_direction_marks_in_a_purpose_are_inert(site: Site, visitor: Visitor) -> None:
    hostile = '<script>alert(1)</script>"><img src=x onerror=alert(1)>\u202egnitirw\x07'
    law = 'https://evil.example/"onmouseover=alert(1)'
    basis = PARKING_TERMS.legal_basis.model_copy(update={"article": hostile, "uri": law})
    activity = PARKING_TERMS.processing_activity.model_copy(update={"name": hostile})
    terms = PARKING_TERMS.model_copy(update={"purpose": hostile, "legal_basis": basis, "processing_activity": activity})
    grant_hash = site.agree(GEMEENTE, REGISTER, "personen", terms)
    assert site.ask(BRAM, "naam.volledigeNaam", grant_hash=grant_hash).status_code == 200
    page = visitor.log_in(BRAM_HANDLE)
    assert page.status_code == 200
    assert "&lt;script&gt;alert(1)" in page.text
    assert "\\u{202e}" in page.text
    for harm in ("<script>", "<img", "\u202e", "\x07", '"onmouseover'):
        assert harm not in page.text


def test_a_source_that_is_down_is_named_and_the_others_still_show(own_site: Site) -> None:
    own_site.run(own_site.nodes.pop("register").stop())
    with Visitor(own_site) as visitor:
        page = visitor.log_in()
        assert page.status_code == 200
        assert "Bevolkingsregister</span> gaf geen antwoord." in page.text
        assert len(_cards(page)) == 3  # as the municipality recorded them
        assert "Vastgelegd door Gemeente." in _cards(page)[0]
        form = receipt_forms(page)[0] | {"source": REGISTER.peer_id}
        answer = visitor.post("/mijn-gegevens/bewijs", form)
        assert answer.status_code == 503
        assert "Dit kan op dit moment niet" in answer.text


def test_a_source_that_ended_its_agreement_is_named_as_not_asked(own_site: Site) -> None:
    agreements = own_site.nodes["gemeente"].agreements
    ended = next(one for one in agreements.agreements() if one.service == "inzage")
    own_site.run(own_site.nodes["regie"].agreements.revoke(ended.content_hash))
    with Visitor(own_site) as visitor:
        page = visitor.log_in()
    assert "Doen niet mee, dus niet gevraagd:" in page.text
    assert re.search(r"niet gevraagd:\s*<span lang=\"nl\">Gemeente</span>", page.text)


def test_older_uses_of_one_source_are_a_page_further(site: Site, visitor: Visitor) -> None:
    for _ in range(55):
        assert site.ask(LOTTE, "naam.volledigeNaam").status_code == 200
    page = visitor.log_in(LOTTE_HANDLE)
    older = [
        dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
        for form in re.findall(r'action="/mijn-gegevens/ouder".*?</form>', page.text, re.DOTALL)
    ]
    form = next(one for one in older if one["source"] == REGISTER.peer_id)
    rest = visitor.post("/mijn-gegevens/ouder", form)
    transaction = r"<dd class=\"mono\">([0-9a-f]{8}-[0-9a-f-]{27})<"
    seen, further = set(re.findall(transaction, page.text)), set(re.findall(transaction, rest.text))
    assert "Ouder gebruik, vastgelegd door" in rest.text
    assert "verder terug is er niets" in rest.text
    assert len(seen | further) == 55
    assert all("Vastgelegd door Bevolkingsregister." in card for card in _cards(rest))


def test_she_is_told_when_a_record_about_her_is_missing_and_which_number_each_is(
    site: Site, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        assert site.ask(BRAM, "naam.volledigeNaam").status_code == 200
    page = visitor.log_in(BRAM_HANDLE)
    assert "Vastlegging over u" in page.text
    assert "ontbreekt" not in page.text
    ledger = site.nodes[REGISTER.key].ledger
    about = site.run(ledger.find(Query(subject=site.nodes[REGISTER.key].references.of(BRAM))))
    taken = next(entry for entry in about if entry.record.subject_sequence == 2)
    find = ledger.find

    async def find_the_rest(query: Query) -> list[Entry]:
        return [entry for entry in await find(query) if entry.index != taken.index]

    monkeypatch.setattr(ledger, "find", find_the_rest)
    page = visitor.get("/mijn-gegevens")
    assert "ontbreekt één vastlegging over u" in page.text


def test_her_number_is_in_no_page_address_or_log(
    site: Site, visitor: Visitor, capfd: pytest.CaptureFixture[str]
) -> None:
    answers: list[httpx.Response] = []
    visitor.client.event_hooks["response"].append(lambda answer: (answer.read(), answers.append(answer)))
    form = receipt_forms(visitor.log_in())[0]
    visitor.post("/mijn-gegevens/bewijs", form)
    visitor.post("/mijn-gegevens/ouder", form)
    visitor.post("/mijn-gegevens/bewijs", form | {"index": "999999"})
    visitor.get("/uitloggen")
    printed = capfd.readouterr()
    assert len(answers) > 8
    for answer in answers:
        assert NOOR not in answer.text
        assert NOOR not in str(answer.url)
        assert NOOR not in str(answer.headers)
    assert NOOR not in printed.out + printed.err

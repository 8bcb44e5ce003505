"""Managing agreements on the official's pages, on real nodes: what ends, what a proposal changes, what would break."""

from __future__ import annotations

import re
from html import unescape

from desk_site import OFFICIAL_OF_REGISTER, Reader, hostile_terms, propose
from portal_site import REGIE, REGISTER, Site, _until, hidden

from stelsel.agreements.proposals import ConnectionProposal
from stelsel.agreements.readable import field_in_words
from stelsel.agreements.terms import Terms
from stelsel.demo.cast import INSIGHT_TERMS, PARKING_TERMS


def _official(site: Site, language: str = "nl") -> Reader:
    reader = Reader(site, REGISTER, language)
    reader.log_in(OFFICIAL_OF_REGISTER)
    return reader


def _shown(reader: Reader, path: str) -> str:
    """The page as one line, as a reader sees its characters."""
    page = reader.get(path)
    assert page.status_code == 200, page.text
    return " ".join(unescape(page.text).split())


def _of_inzage(site: Site, days: int, terms: Terms = INSIGHT_TERMS) -> str:
    """An agreement in force by which the register uses Regie's `inzage`; gives the last part of its content hash."""

    async def work() -> str:
        asking, giving = site.nodes[REGISTER.key].agreements, site.nodes[REGIE.key].agreements
        content_hash = await asking.propose(ConnectionProposal(REGIE.peer_id, "inzage", terms, days=days))
        await _until(lambda: any(one.content_hash == content_hash for one in giving.contracts()))
        await giving.accept(content_hash)
        await _until(lambda: bool(not asking.contract(content_hash).unsigned))
        return content_hash

    return site.run(work()).rpartition("$")[2]


def test_the_radar_tells_what_ends_soon_and_what_to_do(desk: Site) -> None:
    tail = _of_inzage(desk, 20)
    desk.agree(REGIE, REGISTER, "personen", PARKING_TERMS)
    with _official(desk) as reader, _official(desk, "en") as english:
        page, other = _shown(reader, "/afspraken"), _shown(english, "/afspraken")
    radar = page[page.index('id="verloopt"') : page.index("<h2>Geldt nu")]
    row = next(row for row in re.findall(r"<tr.*?</tr>", radar) if f"/afspraken/{tail}#verlengen" in row)
    assert "De afspraak van Bevolkingsregister over inzage van Regie" in row
    assert "nog 19 dagen, dringend" in row  # said in words, not by colour alone
    assert "Verleng de afspraak." in row
    assert "stelsel agreement renew" not in page  # who reads a page has a button
    assert "Ons certificaat (Bevolkingsregister)" in radar
    assert "nog 89 dagen" in radar
    assert "Het certificaat waarmee Regie" in radar
    assert "What ends soon" in other
    assert "19 days left, urgent" in other
    assert "Renew the agreement." in other


def test_a_proposal_shows_what_it_changes_against_what_runs_and_marks_what_is_wider(desk: Site) -> None:
    desk.agree(REGIE, REGISTER, "personen", PARKING_TERMS)
    *kept, gone = PARKING_TERMS.fields
    changed = PARKING_TERMS.model_copy(update={"fields": (*kept, "leeftijd"), "retention": "P10Y"})
    tail = propose(desk, changed)
    with _official(desk) as reader, _official(desk, "en") as english:
        page, other = _shown(reader, f"/afspraken/{tail}"), _shown(english, f"/afspraken/{tail}")
        form = {"form_token": hidden(reader.get(f"/afspraken/{tail}"), "form_token")}
        reader.post(f"/afspraken/{tail}/afwijzen", form)
        assert "Wat verandert er?" not in _shown(reader, f"/afspraken/{tail}")
    part = page[page.index('id="verschil"') : page.index("In gewone woorden")]
    changes = re.findall(r"<li>(.*?)</li>", part)
    wider = [change for change in changes if "ruimer</span>" in change]
    assert any("Erbij: het gegeven ‘leeftijd’." in change for change in wider)
    assert any("langer bewaard: 10 jaar, het was 5 jaar" in change for change in wider)
    assert any(f"Eraf: het gegeven ‘{field_in_words(gone)}’." in change and "beperkter" in change for change in changes)
    assert f"{len(wider)} wijzigingen staan meer toe" in part
    for heading in ("Erbij (1)", "Eraf (1)", "Gewijzigd ("):
        assert heading in part, heading
    assert "Added: the field ‘leeftijd’." in other
    assert "changes allow more" in other
    assert "Er is geen regel voor automatisch akkoord." in part


def test_a_first_proposal_is_said_to_be_new_and_hostile_fields_stay_inert(desk: Site) -> None:
    with _official(desk) as reader:
        page = reader.get(f"/afspraken/{desk.grants['hostile']}").text
    assert "Wat verandert er?" in page
    for hostile in ("<script>alert", "<img src=x", "<b onclick", "\u202e", "\u0007"):
        assert hostile not in page, hostile


def test_what_is_hostile_in_a_changed_agreement_stays_inert(desk: Site) -> None:
    desk.agree(REGIE, REGISTER, "personen", PARKING_TERMS)
    tail = propose(desk, hostile_terms())
    with _official(desk) as reader:
        page = reader.get(f"/afspraken/{tail}")
        reader.post(f"/afspraken/{tail}/afwijzen", {"form_token": hidden(page, "form_token")})
    part = page.text[page.text.index('id="verschil"') : page.text.index("In gewone woorden")]
    assert "Het doel wordt: ‘&lt;script&gt;alert(1)&lt;/script&gt;" in part
    assert "&lt;img src=x onerror=alert(2)&gt;" in part
    for hostile in ("<script>alert", "<img src=x", "<b onclick", "\u202e", "\u0007"):
        assert hostile not in page.text, hostile

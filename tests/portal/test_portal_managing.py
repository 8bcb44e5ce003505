"""Managing agreements on the official's pages, on real nodes: what ends, what a proposal changes, what would break."""

from __future__ import annotations

import re
from html import unescape

import httpx
import pytest
from desk_site import BSN, OFFICIAL_OF_GEMEENTE, OFFICIAL_OF_REGISTER, WITHOUT_ROLE, Reader, hostile_terms, propose
from playwright.sync_api import Browser, expect
from portal_browser import NARROW, WIDE, audit
from portal_site import GEMEENTE, REGIE, REGISTER, Site, _until, hidden

from stelsel.agreements.agreement import State
from stelsel.agreements.proposals import ConnectionProposal
from stelsel.agreements.readable import field_in_words
from stelsel.agreements.terms import Terms
from stelsel.control.observation import Observation
from stelsel.demo.cast import INSIGHT_TERMS, PARKING_TERMS
from stelsel.ledger.faults import LedgerUnavailable


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
    hostile = hostile_terms()
    # For the same processing activity, or it would be another agreement that changes nothing of this one.
    activity = hostile.processing_activity.model_copy(update={"id": PARKING_TERMS.processing_activity.id})
    tail = propose(desk, hostile.model_copy(update={"processing_activity": activity}))
    with _official(desk) as reader:
        page = reader.get(f"/afspraken/{tail}")
        reader.post(f"/afspraken/{tail}/afwijzen", {"form_token": hidden(page, "form_token")})
    part = page.text[page.text.index('id="verschil"') : page.text.index("In gewone woorden")]
    assert "Het doel wordt: ‘&lt;script&gt;alert(1)&lt;/script&gt;" in part
    assert "&lt;img src=x onerror=alert(2)&gt;" in part
    for hostile in ("<script>alert", "<img src=x", "<b onclick", "\u202e", "\u0007"):
        assert hostile not in page.text, hostile


def _ask_as_regie(site: Site, tail: str, *fields: str) -> int:
    """Regie asks the register under the agreement of this tail; gives the status of the answer."""
    agreements = site.nodes[REGIE.key].agreements.contract(f"$1$1${tail}").agreements
    answer = httpx.post(
        f"http://127.0.0.1:{site.ports[REGIE.key, 'outway']}/personen",
        json={
            "type": "RaadpleegMetBurgerservicenummer",
            "fields": list(fields),
            "burgerservicenummer": [BSN],
        },
        headers={"Fsc-Grant-Hash": agreements[0].grant_hash},
        timeout=20,
        trust_env=False,
    )
    return answer.status_code


def _used(site: Site) -> str:
    """An agreement under which Regie asked three times; gives the last part of its content hash."""
    grant_hash = site.agree(REGIE, REGISTER, "personen", PARKING_TERMS)
    agreement = site.nodes[REGISTER.key].agreements.agreement(grant_hash)
    assert agreement is not None
    tail = agreement.content_hash.rpartition("$")[2]
    first, second, *_ = PARKING_TERMS.fields
    assert [_ask_as_regie(site, tail, *asked) for asked in ((first,), (first, second), (second,))] == [200, 200, 200]
    return tail


def _alone(site: Site) -> None:
    """Ends what Regie may ask of the register: then nothing takes the place of what is made next."""
    agreements = site.nodes[REGISTER.key].agreements
    for stored in agreements.contracts(state=State.VALID):
        if any(one.consumer == REGIE.peer_id and one.service == "personen" for one in stored.agreements):
            site.run(agreements.revoke(stored.content_hash))


def test_before_revoking_the_ledger_says_who_would_be_refused(desk: Site) -> None:
    _alone(desk)
    tail = _used(desk)
    with _official(desk) as reader, _official(desk, "en") as english:
        page, other = (_shown(one, f"/afspraken/{tail}/intrekken") for one in (reader, english))
    assert "Van de 3 vragen zouden er <strong>3</strong> worden geweigerd." in page
    assert "Of the 3 requests <strong>3</strong> would be refused." in other
    row = next(row for row in re.findall(r"<tr.*?</tr>", page) if "Regie → ‘personen’ van Bevolkingsregister" in row)
    assert "stopt</span>" in row
    assert "3 van 3" in row
    assert "0,1" in row  # a day
    assert re.search(r"\d{4}, \d\d\.\d\d uur", row)
    assert BSN not in page


def test_what_would_take_the_place_of_an_agreement_is_named(desk: Site) -> None:
    _alone(desk)
    older = _used(desk)
    newer = _used(desk)
    with _official(desk) as reader:
        page = _shown(reader, f"/afspraken/{older}/intrekken")
    assert "In de plaats komt" in page
    assert f'href="/afspraken/{newer}"' in page
    assert "gaat door</span>" in page
    assert "(Fsc-Grant-Hash) moeten dan het nieuwe sturen" in page


def test_taking_one_field_out_is_simulated_by_what_was_asked(desk: Site) -> None:
    _alone(desk)
    tail = _used(desk)
    first, _, third, *_ = PARKING_TERMS.fields
    with _official(desk) as reader:
        part = _shown(reader, f"/afspraken/{tail}/gevolgen?wat=zonder:{first}")
        none = _shown(reader, f"/afspraken/{tail}/gevolgen?wat=zonder:{third}")
        certificate = _shown(reader, f"/afspraken/{tail}/gevolgen?wat=certificaat")
        asked = _shown(reader, f"/afspraken/{tail}/gevolgen")
        for wrong in ("", "zonder:", "zonder:leeftijd", "zonder:<script>alert(1)</script>", "x" * 5000):
            refused = reader.get(f"/afspraken/{tail}/gevolgen", params={"wat": wrong})
            assert refused.status_code == 400, wrong[:50]
            assert "<script>alert" not in refused.text
        assert reader.post(f"/afspraken/{tail}/gevolgen", {}).status_code in (403, 404, 405)
    assert "stopt voor een deel</span>" in part
    assert "2 van 3" in part
    assert f'<option value="zonder:{first}" selected>' in part
    assert "gaat door</span>" in none
    assert "0 van 3" in none
    assert "als niemand opnieuw tekent" in certificate
    assert "3 van 3" in certificate
    assert "Als wij de afspraak intrekken" in asked
    assert desk.nodes[REGISTER.key].agreements.contract(f"$1$1${tail}").state is State.VALID  # nothing was done


def test_an_agreement_can_be_revoked_while_the_ledger_cannot_say_what_would_stop(
    desk: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant_hash = desk.agree(REGIE, REGISTER, "personen", PARKING_TERMS)
    stored = desk.nodes[REGISTER.key].agreements.agreement(grant_hash)
    assert stored is not None
    tail = stored.content_hash.rpartition("$")[2]

    async def silent(_: object) -> None:
        raise LedgerUnavailable("the index cannot be read")

    monkeypatch.setattr(desk.nodes[REGISTER.key].ledger, "find", silent)
    with _official(desk) as reader:
        page = reader.get(f"/afspraken/{tail}/intrekken")
        assert "Wij kunnen nu niet nalezen" in page.text
        done = reader.post(f"/afspraken/{tail}/intrekken", {"form_token": hidden(page, "form_token")})
    assert "U hebt de afspraak ingetrokken." in done.text


def test_renewing_proposes_the_same_agreement_for_so_many_days_and_says_what_follows(desk: Site) -> None:
    tail = _of_inzage(desk, 30)
    agreements = desk.nodes[REGISTER.key].agreements
    old = agreements.contract(f"$1$1${tail}")
    with _official(desk) as reader:
        page = reader.get(f"/afspraken/{tail}")
        assert 'name="dagen" type="text" inputmode="numeric" autocomplete="off" maxlength="5" value="30"' in page.text
        form = {"form_token": hidden(page, "form_token"), "dagen": " 45 "}
        done = reader.post(f"/afspraken/{tail}/verlengen", form)
        assert done.history[0].status_code == 303
        told = " ".join(unescape(done.text).split())
        new = agreements.contract("$1$1$" + str(done.url.path).rpartition("/")[2])
        assert "U hebt de verlenging voorgesteld en getekend." in told
        assert "Nu moet Regie tekenen." in told
        assert "De lopende afspraak blijft gelden tot" in told
        assert "Fsc-Grant-Hash" in told
        assert "Vergeleken met" in told  # the page of the proposal compares it with what runs
        assert "Gewijzigd (1)" in told
        waiting = _shown(reader, f"/afspraken/{tail}")
        assert "Bekijk dat voorstel" in waiting  # two that both get signed help nobody
        assert 'name="dagen"' not in waiting
        assert reader.post(f"/afspraken/{tail}/verlengen", form).status_code == 409
        token = {"form_token": form["form_token"]}
        assert reader.post(f"{done.url.path}/intrekken", token).status_code == 200
    assert new.contract.grants[0].terms() == old.contract.grants[0].terms()
    assert new.contract.not_after - new.contract.not_before == 45 * 86_400
    assert new.state is State.PROPOSED
    assert agreements.contract(old.content_hash).state is State.VALID


@pytest.mark.parametrize("days", ["", "0", "-1", "3651", "1.5", "veel", "٣", "9" * 5000, "<script>alert(1)</script>"])
def test_days_that_cannot_be_are_said_beside_the_field(desk: Site, days: str) -> None:
    tail = _of_inzage(desk, 30)
    before = len(desk.nodes[REGISTER.key].agreements.contracts())
    with _official(desk) as reader:
        form = {"form_token": hidden(reader.get(f"/afspraken/{tail}"), "form_token"), "dagen": days}
        page = reader.post(f"/afspraken/{tail}/verlengen", form)
    assert page.status_code == 422
    assert 'aria-describedby="dagen-uitleg dagen-fout" aria-invalid="true"' in page.text
    assert "Vul een heel getal in van 1 tot en met 3650." in page.text
    assert "<script>alert" not in page.text
    assert f'href="/afspraken/{tail}?taal=en"' in page.text  # the other language of a page that can be asked
    assert len(desk.nodes[REGISTER.key].agreements.contracts()) == before


def test_only_our_own_form_and_an_official_with_the_role_can_renew(desk: Site) -> None:
    tail = _of_inzage(desk, 30)
    before = len(desk.nodes[REGISTER.key].agreements.contracts())
    with _official(desk) as reader, _official(desk) as other:
        foreign = hidden(other.get(f"/afspraken/{tail}"), "form_token")
        for token in ("", "x", foreign):
            refused = reader.post(f"/afspraken/{tail}/verlengen", {"form_token": token, "dagen": "30"})
            assert refused.status_code == 403
        assert reader.get(f"/afspraken/{tail}/verlengen").status_code == 405
    with Reader(desk, REGISTER) as nobody:
        assert nobody.post(f"/afspraken/{tail}/verlengen", {"dagen": "30"}).status_code == 401
        assert nobody.get(f"/afspraken/{tail}/gevolgen").status_code == 401
        nobody.log_in(WITHOUT_ROLE)
        assert nobody.post(f"/afspraken/{tail}/verlengen", {"dagen": "30"}).status_code == 403
        assert nobody.get(f"/afspraken/{tail}/gevolgen").status_code == 403
    assert len(desk.nodes[REGISTER.key].agreements.contracts()) == before


def test_the_notice_of_a_renewal_cannot_be_made_by_a_link(desk: Site) -> None:
    with _official(desk) as reader:
        assert "voorgesteld en getekend" not in _shown(reader, f"/afspraken/{desk.grants['hostile']}?gedaan=verlengen")


def test_the_official_sees_whether_the_node_is_well(desk: Site) -> None:
    with _official(desk) as reader, _official(desk, "en") as english:
        assert 'href="/knooppunt"' in _shown(reader, "/afspraken")
        page, other = _shown(reader, "/knooppunt"), _shown(english, "/knooppunt")
    rows = {re.sub(r"<[^>]+>", "", row.split("</th>")[0]).strip(): row for row in re.findall(r"<tr.*?</tr>", page)}
    for well in ("De gids", "De klok", "Onze manager is bereikbaar", "De vastleggingen", "Organisatie Gemeente"):
        assert "in orde</span>" in rows[well], rows[well]
    assert "The clock" in other
    assert str(desk.nodes[REGISTER.key].settings.data) not in page  # where files are is for the operator alone


def test_what_is_not_in_order_comes_first_and_says_what_to_do(desk: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ill() -> list[Observation]:
        return [
            Observation("clock", True, "within 5 seconds of other peers"),
            Observation("strange <b>", None, "not seen"),
            Observation("peer <img src=x>\u202e", False, "no answer <script>alert(1)</script>\x1b", "ask \u202e them"),
        ]

    # The page keeps what it saw for a while; another portal of the same node has seen nothing yet.
    portal = desk.nodes[GEMEENTE.key].portal
    assert portal is not None
    monkeypatch.setattr(portal, "doctor", ill)
    with Reader(desk, GEMEENTE) as reader:
        reader.log_in(OFFICIAL_OF_GEMEENTE)
        page = reader.get("/knooppunt").text
    assert "1 punt is niet in orde." in page
    assert (
        page.index("Organisatie &lt;img src=x&gt;\\u{202e}") < page.index("strange &lt;b&gt;") < page.index("De klok")
    )
    assert "ask \\u{202e} them" in page
    for hostile in ("<script>alert", "<img src=x", "\u202e", "\x1b"):
        assert hostile not in page


def test_who_may_not_see_agreements_does_not_see_how_the_node_is(desk: Site) -> None:
    with Reader(desk, REGISTER) as nobody:
        assert nobody.get("/knooppunt").status_code == 401
        nobody.log_in(WITHOUT_ROLE)
        assert nobody.get("/knooppunt").status_code == 403


@pytest.mark.browser
@pytest.mark.parametrize("language", ["nl", "en"])
def test_nothing_serious_is_wrong_with_these_pages(chromium: Browser, desk: Site, language: str) -> None:
    soon = _of_inzage(desk, 20)
    used = _used(desk)
    changed = propose(desk, PARKING_TERMS.model_copy(update={"fields": PARKING_TERMS.fields[1:], "retention": "P10Y"}))
    found: list[str] = []
    said: list[str] = []
    context = chromium.new_context(java_script_enabled=True)
    try:
        context.add_cookies([{"name": "taal", "value": language, "url": desk.address}])
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.goto(f"{desk.web(REGISTER)}/afspraken")
        page.click("main a.button")
        page.click(f"button[value={OFFICIAL_OF_REGISTER}]")
        page.wait_for_url(f"{desk.web(REGISTER)}/afspraken")
        address = f"{desk.web(REGISTER)}/afspraken"
        said.clear()
        for path in ("", f"/{changed}", f"/{soon}", f"/{used}/intrekken", f"/{used}/gevolgen?wat=certificaat"):
            page.goto(address + path)
            for size in (WIDE, NARROW):
                page.set_viewport_size(size)
                found += audit(page)
        page.goto(f"{desk.web(REGISTER)}/knooppunt")
        for size in (WIDE, NARROW):
            page.set_viewport_size(size)
            found += audit(page)
        page.goto(f"{address}/{soon}")
        page.fill("#dagen", "veel")
        page.keyboard.press("Enter")
        expect(page.locator("#dagen-fout")).to_be_visible()
        found += audit(page)
        with Reader(desk, REGISTER) as reader:
            reader.log_in()
            form = {"form_token": hidden(reader.get(f"/afspraken/{changed}"), "form_token")}
            reader.post(f"/afspraken/{changed}/afwijzen", form)
    finally:
        context.close()
    assert found == []
    assert [one for one in said if "422" not in one] == []  # nor has the Content Security Policy anything to object to

"""Managing agreements on the official's pages, on real nodes: what ends, what a proposal changes, what would break."""

from __future__ import annotations

import re
from html import unescape

from desk_site import OFFICIAL_OF_REGISTER, Reader
from portal_site import REGIE, REGISTER, Site, _until

from stelsel.agreements.proposals import ConnectionProposal
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

"""The steward's pages on real nodes: the board with its evidence, a peer's history, goals that anyone recomputes."""

from __future__ import annotations

import re
from html import unescape

import httpx
import pytest
from desk_site import Reader
from portal_site import GEMEENTE, REGIE, REGISTER, Site

from stelsel.portal.board_views import history_view
from stelsel.portal.goal_views import goal_view
from stelsel.steering.findings import Outcome
from stelsel.steering.goals import Goal, Indicator, unmeasurable
from stelsel.steering.log import Entry


def _text(page: httpx.Response) -> str:
    """What a reader sees, on one line."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page.text)).split())


def test_the_board_is_for_everyone_and_never_one_grade(desk: Site) -> None:
    with Reader(desk, REGIE) as reader, Reader(desk, REGIE, "en") as english:
        page, other = _text(reader.get("/stelsel")), _text(english.get("/stelsel"))
    assert "Gemeente voldoet aan 0 van de 2 verplichte afspraken die vandaag gelden" in page
    assert "Bevolkingsregister voldoet aan 2 van de 2 verplichte afspraken die vandaag gelden" in page
    assert "Krijgt nu geen nieuwe afspraken." in page
    assert "meets 0 of 2 obligations due today" in other
    assert "Er is geen security.txt" in page
    assert "geldt nog niet" in page  # an obligation that is still to come
    assert "%" not in page


def test_every_state_is_said_in_words_and_not_by_colour_alone(desk: Site) -> None:
    with Reader(desk, REGIE) as reader:
        page = reader.get("/stelsel").text
    pills = re.findall(r'<span class="status status--\w+">(.*?)</span>', page, re.DOTALL)
    assert len(pills) == 3 * 4  # three peers, four obligations
    for pill in pills:
        assert "<svg" in pill
        assert re.sub(r"<svg.*?</svg>", "", pill, flags=re.DOTALL).strip()


def test_who_must_mend_something_soon_is_told_so(desk: Site) -> None:
    with Reader(desk, REGIE) as reader:
        page = _text(reader.get("/stelsel"))
    assert re.search(r"Binnenkort in orde te maken Gemeente : Regel binnenkort, nog [56] dagen", page)


def test_a_peer_s_page_tells_what_was_found_what_follows_and_on_which_evidence(desk: Site) -> None:
    with Reader(desk, REGIE) as reader:
        page = reader.get(f"/stelsel/{GEMEENTE.peer_id}")
        text = _text(page)
        assert "Deze organisatie krijgt nu geen nieuwe afspraken." in text
        assert "krijgt geen nieuwe contracten; lopende gaan door" in text
        assert "dit is een advies, zonder gevolg" in text
        assert "Afspraak 1, artikel 1" in text
        assert "2 toetsen, van" in text  # two runs that found the same are one line of history
        links = re.findall(r'href="(/stelsel/bevindingen/\d+)"', page.text)
        assert links
        finding = reader.get(links[0])
        assert finding.status_code == 200
        assert "voldeed niet" in _text(finding)
        assert "GET http://localhost" in finding.text
        number = links[0].rpartition("/")[2]
        entry = reader.get(f"/steering/findings/{number}").json()
        for proof in (entry["hash"], entry["previous"], entry["body"]["evidence_hash"], entry["body"]["ruleset_hash"]):
            assert proof in finding.text


@pytest.mark.parametrize(
    "path",
    [
        "/stelsel/00000099000000009999",
        "/stelsel/niets",
        "/stelsel/%3Cscript%3E",
        "/stelsel/bevindingen/999999",
        "/stelsel/bevindingen/0",  # an entry of the log, but no finding
        "/stelsel/bevindingen/x",
        "/stelsel/bevindingen/" + "9" * 40,
        "/stelsel/bevindingen/-1",
        "/doelen/niets",
        "/doelen/%3Cscript%3E",
    ],
)
def test_what_does_not_exist_is_a_page_that_says_so(desk: Site, path: str) -> None:
    with Reader(desk, REGIE) as reader:
        page = reader.get(path)
    assert page.status_code == 404
    assert "Deze pagina bestaat niet" in page.text
    assert "<script>" not in page.text


def test_a_node_that_does_not_steer_has_no_board(desk: Site) -> None:
    with Reader(desk, REGISTER) as reader:
        assert reader.get("/stelsel").status_code == 404
        assert 'href="/stelsel"' not in reader.get("/").text


def test_goals_show_their_value_beside_what_was_promised(desk: Site) -> None:
    with Reader(desk, REGIE) as reader:
        page = _text(reader.get("/doelen"))
        value = reader.get("/steering/goals/aantal").json()["value"]
    assert f"Belofte aantal. Gemeente · uiterlijk" in page  # noqa: F541
    assert f"{value:g} van 1.000" in page
    assert "van 50%" in page
    assert "nu niet te meten" in page


def test_a_goal_says_what_is_counted_and_on_which_state_of_the_ledger_it_rests(desk: Site) -> None:
    with Reader(desk, REGIE) as reader:
        page = reader.get("/doelen/deel")
        report = reader.get("/steering/goals/deel").json()
    text = _text(page)
    assert "de vraag kwam bij deze organisatie binnen" in text
    assert "En voor het deel ook nog: de vraag mocht volgens de afspraak" in text
    assert "stelsel verify doel.json --evidence bewijs.ndjson" in text
    assert f"{report['part']} van de {report['counted']} vastleggingen" in text
    assert report["ledger"]["root"] in text
    assert report["indicator_sha256"] in text
    assert 'role="img"' in page.text
    for row in ("begin", "doel", "gemeten"):
        assert f'<th scope="row">{row}</th>' in page.text


def test_the_addresses_in_the_commands_answer(desk: Site) -> None:
    with Reader(desk, REGIE) as reader:
        page = unescape(reader.get("/doelen/aantal").text)
        addresses = re.findall(r"curl -s (http\S+) -o", page)
        assert len(addresses) == 2
        report = reader.get(addresses[0]).json()
        assert httpx.get(report["ledger"]["counted_at"], timeout=10, trust_env=False).status_code == 200


def test_a_goal_that_cannot_be_measured_says_why_and_shows_the_promise(desk: Site) -> None:
    with Reader(desk, REGIE) as reader:
        page = _text(reader.get("/doelen/onbekend"))
    assert "Op dit moment is dit niet te meten." in page
    assert "the directory knows no such peer" in page
    assert "Afgesproken: van 0" in page


def test_what_a_ledger_tells_is_hostile_until_made_inert() -> None:
    goal = _goal()
    shown = goal_view(goal, unmeasurable(goal, "<script>\u202e\n", 1000.0), 1000.0)
    assert shown.why == "<script>\\u{202e}\\u{a}"
    assert shown.row.value == ("", "")
    told = {**unmeasurable(goal, "", 1000.0), "value": 3.0, "status": "behind", "counted": 3, "part": 3}
    told["ledger"] = {"peer": "1", "peer_name": "\u202ex", "size": 3, "root": "00", "counted_at": "javascript:alert(1)"}
    measured = goal_view(goal, told, 1000.0)
    assert measured.ledger is not None
    assert measured.ledger.counted_at == ""
    assert measured.ledger.peer == "\\u{202e}x"


def test_a_goal_whose_measurement_is_not_ready_says_so() -> None:
    shown = goal_view(_goal(), None, 1000.0)
    assert shown.row.said == ("wordt gemeten", "being measured")
    assert shown.measured is None


def test_history_puts_findings_that_follow_each_other_together_and_keeps_a_change_apart() -> None:
    outcomes = [Outcome.MET, Outcome.MET, Outcome.NOT_MET, Outcome.MET]  # newest first
    entries = [_entry(number, outcome) for number, outcome in zip((9, 8, 7, 6), outcomes, strict=True)]
    events = history_view(entries, ())
    assert [(event.said[0], event.times, event.number) for event in events] == [
        ("voldeed", 2, "9"),
        ("voldeed niet", 1, "7"),
        ("voldeed", 1, "6"),
    ]


def test_history_tells_of_explanations_and_appeals() -> None:
    explanation = {"obligation": "regel", "peer": "p", "text": "Wij bouwen\u202e", "until": "2026-12-31"}
    appeal = {"obligation": "regel", "peer": "p", "text": "Niet waar", "decided_at": None, "granted": False}
    entries = [
        Entry(3, "", "appeal", 30.0, appeal | {"decided_at": 1.0, "granted": True}, "", ""),
        Entry(2, "", "appeal", 20.0, appeal, "", ""),
        Entry(1, "", "explanation", 10.0, explanation, "", ""),
    ]
    events = history_view(entries, ())
    assert [event.said[0] for event in events] == [
        "bezwaar toegewezen",
        "bezwaar ingediend",
        "uitleg goedgekeurd tot en met 31 december 2026",
    ]
    assert events[2].text == "Wij bouwen\\u{202e}"


def _entry(number: int, outcome: Outcome) -> Entry:
    body = {"obligation": "regel", "peer": "p", "outcome": outcome.value, "check": "tls"}
    return Entry(number, "", "finding", float(number), body, "", "")


def _goal() -> Goal:
    return Goal.model_validate(
        {
            "id": "doel",
            "sentence": {"nl": "Belofte", "en": "Promise"},
            "owner": "Gemeente",
            "indicator": Indicator.model_validate(
                {"id": "tel", "ledger": "00000099000000002000", "measure": "count", "where": {"allowed": True}}
            ),
            "baseline": 0,
            "target": 10,
            "starts": "2026-01-01",
            "due": "2026-12-31",
            "guardrail": None,
        }
    )

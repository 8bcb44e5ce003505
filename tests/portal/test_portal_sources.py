"""What sources may answer, and how their answers become one list: also when they lie, repeat or keep silent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from stelsel.agreements.agreement import Agreement, State
from stelsel.base.errors import BadGateway, NotFound
from stelsel.portal import sources, timeline
from stelsel.portal.sources import Answer, Source, Sources
from stelsel.privacy.uses import Use

REGIE, REGISTER, GEMEENTE = (f"0000009900000000{number}000" for number in (1, 2, 3))
SOURCE = Source(REGISTER, "Bevolkingsregister")
TOWN = Source(GEMEENTE, "Gemeente")


class _Agreements:
    peer_id = REGIE

    def agreements(self) -> tuple[Agreement, ...]:
        return ()

    def peer_names(self) -> dict[str, str]:
        return {REGIE: "Regie", REGISTER: "Bevolkingsregister"}


def _use(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "index": 4,
        "kind": "use",
        "time": 1_700_000_000_000,
        "consumer": GEMEENTE,
        "provider": REGISTER,
        "service": "personen",
        "allowed": True,
        "reason": "agreed",
        "fields": ["naam.geslachtsnaam"],
        "transaction_id": "t1",
    }
    return row | changes


def _ask(answer: Callable[[httpx.Request], httpx.Response]) -> Answer:
    async def run() -> Answer:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            return await Sources(_Agreements(), "http://127.0.0.1:1", http).page_of(SOURCE, "999990019")

    return asyncio.run(run())


def _says(value: Any, status: int = 200) -> Callable[[httpx.Request], httpx.Response]:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return lambda request: httpx.Response(status, content=content)


def test_the_number_travels_in_the_body_alone() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"gebruik": [_use()]})

    assert [row.index for row in _ask(answer).rows] == [4]
    assert str(asked[0].url) == f"http://127.0.0.1:1/{REGISTER}/inzage/gebruik"
    assert json.loads(asked[0].content) == {"fields": ["gebruik"], "burgerservicenummer": "999990019"}


@pytest.mark.parametrize(
    "said",
    [
        b"geen JSON",
        b"[]",
        {},
        {"gebruik": {}},
        {"gebruik": [1]},
        {"gebruik": [_use(time="gisteren")]},
        {"gebruik": [_use(time=10**15)]},
        {"gebruik": [_use(time=-1)]},
        {"gebruik": [_use(index=-1)]},
        {"gebruik": [_use(allowed="ja")]},
        {"gebruik": [_use(fields=[None])]},
        {"gebruik": [_use(consumer=GEMEENTE, provider=GEMEENTE)]},
        {"gebruik": [_use()] * 201},
    ],
)
def test_an_answer_that_cannot_be_right_shows_as_unreadable_not_in_part(said: Any) -> None:
    answer = _ask(_says(said))
    assert (answer.problem, answer.rows) == ("unreadable", ())


@pytest.mark.parametrize(("status", "problem"), [(500, "silent"), (502, "silent"), (403, "refused"), (404, "refused")])
def test_a_source_that_does_not_answer_is_told_apart_from_one_that_refuses(status: int, problem: str) -> None:
    assert _ask(_says({}, status)).problem == problem


def test_a_source_that_takes_too_long_counts_as_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "DEADLINE", 0.05)

    async def run() -> Answer:
        async def answer(request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(5)
            return httpx.Response(200, json={"gebruik": []})

        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            return await Sources(_Agreements(), "http://127.0.0.1:1", http).page_of(SOURCE, "999990019")

    assert asyncio.run(run()).problem == "silent"


def test_a_receipt_that_is_none_is_not_passed_on() -> None:
    async def run(answer: Callable[[httpx.Request], httpx.Response]) -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            await Sources(_Agreements(), "http://127.0.0.1:1", http).receipt(SOURCE, "999990019", 1)

    with pytest.raises(BadGateway):
        asyncio.run(run(_says({"bewijs": "nee"})))
    with pytest.raises(NotFound):
        asyncio.run(run(_says({}, 404)))


def test_a_source_counts_only_while_its_agreement_holds() -> None:
    def agreement(**changes: Any) -> Agreement:
        values: dict[str, Any] = {
            "grant_hash": "g", "content_hash": "c", "consumer": REGIE, "provider": REGISTER, "service": "inzage",
            "outway_key_thumbprint": None, "outway_domain_name": None, "terms": None, "not_before": 0,
            "not_after": 100, "created_at": 0, "state": State.VALID,
        }  # fmt: skip
        return Agreement(**(values | changes))

    class Some(_Agreements):
        def agreements(self) -> tuple[Agreement, ...]:
            return (
                agreement(),
                agreement(grant_hash="g2"),
                agreement(provider=GEMEENTE, state=State.REVOKED),
                agreement(provider=GEMEENTE, service="personen"),
                agreement(provider=GEMEENTE, consumer=REGISTER),
            )

        def peer_names(self) -> dict[str, str]:
            return super().peer_names() | {GEMEENTE: "Gemeente"}

    asked = Sources(Some(), None, httpx.AsyncClient())
    assert asked.all(50) == [SOURCE]
    assert asked.absent(50) == ["Gemeente"]
    assert asked.all(100) == []


def _answer(source: Source, *rows: dict[str, Any]) -> Answer:
    return Answer(source, tuple(Use.from_json(row) for row in rows))


def test_the_records_of_both_parties_fold_into_one_line() -> None:
    (line,) = timeline.merge([_answer(SOURCE, _use(index=4)), _answer(TOWN, _use(index=9))])
    assert [(one.source.name, one.use.index) for one in line.sightings] == [("Bevolkingsregister", 4), ("Gemeente", 9)]
    assert not line.differs


def test_what_happened_twice_under_one_transaction_id_shows_twice() -> None:
    lines = timeline.merge([_answer(SOURCE, _use(index=5), _use(index=4)), _answer(TOWN, _use(index=9))])
    assert sorted(len(line.sightings) for line in lines) == [1, 2]


def test_parties_that_tell_different_things_are_shown_to_differ() -> None:
    (line,) = timeline.merge([_answer(SOURCE, _use()), _answer(TOWN, _use(fields=["leeftijd"]))])
    assert line.differs
    assert line.fields() == [("achternaam", "surname")]  # to go by who gave the data


def test_a_refusal_of_one_party_is_the_line_s_verdict() -> None:
    (line,) = timeline.merge([_answer(SOURCE, _use(allowed=False, reason="revoked")), _answer(TOWN, _use())])
    assert not line.use.allowed
    assert line.reason == ("De afspraak is ingetrokken.", "The agreement has been revoked.")


def test_a_source_s_own_words_do_not_hide_what_was_asked() -> None:
    said = _use(
        fields=["naam.geslachtsnaam"], fields_nl=["niets bijzonders"], ground="e", ground_nl="U wilde het zelf."
    )
    (line,) = timeline.merge([_answer(SOURCE, said)])
    assert line.fields() == [("achternaam", "surname")]
    assert line.ground[0] == "Het is nodig voor een taak van de overheid."


@pytest.mark.parametrize("law", ["", "urn:nl:wet", "javascript:alert(1)", "https://", "http://[", "//x"])
def test_only_an_address_of_the_web_becomes_a_link(law: str) -> None:
    (line,) = timeline.merge([_answer(SOURCE, _use(law=law))])
    assert line.law is None


def test_the_latest_comes_first_and_who_asked_most_leads_the_summary() -> None:
    rows = [_use(index=n, transaction_id=f"t{n}", time=1000 * n, allowed=n != 2) for n in (3, 1, 2)]
    lines = timeline.merge([_answer(SOURCE, *rows)])
    assert [line.use.index for line in lines] == [3, 2, 1]
    assert timeline.askers(lines) == [timeline.Asker(GEMEENTE, 3, 1)]
    assert len(timeline.chosen(lines, "", refused_only=True)) == 1
    assert timeline.chosen(lines, REGIE, refused_only=False) == []

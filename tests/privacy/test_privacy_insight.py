from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from privacy_builders import GEMEENTE, REGISTER, UITKERING, Client, agreement, numbers, record, terms

from stelsel.agreements.agreement import Agreement
from stelsel.base.certificates import KeyPair
from stelsel.base.clock import SetClock
from stelsel.base.errors import BadGateway, BadRequest, NotFound
from stelsel.base.web import application
from stelsel.ledger.intake import load_block, save_block
from stelsel.ledger.query import Entry, Query
from stelsel.ledger.receipts import verify
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger
from stelsel.privacy import api
from stelsel.privacy.guard import oversupplied
from stelsel.privacy.insight import Insight
from stelsel.privacy.request import read_request
from stelsel.privacy.subjects import SubjectReferences
from stelsel.privacy.uses import Use, exchanges

REFERENCES = SubjectReferences(b"k" * 32)
MINE, THEIRS = numbers(2)
ME, THEY = REFERENCES.of(MINE), REFERENCES.of(THEIRS)
NAMES = {GEMEENTE: "Gemeente", REGISTER: "Bevolkingsregister"}


class ListedLedger:
    """A ledger as a list: the same answers as the real one gives to the same queries."""

    def __init__(self, *records: Record) -> None:
        self.entries = [Entry(index, one) for index, one in enumerate(records)]
        self.asked = 0

    async def find(self, query: Query) -> list[Entry]:
        self.asked += 1
        found = [
            entry
            for entry in (reversed(self.entries) if query.descending else self.entries)
            if (
                query.subject is None
                or query.subject == entry.record.subject
                or (query.or_nobody and not entry.record.subject)
            )
            and (query.transaction_id is None or query.transaction_id == entry.record.transaction_id)
            and (query.after_index is None or (entry.index < query.after_index) == query.descending)
            and entry.index != query.after_index
        ]
        return found[: query.limit]

    async def last_number(self, subject: str) -> int:
        return max((one.record.subject_sequence for one in self.entries if one.record.subject == subject), default=0)

    async def receipt(self, index: int) -> dict[str, Any]:
        return {"index": index, "record": self.entries[index].record.to_json()}


class Agreed:
    def __init__(self, *agreements: Agreement) -> None:
        self._agreements = {one.grant_hash: one for one in agreements}

    def agreement(self, grant_hash: str) -> Agreement | None:
        return self._agreements.get(grant_hash)


def insight(*records: Record) -> Insight:
    return Insight(ListedLedger(*records), Agreed(agreement(terms())), REFERENCES, NAMES)


def uses(*records: Record, number: str = MINE, **options: Any) -> list[Use]:
    return asyncio.run(insight(*records).uses(number, **options))


def transaction(number: int) -> str:
    return f"0190c0de-0000-7000-8000-{number:012}"


def test_a_use_says_who_when_what_why_and_under_which_agreement() -> None:
    (use,) = uses(record(subject=ME, fields=("naam.geslachtsnaam", "partners.naam")))
    assert (use.index, use.kind, use.time, use.allowed, use.reason) == (0, "use", 1_000_000, True, "agreed")
    assert (use.consumer_name, use.provider_name, use.service) == ("Gemeente", "Bevolkingsregister", "personen")
    assert use.fields_nl == ("achternaam", "naam van uw partner")
    assert use.fields_en == ("surname", "name of your partner")
    assert use.search_nl == ("burgerservicenummer",)
    assert use.purpose == "Beoordelen van een parkeervergunning"
    assert (use.article, use.ground) == ("Gemeentewet, artikel 225", "e")
    assert use.ground_nl == "Het is nodig voor een taak van de overheid."
    assert use.processing_activity == "https://gemeente.example/parkeren@1"
    assert use.processing_activity_name == "Parkeren"
    assert (use.agreement, use.contract) == ("$1$4$parkeren", "$1$1$parkeren")


def test_uses_of_others_are_not_shown() -> None:
    assert uses(record(subject=THEY), record()) == []


def test_a_refused_request_is_shown_with_what_was_refused() -> None:
    refused = {"allowed": False, "reason": "unauthorized-field", "refused": ("geboorte.datum",)}
    (use,) = uses(record(subject=ME, **refused))
    assert not use.allowed
    assert use.refused_nl == ("geboortedatum",)
    assert use.reason_nl == "Er is gevraagd om gegevens die niet in de afspraak staan."


def test_a_request_without_agreement_or_with_another_code_is_shown_too() -> None:
    unknown = {"grant_hash": "", "consumer": UITKERING, "allowed": False, "reason": "ERROR_CODE_ACCESS_TOKEN_INVALID"}
    (use,) = uses(record(subject=ME, **unknown))
    assert (use.consumer_name, use.purpose, use.ground, use.agreement) == (UITKERING, "", "", "")
    assert use.reason_nl == "De vraag is geweigerd."


def test_request_and_response_of_one_exchange_are_one_row() -> None:
    both = (record(subject=ME), record(subject=ME, event="response", time=1_000_050))
    (use,) = uses(*both)
    assert (use.index, use.time) == (0, 1_000_000)


def test_who_was_found_by_another_search_sees_the_whole_exchange() -> None:
    searched = record(search_parameters=("postcode",))
    they, me = (record(event="response", subject=one, fields=(), search_parameters=()) for one in (THEY, ME))
    (use,) = uses(searched, they, me)
    assert use.index == 2
    assert use.search_nl == ("postcode",)
    assert use.fields_nl == ("achternaam",)


def test_everyone_in_an_exchange_about_several_sees_it_once_and_gets_a_receipt_that_names_no_one_else() -> None:
    several = [record(), *(record(event="response", subject=one, span_id=one[:16]) for one in (THEY, ME))]
    for number, reference, index in ((THEIRS, THEY, 1), (MINE, ME, 2)):
        (use,) = uses(*several, number=number)
        assert (use.index, use.allowed) == (index, True)
        receipt = asyncio.run(insight(*several).receipt(number, use.index))
        assert receipt["record"]["subject"] == reference
        assert ({ME, THEY} - {reference}).isdisjoint(json.dumps(receipt).split('"'))


def test_who_turns_up_in_an_answer_about_another_sees_a_use_of_their_own() -> None:
    asked = record(subject=THEY, fields=("kinderen.naam",))
    answered = record(event="response", subject=ME, fields=("kinderen.naam",))
    (use,) = uses(asked, answered)
    assert (use.index, use.fields) == (1, ("kinderen.naam",))
    (use,) = uses(asked, answered, number=THEIRS)
    assert use.index == 0


def test_an_answer_about_several_that_was_held_back_is_refused_for_each() -> None:
    several = [record(), *(record(event="response", subject=one) for one in (THEY, ME))]
    held = record(event="response", allowed=False, reason="oversupplied")
    for number in (MINE, THEIRS):
        (use,) = uses(*several, held, number=number)
        assert (use.allowed, use.reason) == (False, "oversupplied")


def test_very_many_others_in_one_exchange_hide_nothing_from_anyone() -> None:
    others = (record(event="response", subject=f"other{one}") for one in range(499))
    held = record(event="response", allowed=False, reason="oversupplied")
    (use,) = uses(record(fields=("kinderen.naam",)), *others, record(event="response", subject=ME), held)
    assert (use.index, use.fields[0], use.allowed) == (500, "kinderen.naam", False)


def test_an_answer_that_was_held_back_makes_the_use_refused() -> None:
    held = record(event="response", allowed=False, reason="oversupplied", refused=("inkomen",))
    (use,) = uses(record(subject=ME), held)
    assert (use.allowed, use.reason, use.refused_nl) == (False, "oversupplied", ("inkomen",))


def test_a_transaction_id_used_twice_hides_nothing() -> None:
    first = record(subject=ME, span_id="a" * 16)
    second = record(subject=ME, span_id="b" * 16, fields=("geboorte.datum",))
    answer = record(event="response", parent_span_id="a" * 16, allowed=False, reason="oversupplied")
    rows = uses(first, second, answer)
    assert [(use.index, use.fields_nl, use.allowed) for use in rows] == [
        (1, ("geboortedatum",), True),
        (0, ("achternaam",), False),
    ]


def test_a_response_of_other_parties_is_not_taken_for_ours() -> None:
    foreign = record(event="response", consumer=UITKERING, allowed=False, reason="oversupplied")
    (use,) = uses(record(subject=ME), foreign)
    assert use.allowed


def test_one_transaction_id_for_very_many_records_hides_nothing() -> None:
    rows = uses(*(record(subject=ME) for _ in range(150)), limit=200)
    assert [use.index for use in rows] == list(range(149, -1, -1))


def test_asking_for_insight_is_itself_shown_as_such() -> None:
    (use,) = uses(record(subject=ME, service="inzage", fields=("gebruik",)))
    assert use.kind == "insight"
    assert use.fields_nl == ("wie uw gegevens heeft gebruikt",)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["request", "response"]), st.integers(0, 2)), max_size=30),
    st.integers(1, 5),
)
def test_the_pages_together_hold_every_exchange_once(steps: list[tuple[int, str, int]], limit: int) -> None:
    records = []
    spans: dict[int, str] = {}  # of the latest request of each transaction id
    for step, (number, event, about) in enumerate(steps):
        span = f"{step:016}"
        own = {"span_id": span} if event == "request" else {"span_id": span, "parent_span_id": spans.get(number)}
        if event == "request":
            spans[number] = span
        records.append(record(transaction_id=transaction(number), event=event, subject=(ME, THEY, "")[about], **own))
    found: list[int] = []
    before = None
    while page := uses(*records, limit=limit, before_index=before):
        assert len(page) <= limit
        found += [use.index for use in page]
        before = page[-1].index
    entries = [Entry(index, one) for index, one in enumerate(records)]
    expected = []
    for number in {one.transaction_id for one in records}:
        group = [entry for entry in entries if entry.record.transaction_id == number]
        expected += [index for one in exchanges(group) if (index := one.index_about(ME)) is not None]
    assert found == sorted(expected, reverse=True)


def test_a_page_is_bounded() -> None:
    records = [record(transaction_id=transaction(number), subject=ME) for number in range(260)]
    assert len(uses(*records)) == 50
    assert len(uses(*records, limit=10_000)) == 200
    assert len(uses(*records, limit=-1)) == 1


def test_a_wrong_number_is_refused_and_not_repeated() -> None:
    for ask in (lambda: uses(number="999990018"), lambda: asyncio.run(insight().receipt("999990018", 0))):
        with pytest.raises(BadRequest) as caught:
            ask()
        assert "999990018" not in json.dumps(caught.value.problem())


def test_a_receipt_is_given_only_to_whom_the_record_is_about() -> None:
    held = insight(record(subject=THEY), record(subject=ME), record(subject=THEY))
    assert asyncio.run(held.receipt(MINE, 1))["index"] == 1
    problems = []
    for index in (0, 2, 3, 10**9, -1):
        with pytest.raises(NotFound) as caught:
            asyncio.run(held.receipt(MINE, index))
        problems.append(caught.value.problem())
    assert all(problem == problems[0] for problem in problems)


def test_a_row_survives_the_way_to_the_portal() -> None:
    for use in uses(record(subject=ME), record(subject=ME, grant_hash="", allowed=False, reason="x")):
        assert Use.from_json(json.loads(json.dumps(use.to_json()))) == use


@pytest.mark.parametrize(
    "change",
    [
        {"index": "1"},
        {"index": True},
        {"allowed": 1},
        {"kind": "x"},
        {"fields_nl": "a"},
        {"fields": [1]},
        {"purpose": 3},
    ],
)
def test_a_row_of_another_shape_is_refused(change: dict[str, Any]) -> None:
    (use,) = uses(record(subject=ME))
    with pytest.raises(BadGateway):
        Use.from_json(use.to_json() | change)


@pytest.mark.parametrize("value", [None, [], "x", 3, {}])
def test_what_is_no_row_is_refused(value: Any) -> None:
    with pytest.raises(BadGateway):
        Use.from_json(value)


def client(*records: Record) -> Client:
    return Client(application(api.routes(insight(*records))))


def test_the_answers_lie_under_the_field_that_was_asked() -> None:
    service = api.service("unix:/tmp/inzage.sock")
    asking = client(record(subject=ME))
    for path, extra in (("gebruik", {}), ("bewijs", {"index": 0})):
        body = {"fields": [path], "burgerservicenummer": MINE, **extra}
        response = asking.post(f"/{path}", json=body)
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-store"
        asked = read_request(service, "POST", f"/{path}", "application/json", json.dumps(body).encode())
        assert asked.fields == (path,)
        assert asked.subjects == (MINE,)
        assert set(asked.search_parameters) <= {"burgerservicenummer", "index"}
        assert oversupplied(service, response.content, asked.fields) == ()
        assert response.json()[path]
        assert MINE not in response.text


def test_the_next_page_begins_at_the_index_of_the_last_row() -> None:
    asking = client(*(record(transaction_id=transaction(number), subject=ME) for number in range(60)))
    body = {"fields": ["gebruik"], "burgerservicenummer": [MINE]}
    first = asking.post("/gebruik", json=body).json()["gebruik"]
    second = asking.post("/gebruik", json=body | {"index": first[-1]["index"]}).json()["gebruik"]
    assert [row["index"] for row in first + second] == list(range(59, -1, -1))
    assert asking.post("/gebruik", json=body | {"index": 0}).json() == {"gebruik": []}


@pytest.mark.parametrize("path", ["gebruik", "bewijs"])
@pytest.mark.parametrize(
    "change",
    [
        {"burgerservicenummer": "999990018"},
        {"burgerservicenummer": None},
        {"burgerservicenummer": [MINE, THEIRS]},
        {"burgerservicenummer": []},
        {"burgerservicenummer": int(MINE)},
        {"fields": []},
        {"fields": ["alles"]},
        {"fields": ["gebruik", "bewijs"]},
        {"fields": "gebruik"},
        {"index": -1},
        {"index": 1.5},
        {"index": "1"},
        {"index": True},
        {"index": None},
        {"index": 2**53 - 1},
        {"limit": 5},
    ],
)
def test_a_malformed_question_is_a_400(path: str, change: dict[str, Any]) -> None:
    body = {"fields": [path], "burgerservicenummer": MINE, "index": 0} | change
    response = client(record(subject=ME)).post(f"/{path}", json=body)
    assert response.status_code == 400
    assert MINE not in response.text
    assert "999990018" not in response.text


def test_a_receipt_needs_an_index_and_one_of_ones_own() -> None:
    asking = client(record(subject=THEY))
    body = {"fields": ["bewijs"], "burgerservicenummer": MINE}
    assert asking.post("/bewijs", json=body).status_code == 400
    assert asking.post("/bewijs", json=body | {"index": 0}).status_code == 404
    assert asking.get("/gebruik").status_code == 405
    assert (
        asking.post("/gebruik", content=b"x" * 20_000, headers={"content-type": "application/json"}).status_code == 413
    )


@pytest.fixture
def with_ledger(
    tmp_path: Path, new_keypair: Callable[..., KeyPair]
) -> Callable[[Callable[[Ledger], Awaitable[None]]], None]:
    def run(use: Callable[[Ledger], Awaitable[None]]) -> None:
        async def main() -> None:
            ledger = Ledger(folder=tmp_path / "ledger", keypair=new_keypair(REGISTER), clock=SetClock(1_800_000_000.0))
            await ledger.start()
            try:
                await use(ledger)
            finally:
                await ledger.stop()

        asyncio.run(main())

    return run


def test_with_the_real_ledger_uses_are_found_and_proved(with_ledger: Callable[..., None]) -> None:
    async def scenario(ledger: Ledger) -> None:
        for number in range(5):
            about = ME if number % 2 == 0 else THEY
            await ledger.append(record(transaction_id=transaction(number), subject=about))
            await ledger.append(record(transaction_id=transaction(number), event="response", subject=about))
        shown = Insight(ledger, Agreed(agreement(terms())), REFERENCES, NAMES)
        assert [use.index for use in await shown.uses(MINE)] == [8, 4, 0]
        assert [use.index for use in await shown.uses(MINE, limit=2)] == [8, 4]
        assert [use.index for use in await shown.uses(MINE, limit=2, before_index=4)] == [0]
        assert await shown.uses(MINE, before_index=0) == []
        receipt = await shown.receipt(MINE, 4)
        assert verify(receipt, None, 1_800_000_000.0).record.subject == ME
        for index in (2, 10, 2**53 - 2):
            with pytest.raises(NotFound):
                await shown.receipt(MINE, index)
        answer = json.dumps({"bewijs": receipt}).encode()
        assert oversupplied(api.service("unix:/x"), answer, ("bewijs",)) == ()

    with_ledger(scenario)


def numbered(*records: Record) -> list[Record]:
    counts: dict[str, int] = {}
    result = []
    for one in records:
        counts[one.subject] = counts.get(one.subject, 0) + 1
        result.append(one._replace(subject_sequence=counts[one.subject] if one.subject else 0))
    return result


def test_every_row_tells_which_records_of_how_many_it_is() -> None:
    about_me = (
        record(transaction_id=transaction(number // 2), event="response" if number % 2 else "request", subject=ME)
        for number in range(8)
    )
    insight = Insight(ListedLedger(*numbered(*about_me)), Agreed(agreement(terms())), REFERENCES, NAMES)
    rows = asyncio.run(insight.uses(MINE))
    assert [(use.numbers, use.total, use.missing, use.missing_after) for use in rows] == [
        ((7, 8), 8, 0, 0),
        ((5, 6), 8, 0, 0),
        ((3, 4), 8, 0, 0),
        ((1, 2), 8, 0, 0),
    ]
    assert [Use.from_json(json.loads(json.dumps(use.to_json()))) for use in rows] == rows


@pytest.mark.parametrize(
    ("gone", "missing", "after"),
    [
        ([], [0, 0, 0, 0, 0, 0], 0),
        ([3], [0, 0, 1, 0, 0], 0),
        ([1, 2], [0, 0, 0, 2], 0),
        ([5], [1, 0, 0, 0, 0], 0),
        ([0], [0, 0, 0, 0, 0], 1),
        ([0, 1, 4], [0, 1, 0], 2),
    ],
)
def test_a_record_that_is_gone_is_told(gone: list[int], missing: list[int], after: int) -> None:
    ledger = ListedLedger(*numbered(*(record(transaction_id=transaction(number), subject=ME) for number in range(6))))
    entries = ledger.entries
    ledger.entries = [entry for entry in entries if entry.index not in gone]

    async def last_number(_: str) -> int:
        return 6

    ledger.last_number = last_number  # type: ignore[method-assign]
    insight = Insight(ledger, Agreed(agreement(terms())), REFERENCES, NAMES)
    rows = asyncio.run(insight.uses(MINE))
    assert [use.missing for use in rows] == missing
    assert rows[-1].missing_after == after
    paged, before = [], None
    while page := asyncio.run(insight.uses(MINE, limit=2, before_index=before)):
        paged += page
        before = page[-1].index
    assert [use.missing for use in paged] == missing


def test_records_from_before_there_were_numbers_are_no_gap() -> None:
    old = [record(transaction_id=transaction(number), subject=ME) for number in range(3)]
    new = numbered(*(record(transaction_id=transaction(number), subject=ME) for number in range(3, 5)))
    rows = asyncio.run(Insight(ListedLedger(*old, *new), Agreed(agreement(terms())), REFERENCES, NAMES).uses(MINE))
    assert [(use.numbers, use.missing, use.missing_after) for use in rows] == [
        ((2,), 0, 0),
        ((1,), 0, 0),
        *[((), 0, 0)] * 3,
    ]


def test_with_the_real_ledger_what_was_taken_away_is_told_and_what_was_erased_is_explained(
    with_ledger: Callable[..., None], tmp_path: Path
) -> None:
    async def scenario(ledger: Ledger) -> None:
        for number in range(7):
            await ledger.append(record(transaction_id=transaction(number), subject=ME, time=1_000_000 + number))
        insight = Insight(ledger, Agreed(agreement(terms())), REFERENCES, NAMES, lambda: 1000.002)
        await ledger.prune(1000.002)
        rows = await insight.uses(MINE)
        assert [use.numbers for use in rows] == [(7,), (6,), (5,), (4,), (3,)]
        assert (rows[-1].missing_after, rows[-1].erased_before) == (2, 1_000_002)
        (file,) = tmp_path.rglob("index.sqlite")
        with closing(sqlite3.connect(file)) as connection, connection:
            block = load_block(connection, 0)
            assert block is not None
            block.erase(4)
            save_block(connection, block)
        rows = await insight.uses(MINE)
        assert [(use.numbers, use.missing) for use in rows] == [((7,), 0), ((6,), 0), ((4,), 1), ((3,), 0)]

    with_ledger(scenario)

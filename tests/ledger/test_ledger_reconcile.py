"""Reconciliation: what only one side's log holds is found, whichever side; a peer that lies or breaks is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from stelsel.agreements.client import PeerRefused
from stelsel.agreements.directory_reader import pages as read_pages
from stelsel.base.certificates import KeyPair
from stelsel.base.clock import SetClock
from stelsel.base.database import Database
from stelsel.base.errors import BadGateway, Unavailable
from stelsel.base.web import application
from stelsel.ledger import reconcile_service
from stelsel.ledger.api import routes
from stelsel.ledger.reconcile import Kind, between, of_record, read_logged
from stelsel.ledger.reconcile_service import Outcome, Reconciliation
from stelsel.ledger.reconcile_settings import ReconciliationSettings
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger
from stelsel.ledger.settings import LedgerSettings

CONSUMER, PROVIDER, OTHER = "00000099000000003000", "00000099000000002000", "00000099000000004000"
BEGIN = 1_764_000_000
"""Seconds; the moment of record 0."""
Make = Callable[..., Record]


@dataclass
class Side:
    """One peer: its ledger, and its log as another peer reads it."""

    peer_id: str
    ledger: Ledger
    reconciliation: Reconciliation
    asked: list[dict[str, str]] = field(default_factory=list)

    async def run(self, **options: Any) -> Outcome:
        other = PROVIDER if self.peer_id == CONSUMER else CONSUMER
        return (await self.reconciliation.run(other, **options))[0]


@dataclass
class World:
    consumer: Side
    provider: Side
    clock: SetClock
    agreed: bool = True
    """Whether there is an agreement between the two."""
    answer: dict[str, Callable[[dict[str, str]], Any]] = field(default_factory=dict)
    """By peer id: what answers in place of its log."""


Test = Callable[[World], Awaitable[None]]


@pytest.fixture
def world(tmp_path: Path, new_keypair: Callable[..., KeyPair]) -> Callable[..., None]:
    """Runs a test with two peers; settings of reconciliation may be given."""

    @asynccontextmanager
    async def open_world(**settings: Any) -> AsyncIterator[World]:
        clock, keypairs = SetClock(BEGIN + 5000.0), {peer: new_keypair(peer) for peer in (CONSUMER, PROVIDER)}
        ledgers = {
            peer: Ledger(
                folder=tmp_path / peer, keypair=keypair, clock=clock, settings=LedgerSettings(index_pause=0.02)
            )
            for peer, keypair in keypairs.items()
        }
        databases = {peer: Database(None) for peer in keypairs}
        made: World
        sides = {}
        for peer, ledger in ledgers.items():
            await ledger.start()
            databases[peer].create()
            other = PROVIDER if peer == CONSUMER else CONSUMER
            sides[peer] = Side(
                peer,
                ledger,
                Reconciliation(
                    own=peer,
                    ledger=ledger,
                    pages=_pages(keypairs[peer], ledgers[other], lambda: made),
                    peers=lambda other=other: [other] * made.agreed,  # type: ignore[misc]
                    database=databases[peer],
                    clock=clock,
                    settings=ReconciliationSettings(**{"settle": 0, "interval": 0, **settings}),
                    keep_days=2,
                ),
            )
        made = World(sides[CONSUMER], sides[PROVIDER], clock)
        try:
            yield made
        finally:
            for peer, ledger in ledgers.items():
                await ledger.stop()
                databases[peer].close()

    def run(test: Test, **settings: Any) -> None:
        async def inside() -> None:
            async with open_world(**settings) as opened:
                await test(opened)

        asyncio.run(inside())

    return run


def _pages(asker: KeyPair, ledger: Ledger, world: Callable[[], World]) -> Any:
    """Reads the log of a peer as `Agreements.pages` does, over its real API without the network between."""
    app = application(routes(ledger))

    async def call(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"client_certificate": asker.certificate.der}
        await app(scope, receive, send)

    class Clients:
        async def get(self, peer_id: str, address: str, path: str, query: dict[str, str]) -> dict[str, Any]:
            here = world()
            side = here.provider if peer_id == PROVIDER else here.consumer
            side.asked.append(query)
            if peer_id in here.answer:
                return here.answer[peer_id](query)  # type: ignore[no-any-return]
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=call), base_url="https://peer") as http:
                answer = await http.get(path, params=query)
            if answer.status_code != 200:
                raise PeerRefused(answer.text)
            return answer.json()  # type: ignore[no-any-return]

    async def pages(peer_id: str, path: str, member: str, query: dict[str, str], limit: int) -> AsyncIterator[Any]:
        async for page in read_pages(Clients(), peer_id, "", path, member, query, limit):  # type: ignore[arg-type]
            yield page

    return pages


async def _exchange(
    world: World, record: Make, numbers: Iterable[int], *, skew: float = 0, not_at: str = "", **members: Any
) -> None:
    """Calls as both sides record them; `skew` is how far the provider's clock is ahead, `not_at` who lost them."""
    for number in numbers:
        if not_at != CONSUMER:
            await world.consumer.ledger.append(record(number, direction="outgoing", **members))
        if not_at != PROVIDER:
            time = 1000 * (BEGIN + number) + int(1000 * skew)
            await world.provider.ledger.append(record(number, time=time, **members))


def _found(outcome: Outcome) -> set[tuple[str, int]]:
    return {(each.kind.value, int(each.logged.transaction_id[-12:], 16)) for each in outcome.found}


def test_two_logs_that_tell_the_same_agree(world: Any, record: Make) -> None:
    async def test(world: World) -> None:
        await _exchange(world, record, range(30))
        for side in (world.consumer, world.provider):
            outcome = await side.run()
            assert (outcome.ours, outcome.theirs, outcome.found, outcome.trouble) == (30, 30, (), "")
            assert side.reconciliation.standings()[0].up_to == BEGIN + 5000

    world(test)


def test_what_the_consumer_struck_out_the_provider_finds_and_is_sure_of(world: Any, record: Make) -> None:
    async def test(world: World) -> None:
        await _exchange(world, record, range(20))
        await _exchange(world, record, (20, 21), not_at=CONSUMER)
        outcome = await world.provider.run()
        assert _found(outcome) == {("missing-there", 20), ("missing-there", 21)}
        assert all(each.kind.certain for each in outcome.found)
        theirs = await world.consumer.run()  # and so does the consumer itself, which lost them
        assert _found(theirs) == {("missing-here", 20), ("missing-here", 21)}
        assert world.provider.reconciliation.standings()[0].certain == 2

    world(test)


def test_what_the_provider_struck_out_is_found_but_may_not_have_arrived(world: Any, record: Make) -> None:
    async def test(world: World) -> None:
        await _exchange(world, record, range(20))
        await _exchange(world, record, (20,), not_at=PROVIDER)
        assert _found(await world.consumer.run()) == {("not-arrived-there", 20)}
        assert _found(await world.provider.run()) == {("not-arrived-here", 20)}
        standing = world.consumer.reconciliation.standings()[0]
        assert (standing.certain, standing.uncertain) == (0, 1)

    world(test)


def test_what_never_left_is_in_order(world: Any, record: Make) -> None:
    async def test(world: World) -> None:
        await _exchange(world, record, range(3))
        await _exchange(world, record, (3,), not_at=PROVIDER, allowed=False, reason="refused")
        await _exchange(world, record, (4,), not_at=PROVIDER)  # allowed, and then stopped after all
        stop = record(4, direction="outgoing", event="response", allowed=False, reason="AGREEMENT_NOT_IN_FORCE")
        await world.consumer.ledger.append(stop)
        assert (await world.consumer.run()).found == ()
        assert _found(await world.provider.run()) == {("not-arrived-here", 4)}  # only the other side knows why

    world(test)


def test_a_call_that_both_tell_of_otherwise_is_found(world: Any, record: Make) -> None:
    async def test(world: World) -> None:
        await _exchange(world, record, range(3))
        await world.consumer.ledger.append(record(5, direction="outgoing"))
        await world.provider.ledger.append(record(5, grant_hash="$1$3$another", service="adressen"))
        await world.consumer.ledger.append(record(6, direction="outgoing", allowed=False, reason="refused"))
        await world.provider.ledger.append(record(6))
        for side in (world.consumer, world.provider):
            found = (await side.run()).found
            assert [(each.kind, each.detail) for each in found] == [
                (Kind.DIFFERENT, "grant_hash, service"),
                (Kind.DIFFERENT, "refused by the sender, yet arrived"),
            ]

    world(test)


@pytest.mark.parametrize("skew", [-400.0, -3.7, 59.0, 400.0])
def test_clocks_need_not_agree(world: Any, record: Make, skew: float) -> None:
    async def test(world: World) -> None:
        await _exchange(world, record, range(0, 3000, 100), skew=skew)
        await _exchange(world, record, (1550,), skew=skew, not_at=CONSUMER)
        for _ in range(5):  # the window ends in the midst of them, again and again
            world.clock.set(BEGIN + 200.0)
            await world.consumer.run(since=BEGIN - 1000)
            await world.provider.run(since=BEGIN - 1000)
            world.clock.forward(500)
        world.clock.set(BEGIN + 5000.0)
        await world.consumer.run()
        await world.provider.run()
        for side, kind in ((world.consumer, Kind.MISSING_HERE), (world.provider, Kind.MISSING_THERE)):
            kept = side.reconciliation.kept()
            assert [(each.discrepancy.kind, each.discrepancy.logged.transaction_id[-3:]) for each in kept] == [
                (kind, f"{1550:03x}")
            ]

    world(test)


def test_each_round_goes_on_where_the_last_one_ended(world: Any, record: Make) -> None:
    async def test(world: World) -> None:
        await _exchange(world, record, range(10))
        first = await world.provider.run()
        world.clock.forward(1000)
        await _exchange(world, record, (5100, 5101), not_at=CONSUMER)
        second = await world.provider.run()
        assert (second.start, second.stop, second.ours) == (first.stop, first.stop + 1000, 2)
        assert _found(second) == {("missing-there", 5100), ("missing-there", 5101)}
        third = await world.provider.run()
        assert (third.ours, third.found) == (0, ())
        assert len(world.provider.reconciliation.kept()) == 2, "what was found stays until it is put right"

    world(test)


def test_what_was_put_right_is_dropped(world: Any, record: Make) -> None:
    async def test(world: World) -> None:
        await _exchange(world, record, (1, 2), not_at=CONSUMER)
        await world.provider.run()
        assert len(world.provider.reconciliation.kept()) == 2
        await world.consumer.ledger.append(record(1, direction="outgoing"))
        await world.provider.run()
        assert [each.discrepancy.logged.transaction_id[-1:] for each in world.provider.reconciliation.kept()] == ["2"]

    world(test)


def test_what_is_under_way_and_what_is_too_old_is_left_alone(world: Any, record: Make) -> None:
    async def test(world: World) -> None:
        world.clock.set(BEGIN + 86_400.0 + 100)
        await _exchange(world, record, (0, 86_400 + 90), not_at=PROVIDER)
        await _exchange(world, record, (5000,))
        outcome = await world.consumer.run(since=0)
        assert (outcome.start, outcome.stop) == (BEGIN + 100, BEGIN + 86_400 + 70)
        assert (outcome.ours, outcome.found) == (1, ())

    world(test, settle=30, days=1)


def test_nothing_older_than_we_keep_ourselves_is_compared(world: Any) -> None:
    async def test(world: World) -> None:
        world.clock.set(BEGIN + 40 * 86_400.0)
        assert (await world.consumer.run(since=0)).start == BEGIN + 38 * 86_400

    world(test, days=30)


def test_more_than_can_be_held_is_compared_in_parts(world: Any, record: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile_service, "MOST_IN_SLICE", 40)
    monkeypatch.setattr(reconcile_service, "MOST_LOOKED_UP", 5)

    async def test(world: World) -> None:
        await _exchange(world, record, range(150))
        await _exchange(world, record, range(150, 170), not_at=CONSUMER)
        outcome = await world.provider.run()
        assert (outcome.trouble, outcome.ours, len(outcome.found)) == ("", 170, 20)

    world(test)


def _page(*records: Any, cursor: str = "") -> dict[str, Any]:
    return {"records": list(records), "pagination": {"next_cursor": cursor}}


def _log_record(**members: Any) -> dict[str, Any]:
    whole = {
        "transaction_id": "01900000-0000-7000-8000-0000000000ff",
        "direction": "DIRECTION_INCOMING",
        "grant_hash": "$1$3$g",
        "source": {"type": "SOURCE_TYPE_SOURCE", "outway_peer_id": CONSUMER},
        "destination": {"type": "DESTINATION_TYPE_DESTINATION", "service_peer_id": PROVIDER},
        "service_name": "personen",
        "created_at": BEGIN + 10,
    }
    return whole | members


@pytest.mark.parametrize(
    "wrong",
    [
        "text",
        None,
        {},
        _log_record(transaction_id="../../etc"),
        _log_record(transaction_id=["a"]),
        _log_record(created_at="1"),
        _log_record(created_at=True),
        _log_record(created_at=2**70),
        _log_record(created_at=-1),
        _log_record(direction="SIDEWAYS"),
        _log_record(source=[]),
        _log_record(grant_hash="x" * 5000),
        _log_record(service_name=7),
    ],
)
def test_what_is_no_log_record_ends_the_comparison_and_is_told(world: Any, record: Make, wrong: Any) -> None:
    async def test(world: World) -> None:
        await _exchange(world, record, range(3))
        world.answer[PROVIDER] = lambda query: _page(wrong)
        outcome = await world.consumer.run()
        assert outcome.trouble == "the peer's log holds something that is no log record"
        standing = world.consumer.reconciliation.standings()[0]
        assert (standing.up_to <= BEGIN, standing.trouble_since) == (True, world.clock.now())
        del world.answer[PROVIDER]
        world.clock.forward(10)
        outcome = await world.consumer.run()
        assert (outcome.ours, outcome.theirs, outcome.trouble) == (3, 3, ""), "the same time is compared again"

    world(test)


@pytest.mark.parametrize("answer", [[], {"records": {}}, {"records": []}, {"records": [], "pagination": 1}])
def test_a_page_of_another_form_is_told(world: Any, answer: Any) -> None:
    async def test(world: World) -> None:
        def odd(query: dict[str, str]) -> Any:
            if isinstance(answer, list):
                raise BadGateway("the answer of the other manager is not a JSON object")
            return answer

        world.answer[PROVIDER] = odd
        assert (await world.consumer.run()).trouble

    world(test)


def test_a_log_without_end_comes_to_an_end(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile_service, "MOST_IN_SLICE", 300)

    async def test(world: World) -> None:
        calls = 0

        def endless(query: dict[str, str]) -> Any:
            nonlocal calls
            calls += 1
            return _page(*[_log_record()] * 100, cursor=str(calls))  # the same, for ever, behind ever new cursors

        world.answer[PROVIDER] = endless
        outcome = await world.consumer.run(since=BEGIN)
        assert "within one second" in outcome.trouble
        assert calls < 200

    world(test)


def test_a_peer_that_tells_more_than_it_is_asked_about_keeps_no_other_from_being_compared(
    world: Any, record: Make
) -> None:
    async def test(world: World) -> None:
        await _exchange(world, record, (20,), not_at=PROVIDER)
        assert _found(await world.consumer.run()) == {("not-arrived-there", 20)}
        many = [_log_record(transaction_id=f"01900000-0000-7000-8000-{number:012x}") for number in range(500)]
        world.answer[PROVIDER] = lambda _: _page(*many)  # whatever it is asked
        outcome = await world.consumer.run()
        assert "more than it was asked about" in outcome.trouble
        assert "more than it was asked about" in world.consumer.reconciliation.standings()[0].trouble
        assert len(world.consumer.reconciliation.kept()) == 1

    world(test)


def test_a_log_that_comes_drop_by_drop_gets_no_more_than_its_time(world: Any) -> None:
    async def test(world: World) -> None:
        async def drop(*_: Any) -> AsyncIterator[list[Any]]:
            while True:
                await asyncio.sleep(0.05)
                yield [_log_record()]

        world.consumer.reconciliation._pages = drop  # type: ignore[assignment]
        outcome = await world.consumer.run()
        assert outcome.unfinished
        assert "longer than 1 seconds" in outcome.trouble

    world(test, patience=1)


def test_a_peer_that_is_away_is_told_and_asked_again(world: Any, record: Make) -> None:
    async def test(world: World) -> None:
        def away(query: dict[str, str]) -> Any:
            raise Unavailable("no answer from peer \x1b[31m")

        await _exchange(world, record, (1,), not_at=CONSUMER)
        world.answer[CONSUMER] = away
        outcome = await world.provider.run()
        assert outcome.trouble == "no answer from peer \\u{1b}[31m"
        del world.answer[CONSUMER]
        assert _found(await world.provider.run()) == {("missing-there", 1)}

    world(test)


def test_who_was_a_counterparty_until_lately_is_compared_with_for_a_while(world: Any, record: Make) -> None:
    async def test(world: World) -> None:
        await world.provider.run()
        world.agreed = False
        world.clock.forward(1000)
        await _exchange(world, record, (5100,), not_at=CONSUMER)
        (outcome,) = await world.provider.reconciliation.run()
        assert _found(outcome) == {("missing-there", 5100)}
        assert not world.provider.reconciliation.standings()[0].current
        world.clock.forward(3 * 86_400)
        assert await world.provider.reconciliation.run() == []

    world(test)


def test_a_peer_that_makes_up_a_flood_fills_no_disk(world: Any, record: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile_service.store, "MOST_KEPT", 20)

    async def test(world: World) -> None:
        def flood(query: dict[str, str]) -> Any:
            if "transaction_ids" in query:
                return _page()
            start, stop = int(query["after"]), int(query["before"])
            made_up = [
                _log_record(transaction_id=f"01900000-0000-7000-8000-{number:012x}", created_at=BEGIN + number)
                for number in range(100)
                if start < BEGIN + number < stop
            ]
            return _page(*made_up)

        world.answer[PROVIDER] = flood
        outcome = await world.consumer.run()
        assert (len(outcome.found), outcome.more) == (20, 80)
        standing = world.consumer.reconciliation.standings()[0]
        assert (standing.certain, standing.not_kept) == (20, 80)

    world(test)


def test_calls_of_others_in_which_we_are_delegator_are_left_out(record: Make) -> None:
    of_others = record(1, consumer=OTHER, consumer_delegator=CONSUMER)
    assert not between(of_others, PROVIDER, CONSUMER)
    assert between(record(1), PROVIDER, CONSUMER)
    assert not between(record(1), CONSUMER, PROVIDER), "an incoming record is of what others asked us"
    theirs = _log_record(source={"outway_peer_id": OTHER, "delegator_peer_id": CONSUMER})
    assert read_logged(theirs, CONSUMER, PROVIDER) is None


def test_a_log_record_is_read_as_it_was_written(record: Make) -> None:
    from stelsel.ledger.api import log_record

    ours = record(7, consumer_delegator=OTHER, provider_delegator=OTHER)
    read = read_logged(log_record(ours), CONSUMER, PROVIDER)
    assert read == of_record(ours)

"""The link between house and worker: frames in any split, strict limits, and what becomes of records and tokens."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exchange_world import COMPANY, MUNICIPALITY, REGISTER, StandInAgreements, an_agreement, terms
from hypothesis import given
from hypothesis import strategies as st

from stelsel.agreements.agreement import Agreement, State
from stelsel.agreements.external_contract import ExternalContract
from stelsel.agreements.group import Group
from stelsel.agreements.token_check import TokenCheck
from stelsel.base.certificates import Certificate, KeyPair, Pair, TrustAnchors
from stelsel.base.clock import SetClock, SystemClock
from stelsel.base.errors import BadRequest, Forbidden, NotFound, Unauthenticated, Unavailable
from stelsel.base.revocation import RevocationLists
from stelsel.demo.authority import Authority
from stelsel.exchange.workers import messages
from stelsel.exchange.workers.desk import Desk
from stelsel.exchange.workers.link import MAXIMUM_FRAME, FrameReader, Kind, Link, LinkBroken, frame
from stelsel.exchange.workers.remote import RemoteAgreements
from stelsel.exchange.workers.remote_ledger import RemoteLedger
from stelsel.ledger.batch import Batch, Parcel
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.frames import frame as journal_frame
from stelsel.ledger.record import Record

FRAMES = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=40)), max_size=8)


def a_record(number: int = 1, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "transaction_id": f"0190a0a0-0000-7000-8000-{number:012}",
        "trace_id": "0" * 31 + "1",
        "span_id": "0" * 15 + "1",
        "parent_span_id": None,
        "time": 1_700_000_000_000,
        "direction": "incoming",
        "event": "request",
        "grant_hash": "$1$3$x",
        "consumer": MUNICIPALITY,
        "provider": REGISTER,
        "service": "echo",
        "allowed": True,
        "reason": "agreed",
    }
    return Record(**(values | changes))


# --- frames ---------------------------------------------------------------------------------------------------------


@given(FRAMES, st.lists(st.integers(min_value=0, max_value=400), max_size=12))
def test_frames_come_out_as_they_went_in_whatever_way_the_bytes_were_split(
    frames: list[tuple[Kind, bytes]], cuts: list[int]
) -> None:
    data = b"".join(frame(kind, payload) for kind, payload in frames)
    reader, found, begin = FrameReader(), [], 0
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        found += reader.receive(data[begin:cut])
        begin = cut
    assert found == frames


@pytest.mark.parametrize(
    "data",
    [
        (0).to_bytes(4, "big") + b"\x01",
        (MAXIMUM_FRAME + 1).to_bytes(4, "big") + b"\x01",
        (1).to_bytes(4, "big") + b"\xff",
        b"GET / HTTP/1.1\r\n",
    ],
    ids=["empty", "too large", "no such kind", "something else"],
)
def test_what_is_no_frame_breaks_the_link_before_it_is_kept(data: bytes) -> None:
    with pytest.raises(LinkBroken):
        FrameReader().receive(data)


def test_a_frame_that_is_too_large_is_not_sent() -> None:
    with pytest.raises(LinkBroken):
        frame(Kind.RECORDS, bytes(MAXIMUM_FRAME))


# --- messages -------------------------------------------------------------------------------------------------------


def encoded(records: list[tuple[bytes, str]]) -> list[messages.Encoded]:
    return [(journal_frame(bytes(16), data), subject) for data, subject in records]


def records_in(parcel: Parcel) -> list[tuple[bytes, str]]:
    return [(data, subject) for _, data, subject in Batch([parcel])]


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=60), st.sampled_from(["", "a" * 32])), min_size=1),
    st.integers(0, 2**40),
)
def test_records_are_unpacked_as_they_were_packed(records: list[tuple[bytes, str]], first: int) -> None:
    found = [messages.unpack_records(payload, 60) for payload in messages.pack_records(first, encoded(records))]
    assert [(number, parcel.count, records_in(parcel)) for number, parcel in found] == [(first, len(records), records)]


def test_many_large_records_travel_in_frames_that_fit() -> None:
    records = [(bytes([number]) * 300_000, "s" if number % 3 == 1 else "") for number in range(20)]
    frames = list(messages.pack_records(7, encoded(records)))
    assert max(len(payload) for payload in frames) < MAXIMUM_FRAME
    found = [messages.unpack_records(payload, 300_000) for payload in frames]
    counts = [parcel.count for _, parcel in found]
    assert [record for _, parcel in found for record in records_in(parcel)] == records
    assert [first for first, _ in found] == [7 + sum(counts[:at]) for at in range(len(found))]


@given(st.binary(max_size=80))
def test_records_that_do_not_read_break_the_link_and_nothing_else(payload: bytes) -> None:
    for unpack in (
        lambda data: messages.unpack_records(data, 100),
        messages.unpack_runs,
        messages.unpack_refusal,
        messages.unpack_agreements,
    ):
        try:
            unpack(payload)
        except LinkBroken:
            pass


@given(st.data())
def test_a_message_of_records_with_one_byte_changed_cut_or_added_never_reaches_the_journal(data: st.DataObject) -> None:
    records = [(b'{"time":%d}' % number, "s" if number % 2 else "") for number in range(3)]
    (payload,) = messages.pack_records(0, encoded(records))
    (begin,) = (len(payload) - sum(len(each) for each, _ in encoded(records)),)
    at = data.draw(st.integers(begin, len(payload) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "add"]))
    if change == "flip":
        changed = payload[:at] + bytes([payload[at] ^ data.draw(st.integers(1, 255))]) + payload[at + 1 :]
    elif change == "cut":
        changed = payload[:at]
    else:
        changed = payload[:at] + data.draw(st.binary(min_size=1, max_size=40)) + payload[at:]
    try:
        _, parcel = messages.unpack_records(changed, 100)
    except LinkBroken:
        return
    assert change == "cut" or parcel.frames == payload[begin:]  # cut between two records, which are whole
    assert records_in(parcel) == records[: parcel.count]


def test_a_record_that_is_larger_than_the_house_takes_breaks_the_link() -> None:
    (payload,) = messages.pack_records(0, encoded([(bytes(101), "")]))
    with pytest.raises(LinkBroken):
        messages.unpack_records(payload, 100)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 3), st.integers(0, 30))))
def test_results_are_told_as_runs_without_loss(results: list[messages.Run]) -> None:
    def each(found: list[messages.Run]) -> list[tuple[int, int]]:
        return [(first + at, index + at) for first, count, index in found for at in range(count)]

    assert each(messages.unpack_runs(messages.pack_runs(messages.runs(results)))) == each(results)


def test_messages_that_came_to_stand_in_a_row_are_one_run() -> None:
    assert messages.runs((number, 3, number + 100) for number in range(0, 999, 3)) == [(0, 999, 100)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"with_terms": terms()},
        {"signatures_hold_until": 1_800_000_000.5, "state": State.REVOKED},
        {"consumer_delegator": COMPANY, "provider_delegator": REGISTER, "outway_domain_name": "x.example"},
        {"external_contract": ExternalContract(reference="r\u2028é", delegator_id="d", delegator_name="n")},
    ],
)
def test_an_agreement_is_at_the_worker_what_it_is_in_the_house(changes: dict[str, Any], municipality: KeyPair) -> None:
    agreement = an_agreement("echo", municipality, **changes)
    [payload] = messages.pack_agreements([agreement])
    assert messages.unpack_agreements(payload) == [agreement]


def test_terms_that_are_not_understood_in_full_never_reach_a_worker(municipality: KeyPair) -> None:
    value = messages.agreement_to_json(an_agreement("echo", municipality, with_terms=terms()))
    value["terms"]["version"] = 2
    with pytest.raises(LinkBroken):
        messages.agreement_from_json(value)


@pytest.mark.parametrize("kind", [NotFound, Forbidden, BadRequest, Unavailable, LedgerUnavailable])
def test_a_fault_is_raised_at_the_other_side_as_it_was(kind: type[Exception]) -> None:
    fault = messages.fault_from_json(messages.fault_to_json(kind("why", next_step="what")))  # type: ignore[call-arg, arg-type]
    assert (type(fault), fault.detail, fault.next_step) == (kind, "why", "what")


# --- both ends ------------------------------------------------------------------------------------------------------


class House:
    """A ledger that answers when told to, and agreements of the stand-in."""

    def __init__(self) -> None:
        self.offered: list[tuple[Parcel, asyncio.Future[int]]] = []
        self.record_bytes = 2000
        self.full = False
        self.asked: list[str] = []
        self.forgotten: list[str] = []
        self.agreements_: StandInAgreements | None = None

    def offer(self, parcel: Parcel) -> asyncio.Future[int]:
        if self.full:
            raise LedgerUnavailable("full")
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.offered.append((parcel, future))
        return future

    def agreements(self) -> tuple[Agreement, ...]:
        return ()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Nothing changes here."""

    async def token(self, grant_hash: str) -> Any:
        self.asked.append(grant_hash)
        if self.full:
            await asyncio.sleep(60)
        if self.agreements_ is None:
            raise Forbidden("the provider gives no access token", next_step="ask")
        return await self.agreements_.token(grant_hash)

    def forget_token(self, grant_hash: str) -> None:
        self.forgotten.append(grant_hash)

    def earlier_certificates(self) -> tuple[tuple[Certificate, float], ...]:
        return ()


class Ends:
    """A desk and what a worker has, over one pair of sockets."""

    def __init__(self, keypair: KeyPair, **limits: Any) -> None:
        self.house = House()
        self.lost: list[str] = []
        self.link = Link(self._on_frame, lambda: self.lost.append("worker"))
        self.desk = Desk(self.house, self.house, lambda: self.lost.append("house"))
        values: dict[str, Any] = {"deadline": 5.0, "waiting_records": 100, "record_bytes": 2000} | limits
        self.ledger = RemoteLedger(self.link, **values)
        self.agreements = RemoteAgreements(self.link, keypair=keypair, clock=SystemClock())

    async def connect(self) -> None:
        ours, theirs = socket.socketpair()
        await self.desk.link.connect(ours)
        await self.link.connect(theirs)

    def _on_frame(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.RECORDED:
            self.ledger.results(messages.unpack_runs(payload))
        elif kind is Kind.REFUSED:
            self.ledger.refused(*messages.unpack_refusal(payload))
        elif kind is Kind.TOKEN:
            self.agreements.token_came(payload)

    async def offered(self, count: int) -> None:
        while sum(parcel.count for parcel, _ in self.house.offered) < count:
            await asyncio.sleep(0.001)


def play(keypair: KeyPair, scenario: Callable[[Ends], Awaitable[None]], **limits: Any) -> None:
    async def main() -> None:
        ends = Ends(keypair, **limits)
        await ends.connect()
        try:
            await asyncio.wait_for(scenario(ends), 10)
        finally:
            ends.desk.close()
            ends.link.close()
            await asyncio.sleep(0.01)

    asyncio.run(main())


def test_a_request_waits_until_its_record_is_durable_and_gets_its_index(municipality: KeyPair) -> None:
    async def scenario(ends: Ends) -> None:
        records = [a_record(number, subject="s" * 32 if number % 2 else "") for number in range(24)]
        waiting = []
        for number, record in enumerate(records):
            waiting.append(asyncio.ensure_future(ends.ledger.append(record)))
            if number % 8 == 7:  # so many go together, whatever the house has in hand
                await ends.offered(number + 1)
        assert [each for parcel, _ in ends.house.offered for each in records_in(parcel)] == [
            (record.canonical(), record.subject) for record in records
        ]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        # Those of another worker come between.
        for number, (_, future) in enumerate(ends.house.offered):
            future.set_result(10 * number)
        assert await asyncio.gather(*waiting) == [*range(8), *range(10, 18), *range(20, 28)]

    play(municipality, scenario)


def test_records_that_are_not_kept_refuse_their_own_requests_only(municipality: KeyPair) -> None:
    async def scenario(ends: Ends) -> None:
        waiting = []
        for number in range(3):
            waiting += [asyncio.ensure_future(ends.ledger.append(a_record(number))) for _ in range(8)]
            await ends.offered(8 * number + 8)
        for number, (_, future) in enumerate(ends.house.offered):
            if number == 1:
                future.set_exception(LedgerUnavailable("the disk is full"))
            else:
                future.set_result(10 * number)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert (results[:8], results[16:]) == ([*range(8)], [*range(20, 28)])
        assert all(isinstance(result, LedgerUnavailable) for result in results[8:16])
        assert results[8] is not results[9]
        ends.house.full = True
        with pytest.raises(LedgerUnavailable):
            await ends.ledger.append(a_record())

    play(municipality, scenario)


def test_a_few_records_wait_while_the_house_has_others_and_then_go_in_one_message(municipality: KeyPair) -> None:
    async def scenario(ends: Ends) -> None:
        for answer in (1, LedgerUnavailable("the disk is full")):
            ends.house.offered.clear()
            first = asyncio.ensure_future(ends.ledger.append(a_record(1)))
            await ends.offered(1)
            few = []
            for number in range(4):
                few.append(asyncio.ensure_future(ends.ledger.append(a_record(number))))
                await asyncio.sleep(0.002)
            few.pop(1).cancel()  # it went away before anything was sent, so nothing is
            assert len(ends.house.offered) == 1
            held = ends.house.offered[0][1]
            held.set_result(answer) if isinstance(answer, int) else held.set_exception(answer)
            await asyncio.gather(first, return_exceptions=True)
            await ends.offered(4)
            parcel, future = ends.house.offered[1]
            assert [data for data, _ in records_in(parcel)] == [a_record(number).canonical() for number in (0, 2, 3)]
            future.set_result(50)
            assert await asyncio.gather(*few) == [50, 51, 52]

    play(municipality, scenario)


def test_what_was_never_sent_is_refused_in_time_too(municipality: KeyPair) -> None:
    async def scenario(ends: Ends) -> None:
        sent = asyncio.ensure_future(ends.ledger.append(a_record(1)))
        await ends.offered(1)
        await asyncio.sleep(0.05)
        begin = time.monotonic()
        with pytest.raises(LedgerUnavailable):
            await ends.ledger.append(a_record(2))
        assert time.monotonic() - begin < 3
        with pytest.raises(LedgerUnavailable):
            await sent
        ends.house.offered[0][1].set_result(1)
        await asyncio.sleep(0.02)
        assert len(ends.house.offered) == 1  # what was refused before it was sent never is

    play(municipality, scenario, deadline=0.1)


def test_what_leaves_the_worker_is_what_the_journal_holds(municipality: KeyPair) -> None:
    async def scenario(ends: Ends) -> None:
        records = [a_record(number) for number in range(50)]
        for record in records:
            ends.ledger.append(record)
        await ends.offered(50)
        ((parcel, _),) = ends.house.offered
        nonces = [nonce for nonce, _, _ in Batch([parcel])]
        assert len(set(nonces)) == 50
        assert parcel.frames == b"".join(
            journal_frame(nonce, record.canonical()) for nonce, record in zip(nonces, records, strict=True)
        )

    play(municipality, scenario)


def test_a_house_that_is_silent_has_not_recorded_it(municipality: KeyPair) -> None:
    async def scenario(ends: Ends) -> None:
        begin = time.monotonic()
        with pytest.raises(LedgerUnavailable):
            await ends.ledger.append(a_record())
        assert 0.05 <= time.monotonic() - begin < 3
        ends.house.offered[0][1].set_result(1)  # too late, and it harms nobody
        await asyncio.sleep(0.01)

    play(municipality, scenario, deadline=0.1)


def test_without_a_house_everything_is_refused_at_once(municipality: KeyPair) -> None:
    async def scenario(ends: Ends) -> None:
        ends.agreements.put([an_agreement("echo", municipality)])
        record = asyncio.ensure_future(ends.ledger.append(a_record()))
        await ends.offered(1)
        ends.house.full = True
        token = asyncio.create_task(ends.agreements.token("$1$3$echo"))
        await asyncio.sleep(0.01)
        ends.desk.close()
        while "worker" not in ends.lost:
            await asyncio.sleep(0.001)
        ends.ledger.close()
        ends.agreements.close()
        results = await asyncio.gather(record, token, return_exceptions=True)
        assert all(isinstance(result, Unavailable) for result in results)
        with pytest.raises(LedgerUnavailable):
            await ends.ledger.append(a_record())

    play(municipality, scenario)


def test_more_records_than_may_wait_and_records_that_are_too_large_are_refused_here(municipality: KeyPair) -> None:
    async def scenario(ends: Ends) -> None:
        waiting = [asyncio.ensure_future(ends.ledger.append(a_record(number))) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(LedgerUnavailable):
            await ends.ledger.append(a_record())
        with pytest.raises(BadRequest):
            await ends.ledger.append(a_record(reason="x" * 3000))
        await ends.offered(3)
        for _, future in ends.house.offered:
            future.set_result(0)
        await asyncio.gather(*waiting)

    play(municipality, scenario, waiting_records=3)


@pytest.mark.parametrize("kind", [Kind.RECORDED, Kind.CONFIGURE, Kind.TOKEN, Kind.DRAIN])
def test_a_worker_that_speaks_as_the_house_is_cut_off(municipality: KeyPair, kind: Kind) -> None:
    async def scenario(ends: Ends) -> None:
        ends.link.send(kind)
        while "house" not in ends.lost:
            await asyncio.sleep(0.001)

    play(municipality, scenario)


def test_a_token_is_asked_once_kept_until_shortly_before_it_expires_and_forgotten_when_refused(
    register: KeyPair, municipality: KeyPair
) -> None:
    async def scenario(ends: Ends) -> None:
        tokens = ends.house.agreements_ = StandInAgreements(register, municipality, a_group())
        tokens.audience = "https://localhost:1"
        agreement = an_agreement("echo", municipality)
        tokens.put(agreement)
        ends.agreements.put([agreement])
        first, second = await asyncio.gather(*(ends.agreements.token(agreement.grant_hash) for _ in range(2)))
        assert first == second == await ends.agreements.token(agreement.grant_hash)
        assert first.claims.consumer == MUNICIPALITY
        assert len(ends.house.asked) == 1
        ends.agreements.forget_token(agreement.grant_hash)
        ends.agreements.forget_token(agreement.grant_hash)
        await ends.agreements.token(agreement.grant_hash)
        assert ends.house.forgotten == [agreement.grant_hash]
        # Revoked: the house is asked, and says no.
        ends.agreements.put([replace(agreement, state=State.REVOKED)])
        ends.house.agreements_ = None
        with pytest.raises(Forbidden) as refused:
            await ends.agreements.token(agreement.grant_hash)
        assert refused.value.next_step == "ask"
        # One that is about to expire is not used any more.
        ends.agreements.put([agreement])
        ends.house.agreements_ = tokens
        tokens.lifetime = 5
        tokens.forget_token(agreement.grant_hash)
        ends.agreements.forget_token(agreement.grant_hash)
        asked = len(ends.house.asked)
        await ends.agreements.token(agreement.grant_hash)
        await ends.agreements.token(agreement.grant_hash)
        assert len(ends.house.asked) == asked + 2

    play(municipality, scenario)


def test_tokens_are_let_go_of_when_the_certificate_is_renewed(
    register: KeyPair, anchors: TrustAnchors, new_keypair: Callable[..., KeyPair]
) -> None:
    own, newer = new_keypair(MUNICIPALITY, "Gemeente"), new_keypair(MUNICIPALITY, "Gemeente")

    async def scenario(ends: Ends) -> None:
        tokens = ends.house.agreements_ = StandInAgreements(register, own, a_group())
        agreement = an_agreement("echo", own)
        tokens.put(agreement)
        ends.agreements.put([agreement])
        await ends.agreements.token(agreement.grant_hash)
        own.renew(newer.current)
        await ends.agreements.token(agreement.grant_hash)
        assert len(ends.house.asked) == 2

    play(own, scenario)


# --- tokens and a renewed certificate -------------------------------------------------------------------------------


def test_tokens_of_the_earlier_certificate_count_until_they_can_have_expired(
    municipality: KeyPair, new_keypair: Callable[..., KeyPair]
) -> None:
    own, newer = new_keypair(REGISTER, "Register"), new_keypair(REGISTER, "Register")
    stand_in = StandInAgreements(own, municipality, a_group())
    stand_in.audience = "https://localhost:1"
    agreement = an_agreement("echo", municipality)
    old, older = stand_in.make_token(agreement), stand_in.make_token(agreement, expires=int(time.time()) + 7000)
    clock = SetClock(time.time())
    check = TokenCheck(
        keypair=own,
        group_id="stelsel.test",
        inway_address="https://localhost:1",
        clock=clock,
        agreement=lambda grant_hash: agreement,
        lifetime=300,
    )
    own.renew(Pair.parse(newer.current.pem))
    assert own.chain == newer.chain
    thumbprint = municipality.certificate.thumbprint
    assert check.verify(old.compact, thumbprint).service == "echo"
    assert check.verify(stand_in.make_token(agreement).compact, thumbprint).service == "echo"
    assert [certificate.thumbprint for certificate, _ in check.earlier] != [own.certificate.thumbprint]
    clock.forward(301)
    assert check.earlier == ()
    with pytest.raises(Exception, match="not issued by this peer"):
        check.verify(older.compact, thumbprint)


def test_tokens_of_an_earlier_certificate_that_was_revoked_count_no_more(
    authority: Authority, municipality: KeyPair, new_keypair: Callable[..., KeyPair], tmp_path: Path
) -> None:
    own, newer = new_keypair(REGISTER, "Register"), new_keypair(REGISTER, "Register")
    stand_in = StandInAgreements(own, municipality, a_group())
    stand_in.audience = "https://localhost:1"
    agreement = an_agreement("echo", municipality)
    stolen = [stand_in.make_token(agreement, grant_hash=f"$1$3${number}").compact for number in range(2)]
    lists = tmp_path / "list.crl"
    lists.write_bytes(authority.revocation_list())
    anchors = TrustAnchors(authority.root_pem, revocations=RevocationLists(lists, authority.root_pem))
    check = TokenCheck(
        keypair=own,
        group_id="stelsel.test",
        inway_address="https://localhost:1",
        clock=SystemClock(),
        agreement=lambda grant_hash: None,
        lifetime=300,
        anchors=anchors,
    )
    old = own.chain[0]
    own.renew(newer.current)
    check.verify(stolen[0], municipality.certificate.thumbprint)
    lists.write_bytes(authority.revocation_list((old,)))
    assert anchors.revocations is not None
    anchors.revocations.refresh()
    with pytest.raises(Unauthenticated, match="revoked"):
        check.verify(stolen[1], municipality.certificate.thumbprint)


def a_group() -> Group:
    return Group(
        id="stelsel.test",
        name="Test",
        trust_anchors="/nowhere",  # type: ignore[arg-type]
        directory_peer_id="00000099000000001000",
        directory_address="https://localhost:7143",
        ports=(),
    )

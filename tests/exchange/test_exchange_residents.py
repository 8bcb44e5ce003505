"""Whom an exchange is about: one resident a record, refused attempts too; and agreements that end meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from exchange_world import (
    COMPANY,
    OTHER_PERSON,
    PERSON,
    Play,
    StandInLedger,
    World,
    plain_answer,
    terms,
)

from stelsel.agreements.agreement import State
from stelsel.base.certificates import KeyPair
from stelsel.base.ids import uuid7
from stelsel.demo.people.numbers import numbers
from stelsel.exchange.facts import MAXIMUM_SUBJECTS
from stelsel.ledger.record import Record

ONE = {"fields": ["naam"], "burgerservicenummer": [PERSON]}
TWO = {"fields": ["naam"], "burgerservicenummer": [PERSON, OTHER_PERSON]}
SEARCH = {"fields": ["naam"], "naam": "Jansen"}
SUZANNE = b'{"personen": [{"naam": {"voornamen": "Suzanne"}}]}'
PERSONEN, PLAIN = "$1$3$personen", "$1$3$plain"


def assert_under(asked: Record, others: Sequence[Record]) -> None:
    """They are children of the request, each a span of its own."""
    assert (asked.event, {one.event for one in others}) == ("request", {"response"})
    assert {(one.transaction_id, one.trace_id) for one in others} == {(asked.transaction_id, asked.trace_id)}
    assert {one.parent_span_id for one in others} == {asked.span_id}
    assert len({asked.span_id, *(one.span_id for one in others)}) == 1 + len(others)


def of_both(world: World) -> list[str]:
    return [world.references.of(number) for number in (PERSON, OTHER_PERSON)]


# --- one resident a record ---


def test_a_question_about_several_gives_each_a_record_before_it_is_sent_on(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.service.answer = plain_answer(SUZANNE)
        reply = await world.ask("/personen/personen", method="POST", json_body=TWO)
        assert reply.status == 200
        for ledger in (world.consumer_ledger, world.provider_ledger):
            asked, *others = ledger.records
            assert (asked.subject, [one.subject for one in others]) == ("", of_both(world))
            assert all(one.allowed and one.fields == ("naam",) for one in ledger.records)
            assert_under(asked, others)
            assert ledger.most_waiting == 3  # together, so that they share one sync
        [seen] = world.service.seen
        assert seen.headers["traceparent"].split("-")[2] == world.provider_ledger.records[0].span_id

    play(scenario)


def test_a_refused_question_about_several_is_recorded_for_each(play: Play) -> None:
    async def scenario(world: World) -> None:
        reply = await world.ask("/personen/personen", method="POST", json_body={**TWO, "fields": ["adres"]})
        assert reply.status == 403
        asked, *others = world.consumer_ledger.records
        assert_under(asked, others)
        assert [one.subject for one in others] == of_both(world)
        assert {(one.allowed, one.reason, one.refused) for one in world.consumer_ledger.records} == {
            (False, "unauthorized-field", ("adres",))
        }

    play(scenario)


def test_when_one_of_the_records_fails_nothing_is_asked_of_the_service(play: Play) -> None:
    async def scenario(world: World) -> None:
        async def fills_up() -> None:
            world.provider_ledger.broken = len(world.provider_ledger.records) == 2

        world.provider_ledger.disk = fills_up
        reply = await world.ask("/personen/personen", method="POST", json_body=TWO)
        assert (reply.status, reply.headers["fsc-error-code"]) == (500, "TRANSACTION_LOG_WRITE_ERROR")
        assert world.service.seen == []

    play(scenario)


def test_an_answer_about_more_than_were_asked_gives_the_others_a_record(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.service.answer = plain_answer(SUZANNE, headers=f"Stelsel-Data-Subjects: {PERSON}, {OTHER_PERSON}\r\n")
        reply = await world.ask("/personen/personen", method="POST", json_body=ONE)
        assert reply.status == 200
        asked, other = world.provider_ledger.records
        assert [asked.subject, other.subject] == of_both(world)
        assert_under(asked, [other])

    play(scenario)


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 502)])
def test_an_answer_about_too_many_is_held_back(play: Play, more: int, status: int) -> None:
    everyone = list(islice(numbers(), MAXIMUM_SUBJECTS + more))

    async def scenario(world: World) -> None:
        world.service.answer = plain_answer(SUZANNE, headers=f"Stelsel-Data-Subjects: {','.join(everyone)}\r\n")
        reply = await world.ask("/personen/personen", method="POST", json_body=SEARCH)
        assert reply.status == status
        asked, *others = world.provider_ledger.records
        assert_under(asked, others)
        if more:
            assert reply.json["reason"] == "too-many-residents"
            assert [(one.allowed, one.reason, one.subject) for one in others] == [(False, "too-many-residents", "")]
        else:
            assert [one.subject for one in others] == [world.references.of(number) for number in everyone]
            assert world.provider_ledger.most_waiting == MAXIMUM_SUBJECTS

    play(scenario)


def test_an_answer_held_back_names_the_one_resident_or_nobody(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.service.answer = plain_answer(b'{"personen": [{"adres": "x"}]}')
        for question, subject in ((ONE, world.references.of(PERSON)), (TWO, "")):
            assert (await world.ask("/personen/personen", method="POST", json_body=question)).status == 502
            assert world.provider_ledger.records[-1].subject == subject
            assert not world.provider_ledger.records[-1].allowed

    play(scenario)


# --- agreements that end while the disk, or the manager, is slow ---


def revokes(world: World, ledger: StandInLedger, change: Callable[[], None]) -> None:
    """While the first record is being written, and only then, this changes."""

    async def disk() -> None:
        ledger.disk = again
        await asyncio.sleep(0.02)
        change()

    async def again() -> None:
        await asyncio.sleep(0)

    ledger.disk = disk


@pytest.mark.parametrize("at", ["provider", "consumer"])
@pytest.mark.parametrize("service", ["plain", "personen"])
def test_a_revocation_while_the_disk_is_slow_is_honoured(play: Play, at: str, service: str) -> None:
    async def scenario(world: World) -> None:
        ledger = world.provider_ledger if at == "provider" else world.consumer_ledger
        revokes(world, ledger, lambda: world.agreements.revoke(f"$1$3${service}"))
        reply = await world.ask(f"/{service}/x", method="POST", json_body=ONE)
        assert (reply.status, reply.json["reason"]) == (403, "revoked")
        assert world.service.seen == []
        asked, refused = ledger.records
        assert (asked.allowed, refused.allowed, refused.reason) == (True, False, "revoked")
        assert_under(asked, [refused])
        assert asked.subject == refused.subject == (world.references.of(PERSON) if service == "personen" else "")
        if at == "consumer":
            assert world.provider_ledger.records == []

    play(scenario)


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        (lambda world, own: world.agreements.forget(PLAIN), 403, "no-agreement"),
        (lambda world, own: world.agreements.put(replace(own, not_after=1)), 403, "expired"),
        (lambda world, own: world.agreements.put(replace(own, terms=terms())), 403, "no-fields"),
        (lambda world, own: world.agreements.put(replace(own)), 200, None),
        (lambda world, own: world.agreements.revoke("$1$3$gone"), 200, None),
    ],
)
def test_only_what_ends_or_changes_this_agreement_stops_a_request(
    play: Play, change: Any, status: int, reason: str | None
) -> None:
    async def scenario(world: World) -> None:
        own = world.agreements.agreement(PLAIN)
        revokes(world, world.provider_ledger, lambda: change(world, own))
        reply = await world.ask("/plain/x")
        assert reply.status == status
        if reason:
            assert reply.json["reason"] == reason
            assert world.service.seen == []
        assert len(world.provider_ledger.records) == (2 if reason else 1)

    play(scenario)


def test_a_revocation_while_the_token_is_awaited_is_honoured(play: Play) -> None:
    async def scenario(world: World) -> None:
        async def slow() -> None:
            world.agreements.revoke(PLAIN)

        world.agreements.before_token = slow
        reply = await world.ask("/plain/x")
        assert (reply.status, reply.json["reason"]) == (403, "revoked")
        assert [record.allowed for record in world.consumer_ledger.records] == [True, False]
        assert world.provider_ledger.records == []

    play(scenario)


def test_a_refusal_that_cannot_be_recorded_any_more_is_still_a_refusal(play: Play) -> None:
    async def scenario(world: World) -> None:
        def change() -> None:
            world.agreements.revoke(PLAIN)
            asyncio.get_running_loop().call_soon(lambda: setattr(world.provider_ledger, "broken", True))

        revokes(world, world.provider_ledger, change)
        reply = await world.ask("/plain/x")
        assert (reply.status, reply.headers["fsc-error-code"]) == (500, "TRANSACTION_LOG_WRITE_ERROR")
        assert world.service.seen == []

    play(scenario)


# --- refused attempts under an agreement that ended ---


@pytest.mark.parametrize(
    ("change", "reason"), [({"state": State.REVOKED}, "revoked"), ({"signatures_hold_until": 1}, "expired")]
)
def test_a_resident_sees_who_asked_under_an_agreement_that_ended(
    play: Play, change: dict[str, Any], reason: str
) -> None:
    async def scenario(world: World) -> None:
        token = await world.agreements.token(PERSONEN)
        agreement = world.agreements.agreement(PERSONEN)
        assert agreement is not None
        world.agreements.put(replace(agreement, **change))
        headers = f"Fsc-Authorization: {token.compact}\r\nFsc-Transaction-Id: {uuid7()}\r\n"
        body = json.dumps({**TWO, "fields": ["adres"]}).encode()
        reply = await world.at_inway(world.municipality, headers, line="POST /personen HTTP/1.1", body=body)
        assert (reply.status, reply.json["reason"]) == (403, reason)
        asked, *others = world.provider_ledger.records
        assert [one.subject for one in others] == of_both(world)
        assert_under(asked, others)
        assert {(one.allowed, one.reason, one.fields) for one in world.provider_ledger.records} == {
            (False, reason, ("adres",))
        }
        # The outway records it for the organisation's own residents as well.
        reply = await world.ask("/personen/personen", method="POST", json_body=ONE)
        assert (reply.status, reply.json["reason"]) == (403, reason)
        assert world.consumer_ledger.records[0].subject == world.references.of(PERSON)
        assert world.service.seen == []

    play(scenario)


@pytest.mark.parametrize(
    "body", [b"", b"no json", b'{"fields": ["naam"], "burgerservicenummer": "123456789"}', b" " * 70_000]
)
def test_what_cannot_be_read_under_an_agreement_that_ended_is_refused_as_such(play: Play, body: bytes) -> None:
    async def scenario(world: World) -> None:
        token = await world.agreements.token(PERSONEN)
        world.agreements.revoke(PERSONEN)
        headers = f"Fsc-Authorization: {token.compact}\r\nFsc-Transaction-Id: {uuid7()}\r\n"
        reply = await world.at_inway(world.municipality, headers, line="POST /personen HTTP/1.1", body=body)
        assert (reply.status, reply.json["reason"]) == (403, "revoked")
        [record] = world.provider_ledger.records
        assert (record.allowed, record.reason, record.subject) == (False, "revoked", "")

    play(scenario)


def test_who_has_no_token_of_its_own_cannot_fill_a_residents_list(
    play: Play, new_keypair: Callable[..., KeyPair]
) -> None:
    company = new_keypair(COMPANY, "Bouwer")

    async def scenario(world: World) -> None:
        agreement = world.agreements.agreement(PERSONEN)
        assert agreement is not None
        token = await world.agreements.token(PERSONEN)
        expired = world.agreements.make_token(agreement, expires=1_000_000_000)
        unknown = world.agreements.make_token(agreement, grant_hash="$1$3$unknown")
        world.agreements.revoke(PERSONEN)
        for keypair, compact in (
            (company, ""),
            (company, token.compact),
            (world.municipality, expired.compact),
            (world.municipality, unknown.compact),
            (world.municipality, token.compact[:-6] + "AAAAAA"),
        ):
            headers = f"Fsc-Authorization: {compact}\r\nFsc-Transaction-Id: {uuid7()}\r\n"
            body = json.dumps(ONE).encode()
            reply = await world.at_inway(keypair, headers, line="POST /personen HTTP/1.1", body=body)
            assert reply.status in (401, 403)
        assert len(world.provider_ledger.records) == 5
        assert {(record.allowed, record.subject) for record in world.provider_ledger.records} == {(False, "")}

    play(scenario)


# --- errors of a service about people ---


@pytest.mark.parametrize("status", ["404 Not Found", "500 Internal Server Error", "302 Found"])
@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (SUZANNE, "", "oversupplied"),
        (b'{"data": [{"personen": {"naam": "Suzanne"}}]}', "", "oversupplied"),
        (SUZANNE[:-1] + b', "personen": []}', "", "unreadable-answer"),
        (gzip.compress(SUZANNE, mtime=0), "Content-Encoding: gzip\r\n", "unreadable-answer"),
        (b'"Suzanne', "Content-Type: application/problem+json\r\n", "unreadable-answer"),
    ],
)
def test_an_error_that_holds_records_is_held_back(
    play: Play, status: str, body: bytes, headers: str, reason: str
) -> None:
    async def scenario(world: World) -> None:
        world.service.answer = plain_answer(body, status=status, headers=headers)
        reply = await world.ask("/personen/personen", method="POST", json_body=ONE)
        assert (reply.status, reply.json["reason"]) == (502, reason)
        assert b"Suzanne" not in reply.body
        record = world.provider_ledger.records[-1]
        assert (record.event, record.allowed, record.reason) == ("response", False, reason)

    play(scenario)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"title": "Niet gevonden", "personen": []}', "application/problem+json"),
        (b"<h1>Niet gevonden</h1>", "text/html"),
        (b"niet gevonden", "text/plain"),
        (b"", "application/json"),
    ],
)
def test_any_other_error_passes_unaltered(play: Play, body: bytes, kind: str) -> None:
    async def scenario(world: World) -> None:
        world.service.answer = plain_answer(body, status="404 Not Found", headers=f"Content-Type: {kind}\r\n")
        reply = await world.ask("/personen/personen", method="POST", json_body=ONE)
        assert (reply.status, reply.body, reply.headers["content-type"]) == (404, body, kind)

    play(scenario)

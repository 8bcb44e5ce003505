"""The whole chain over real loopback TLS: what passes, what is refused and how, and that it is recorded first."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exchange_world import (
    COMPANY,
    MUNICIPALITY,
    OTHER_PERSON,
    PERSON,
    REGISTER,
    Play,
    World,
    an_agreement,
    plain_answer,
    read_reply,
)

from stelsel.agreements.agreement import State
from stelsel.base.certificates import KeyPair
from stelsel.base.ids import new_trace_id, uuid7
from stelsel.demo.authority import Authority

ASK = {"fields": ["naam"], "burgerservicenummer": [PERSON]}
SEARCH = {"fields": ["naam"], "naam": "Jansen"}
ANSWER = json.dumps({"personen": [{"naam": {"voornamen": "Suzanne"}}]}).encode()
NOBODY = json.dumps({"personen": []}).encode()
PROBLEM = "application/problem+json"


def test_a_request_passes_the_chain_and_is_recorded_on_both_sides(play: Play) -> None:
    async def scenario(world: World) -> None:
        reply = await world.ask("/plain/v1/things?x=1", headers="X-Own: yes\r\n")
        assert (reply.status, reply.body) == (200, b"{}")
        seen = world.service.seen[0]
        assert (seen.method, seen.target, seen.headers["x-own"]) == ("GET", "/v1/things?x=1", "yes")
        assert seen.headers["host"] == f"127.0.0.1:{world.service.port}"
        assert seen.headers["fsc-authorization"].count(".") == 2
        assert "content-length" not in seen.headers
        [sent], [received] = world.consumer_ledger.records, world.provider_ledger.records
        assert sent.transaction_id == received.transaction_id == reply.headers["fsc-transaction-id"]
        assert seen.headers["fsc-transaction-id"] == sent.transaction_id
        assert sent.trace_id == received.trace_id == seen.headers["traceparent"].split("-")[1]
        assert received.parent_span_id == sent.span_id
        assert (sent.direction, received.direction) == ("outgoing", "incoming")
        assert sent.allowed
        assert received.allowed

    play(scenario)


def test_a_client_may_bring_its_transaction_id_and_trace(play: Play) -> None:
    async def scenario(world: World) -> None:
        mine, trace = uuid7(), new_trace_id()
        headers = f"Fsc-Transaction-Id: {mine}\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01\r\n"
        reply = await world.ask("/plain/", headers=headers)
        assert reply.headers["fsc-transaction-id"] == mine
        assert world.provider_ledger.records[0].trace_id == trace
        assert world.consumer_ledger.records[0].parent_span_id == "00f067aa0ba902b7"
        reply = await world.ask("/plain/", headers="Fsc-Transaction-Id: not-one\r\n")
        assert reply.status == 200
        assert reply.headers["fsc-transaction-id"] not in ("not-one", mine)

    play(scenario)


def test_a_service_is_found_by_hash_alias_or_peer_and_name(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.ask("/any/path?q", headers="Fsc-Grant-Hash: $1$3$plain\r\n")
        await world.ask(f"/{REGISTER}/plain/any//path%2F/../x?q=/")
        await world.ask("/plain")
        await world.ask("/plain?q=1")
        await world.ask("http://some.host:80/plain/absolute")
        assert [seen.target for seen in world.service.seen] == [
            "/any/path?q",
            "/any//path%2F/../x?q=/",
            "/",
            "/?q=1",
            "/absolute",
        ]
        assert all("fsc-grant-hash" not in seen.headers for seen in world.service.seen)

    play(scenario)


def test_an_unknown_route_is_told_with_a_next_step(play: Play) -> None:
    async def scenario(world: World) -> None:
        reply = await world.ask("/nothing/here")
        assert (reply.status, reply.headers["content-type"]) == (400, PROBLEM)
        assert "Fsc-Grant-Hash" in reply.json["next_step"]
        reply = await world.ask("/x", headers="Fsc-Grant-Hash: $1$3$unknown\r\n")
        assert (reply.status, reply.headers["fsc-error-code"]) == (400, "UNKNOWN_GRANT_HASH_IN_HEADER")
        assert reply.json["domain"] == "ERROR_DOMAIN_OUTWAY"
        reply = await world.ask(f"/{REGISTER}/other/x")
        assert (reply.status, reply.json["reason"]) == (403, "no-agreement")
        assert [record.reason for record in world.consumer_ledger.records] == ["no-agreement"]

    play(scenario)


def test_connect_is_not_carried(play: Play) -> None:
    async def scenario(world: World) -> None:
        reply = await world.raw(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
        assert (reply.status, reply.headers["fsc-error-code"]) == (405, "ERROR_CODE_METHOD_UNSUPPORTED")
        assert reply.json["code"] == "ERROR_CODE_METHOD_UNSUPPORTED"

    play(scenario)


def test_bytes_that_are_no_http_get_one_answer_and_the_connection_ends(play: Play) -> None:
    async def scenario(world: World) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
        writer.write(
            b"POST /plain/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            b"GET /plain/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        everything = await asyncio.wait_for(reader.read(), 5)
        assert everything.startswith(b"HTTP/1.1 400 ")
        assert everything.count(b"HTTP/1.1 ") == 1
        assert b"Connection: close" in everything
        writer.close()
        assert world.service.seen == []

    play(scenario)


def test_a_body_that_turns_out_bad_never_becomes_a_whole_request(play: Play) -> None:
    async def scenario(world: World) -> None:
        reply = await world.raw(
            b"POST /plain/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX\r\n", "POST"
        )
        assert reply.status == 400

    play(scenario)


def test_pipelined_requests_are_answered_in_order(play: Play) -> None:
    async def scenario(world: World) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
        one = b"POST /plain/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"
        writer.write(one + one.replace(b"/1 ", b"/2 ") + one.replace(b"/1 ", b"/3 "))
        for _ in range(3):
            assert (await asyncio.wait_for(read_reply(reader), 5)).body == b"{}"
        assert [seen.target for seen in world.service.seen] == ["/1", "/2", "/3"]
        writer.close()

    play(scenario)


def test_head_and_answers_without_a_body_keep_the_connection(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.service.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
        reply = await world.ask("/plain/", method="HEAD")
        assert (reply.status, reply.headers["content-length"]) == (200, "1234")
        world.service.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        assert (await world.ask("/plain/")).status == 204
        world.service.answer = b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 7\r\n\r\n"
        assert (await world.ask("/plain/")).headers["etag"] == "x"
        assert world.service.connections == 1

    play(scenario)


def test_errors_of_the_service_pass_unaltered(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.service.answer = plain_answer(b'{"title":"no"}', status="418 Teapot", headers="X-Why: tea\r\n")
        reply = await world.ask("/plain/")
        assert (reply.status, reply.body, reply.headers["x-why"]) == (418, b'{"title":"no"}', "tea")

    play(scenario)


# --- what the inway refuses ---


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (None, 401, "ERROR_CODE_ACCESS_TOKEN_MISSING"),
        ({"group_id": "another"}, 403, "ERROR_CODE_WRONG_GROUP_ID_IN_TOKEN"),
        ({"expires": 1_000_000_000}, 401, "ERROR_CODE_ACCESS_TOKEN_EXPIRED"),
        ({"provider": COMPANY}, 401, "ERROR_CODE_ACCESS_TOKEN_INVALID"),
        ({"consumer": COMPANY}, 401, "ERROR_CODE_ACCESS_TOKEN_INVALID"),
        ({"audience": "https://localhost:1"}, 401, "ERROR_CODE_ACCESS_TOKEN_INVALID"),
        ({"thumbprint": "x" * 43}, 401, "ERROR_CODE_ACCESS_TOKEN_INVALID"),
        ({"service": "unknown"}, 404, "ERROR_CODE_SERVICE_NOT_FOUND"),
        ({"grant_hash": "$1$3$unknown"}, 403, None),
        ("altered", 401, "ERROR_CODE_ACCESS_TOKEN_INVALID"),
    ],
)
def test_a_token_that_does_not_authorise_is_refused_and_recorded(
    play: Play, change: Any, status: int, code: str | None
) -> None:
    async def scenario(world: World) -> None:
        agreement = world.agreements.agreement("$1$3$plain")
        assert agreement is not None
        token = world.agreements.make_token(agreement, **(change if isinstance(change, dict) else {})).compact
        header = (
            ""
            if change is None
            else f"Fsc-Authorization: {token[:-6] + 'AAAAAA' if change == 'altered' else token}\r\n"
        )
        transaction = uuid7()
        reply = await world.at_inway(world.municipality, f"{header}Fsc-Transaction-Id: {transaction}\r\n")
        assert reply.status == status
        assert reply.headers.get("fsc-error-code") == code
        assert reply.headers["fsc-transaction-id"] == transaction
        assert reply.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
        if code is not None:
            assert (reply.json["code"], reply.json["domain"]) == (code, "ERROR_DOMAIN_INWAY")
        [record] = world.provider_ledger.records
        assert (record.allowed, record.consumer, record.transaction_id) == (False, MUNICIPALITY, transaction)
        assert record.reason == (code or "no-agreement")
        assert world.service.seen == []

    play(scenario)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "MISSING_LOG_RECORD_ID"),
        ("Fsc-Transaction-Id: 1\r\n", "INVALID_LOG_RECORD_ID"),
        ("Fsc-Transaction-Id: 6ba7b810-9dad-41d1-80b4-00c04fd430c8\r\n", "INVALID_LOG_RECORD_ID"),
    ],
)
def test_a_request_without_a_good_transaction_id_is_refused(play: Play, header: str, code: str) -> None:
    async def scenario(world: World) -> None:
        token = await world.agreements.token("$1$3$plain")
        reply = await world.at_inway(world.municipality, f"Fsc-Authorization: {token.compact}\r\n{header}")
        assert (reply.status, reply.headers["fsc-error-code"]) == (400, code)
        assert [record.reason for record in world.provider_ledger.records] == [code]
        assert world.service.seen == []

    play(scenario)


def test_a_token_used_with_another_peers_certificate_is_refused(
    play: Play, new_keypair: Callable[..., KeyPair]
) -> None:
    company = new_keypair(COMPANY, "Bouwer")

    async def scenario(world: World) -> None:
        token = await world.agreements.token("$1$3$plain")
        reply = await world.at_inway(
            company, f"Fsc-Authorization: {token.compact}\r\nFsc-Transaction-Id: {uuid7()}\r\n"
        )
        assert (reply.status, reply.headers["fsc-error-code"]) == (401, "ERROR_CODE_ACCESS_TOKEN_INVALID")
        assert world.provider_ledger.records[0].consumer == COMPANY

    play(scenario)


def test_certificates_that_do_not_hold_get_no_answer(play: Play, authority: Authority, tmp_path: Path) -> None:
    expired = KeyPair.load(*authority.issue(tmp_path / "expired", COMPANY, "Verlopen", days=-1))
    foreign = KeyPair.load(*Authority("Another").issue(tmp_path / "foreign", COMPANY, "Vreemd"))

    async def scenario(world: World) -> None:
        for keypair in (expired, foreign):
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await world.at_inway(keypair, "")
        assert world.provider_ledger.records == []
        assert world.inway.in_flight == 0

    play(scenario)


def test_revoked_is_refused_at_once_though_the_token_lives(play: Play) -> None:
    async def scenario(world: World) -> None:
        assert (await world.ask("/plain/")).status == 200
        token = await world.agreements.token("$1$3$plain")
        world.agreements.revoke("$1$3$plain")
        headers = f"Fsc-Authorization: {token.compact}\r\nFsc-Transaction-Id: {uuid7()}\r\n"
        reply = await world.at_inway(world.municipality, headers)
        assert (reply.status, reply.json["reason"]) == (403, "revoked")
        reply = await world.ask("/plain/")
        assert (reply.status, reply.json["reason"]) == (403, "revoked")
        assert len(world.service.seen) == 1
        assert world.provider_ledger.records[-1].reason == "revoked"

    play(scenario)


def test_the_newest_agreement_in_force_is_used(play: Play) -> None:
    async def scenario(world: World) -> None:
        agreement = world.agreements.agreement("$1$3$plain")
        assert agreement is not None
        world.agreements.put(replace(agreement, grant_hash="$1$3$newer", created_at=agreement.created_at + 5))
        world.agreements.put(
            replace(agreement, grant_hash="$1$3$no", created_at=agreement.created_at + 9, state=State.PROPOSED)
        )
        assert (await world.ask("/plain/")).status == 200
        assert world.provider_ledger.records[-1].grant_hash == "$1$3$newer"

    play(scenario)


def test_an_unwritable_ledger_refuses_and_the_service_is_not_touched(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.provider_ledger.broken = True
        reply = await world.ask("/plain/")
        assert (reply.status, reply.headers["fsc-error-code"]) == (500, "TRANSACTION_LOG_WRITE_ERROR")
        assert reply.json["domain"] == "ERROR_DOMAIN_INWAY"
        world.provider_ledger.broken, world.consumer_ledger.broken = False, True
        reply = await world.ask("/plain/")
        assert (reply.status, reply.headers["fsc-error-code"]) == (500, "TRANSACTION_LOG_WRITE_ERROR")
        assert reply.json["domain"] == "ERROR_DOMAIN_OUTWAY"
        reply = await world.ask("/personen/", method="POST", json_body={"fields": ["adres"]})
        assert reply.status == 500
        assert world.service.seen == []
        assert world.provider_ledger.records == []

    play(scenario)


def test_an_expired_token_is_replaced_by_a_new_one(play: Play) -> None:
    async def scenario(world: World) -> None:
        agreement = world.agreements.agreement("$1$3$plain")
        assert agreement is not None
        world.agreements.keep_token(world.agreements.make_token(agreement, expires=1_000_000_000))
        reply = await world.ask("/plain/", method="POST", body=b"hello")
        assert reply.status == 200
        assert world.agreements.forgotten == 1
        assert world.service.seen[0].body == b"hello"

    play(scenario)


def test_a_token_of_another_group_or_peer_is_not_used(play: Play) -> None:
    async def scenario(world: World) -> None:
        agreement = world.agreements.agreement("$1$3$plain")
        assert agreement is not None
        for change in ({"group_id": "another"}, {"provider": COMPANY}):
            world.agreements.keep_token(world.agreements.make_token(agreement, **change))
            assert (await world.ask("/plain/")).status == 502
        assert world.provider_ledger.records == []

    play(scenario)


def test_an_inway_of_another_peer_is_not_spoken_to(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.agreements.put(an_agreement("plain", world.municipality, provider=COMPANY, grant_hash="$1$3$company"))
        agreement = world.agreements.agreement("$1$3$company")
        assert agreement is not None
        world.agreements.keep_token(world.agreements.make_token(agreement))
        reply = await world.ask(f"/{COMPANY}/plain/")
        assert (reply.status, reply.json["type"]) == (502, "urn:stelsel:problem:wrong-peer")
        assert world.provider_ledger.records == []

    play(scenario)


# --- services about people ---


def test_an_agreed_question_gets_its_answer_and_the_subject_is_recorded(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.service.answer = plain_answer(ANSWER)
        reply = await world.ask("/personen/personen", method="POST", json_body=ASK)
        assert (reply.status, reply.body) == (200, ANSWER)
        [record] = world.provider_ledger.records
        assert record.fields == ("naam",)
        assert record.search_parameters == ("burgerservicenummer",)
        assert record.subject == world.references.of(PERSON)
        assert record.processing_activity == "urn:test:parkeren@1"
        assert world.consumer_ledger.records[0].subject == record.subject
        assert PERSON not in repr(world.provider_ledger.records) + repr(world.consumer_ledger.records)

    play(scenario)


@pytest.mark.parametrize("chunked", [False, True])
def test_what_was_not_agreed_does_not_leave_the_house(play: Play, chunked: bool) -> None:
    async def scenario(world: World) -> None:
        body = json.dumps({**ASK, "fields": ["naam", "adres"]}).encode()
        if chunked:
            pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
            head = b"POST /personen/personen HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            reply = await world.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + pieces, "POST")
        else:
            headers = "Content-Type: application/json\r\n"
            reply = await world.ask("/personen/personen", method="POST", headers=headers, body=body)
        assert (reply.status, reply.headers["content-type"]) == (403, PROBLEM)
        assert (reply.json["code"], reply.json["fields"]) == ("unauthorizedField", ["adres"])
        assert reply.headers["fsc-transaction-id"] == world.consumer_ledger.records[0].transaction_id
        [record] = world.consumer_ledger.records
        assert (record.allowed, record.reason, record.refused) == (False, "unauthorized-field", ("adres",))
        assert world.provider_ledger.records == []
        assert world.service.seen == []

    play(scenario)


def test_the_inway_refuses_by_itself_what_an_outway_let_pass(play: Play) -> None:
    async def scenario(world: World) -> None:
        token = await world.agreements.token("$1$3$personen")
        headers = f"Fsc-Authorization: {token.compact}\r\nFsc-Transaction-Id: {uuid7()}\r\n"
        line = "GET /personen?fields=naam&geslacht=v HTTP/1.1"
        reply = await world.at_inway(world.municipality, headers, line=line)
        assert (reply.status, reply.json["code"]) == (403, "unauthorizedParameter")
        assert reply.json["parameters"] == ["geslacht"]
        assert world.provider_ledger.records[0].refused == ("geslacht",)
        reply = await world.at_inway(world.municipality, headers, line="GET /personen HTTP/1.1")
        assert reply.status == 400
        assert world.provider_ledger.records[1].reason == "unreadable-request"
        assert world.service.seen == []

    play(scenario)


def test_a_question_about_people_that_is_too_large_is_refused_and_recorded(play: Play) -> None:
    async def scenario(world: World) -> None:
        for declared in (True, False):
            framing = b"Content-Length: 70000\r\n\r\n" if declared else b"Transfer-Encoding: chunked\r\n\r\n11170\r\n"
            reply = await world.raw(
                b"POST /personen/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + framing + b" " * 70_000,
                "POST",
            )
            assert reply.status == 413
        assert [record.reason for record in world.consumer_ledger.records] == ["too-large"] * 2

    play(scenario)


@pytest.mark.parametrize(
    ("answer", "reason", "refused"),
    [
        (plain_answer(json.dumps({"personen": [{"naam": "x", "adres": "y"}]}).encode()), "oversupplied", ("adres",)),
        (plain_answer(b"not json"), "unreadable-answer", ()),
        (
            plain_answer(gzip.compress(ANSWER, mtime=0), headers="Content-Encoding: gzip\r\n"),
            "unreadable-answer",
            (),
        ),
        (plain_answer(b'{"personen": [' + b" " * 5_000_000 + b"]}"), "unreadable-answer", ()),
        (plain_answer(ANSWER, headers="Stelsel-Data-Subjects: 123\r\n"), "unreadable-answer", ()),
    ],
)
def test_an_answer_that_says_too_much_is_held_back_whole(
    play: Play, answer: bytes, reason: str, refused: tuple[str, ...]
) -> None:
    async def scenario(world: World) -> None:
        world.service.answer = answer
        reply = await world.ask("/personen/personen", method="POST", json_body=ASK)
        assert (reply.status, reply.json["reason"]) == (502, reason)
        assert reply.headers["stelsel-answer"] == f"held-back; reason={reason}"
        assert b"Suzanne" not in reply.body
        record = world.provider_ledger.records[-1]
        assert (record.event, record.allowed, record.reason, record.refused) == ("response", False, reason, refused)

    play(scenario)


def test_whom_an_answer_is_about_is_recorded_before_it_is_released(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.service.answer = plain_answer(ANSWER, headers=f"Stelsel-Data-Subjects: {PERSON}, {OTHER_PERSON}\r\n")
        reply = await world.ask("/personen/personen", method="POST", json_body=SEARCH)
        assert reply.status == 200
        assert "stelsel-data-subjects" not in reply.headers
        asked, *answered = world.provider_ledger.records
        assert asked.subject == ""
        assert [one.subject for one in answered] == [world.references.of(one) for one in (PERSON, OTHER_PERSON)]
        assert {one.parent_span_id for one in answered} == {asked.span_id}
        assert {one.transaction_id for one in answered} == {asked.transaction_id}

    play(scenario)


def test_an_answer_about_unknown_people_is_held_back_but_about_nobody_passes(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.service.answer = plain_answer(ANSWER)
        reply = await world.ask("/personen/personen", method="POST", json_body=SEARCH)
        assert reply.status == 502
        assert not world.provider_ledger.records[-1].allowed
        world.service.answer = plain_answer(NOBODY)
        reply = await world.ask("/personen/personen", method="POST", json_body=SEARCH)
        assert (reply.status, reply.body) == (200, NOBODY)
        assert len(world.provider_ledger.records) == 3

    play(scenario)


def test_an_answer_whose_record_fails_is_not_released(play: Play) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Any) -> None:
            await reader.readexactly(int(seen.headers["content-length"]))
            world.provider_ledger.broken = True
            writer.write(plain_answer(ANSWER, headers=f"Stelsel-Data-Subjects: {PERSON}\r\n"))

        world.service.handler = handler
        reply = await world.ask("/personen/personen", method="POST", json_body=SEARCH)
        assert (reply.status, reply.headers["fsc-error-code"]) == (500, "TRANSACTION_LOG_WRITE_ERROR")
        assert b"Suzanne" not in reply.body

    play(scenario)


def test_an_error_of_a_service_about_people_passes_unaltered(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.service.answer = plain_answer(b'{"title":"Niet gevonden"}', status="404 Not Found")
        reply = await world.ask("/personen/personen", method="POST", json_body=ASK)
        assert (reply.status, reply.json) == (404, {"title": "Niet gevonden"})

    play(scenario)

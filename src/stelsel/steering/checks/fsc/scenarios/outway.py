"""Outway: how it carries requests of clients to the tester's inway, and what it records (Core 4.6, Logging 3.4)."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import parse_qsl, urlsplit

from stelsel.base.ids import uuid7
from stelsel.steering.checks.fsc.client import Unreachable
from stelsel.steering.checks.fsc.contracts import Json, Proposal
from stelsel.steering.checks.fsc.counterparty import Listener, Reply, Seen, echo, thumbprint_of
from stelsel.steering.checks.fsc.identities import Identity
from stelsel.steering.checks.fsc.model import Answer, expect, expect_error, expect_record, expect_status, scenario
from stelsel.steering.checks.fsc.world import World

_OUTWAY = ("outway",)
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


async def outgoing(world: World, **options: str) -> Proposal:
    """A valid contract by which the target's outway may connect to a service of the first peer."""
    thumbprint = await world.outway_thumbprint()
    grant = world.from_target(thumbprint, **options)
    return await world.kept(f"outgoing {sorted(options.items())}", lambda: world.valid(grant))


async def _fresh(world: World, **changes: object) -> Proposal:
    """A contract of this kind of its own, so that no token for it is kept anywhere."""
    proposal = await world.valid(world.from_target(await world.outway_thumbprint()))
    if changes:
        world.first.token_changes[proposal.grant_hash] = dict(changes)
    return proposal


async def _called(world: World, proposal: Proposal, **options: str) -> Answer:
    """A request through the outway that arrives: it knows the contract a moment after the tester does."""
    answer = await world.through_outway(proposal.grant_hash, **options)  # type: ignore[arg-type]
    return expect_status(answer, 200)


def _not_sent(world: World, answer: Answer) -> None:
    expect(answer.status >= 400, f"the outway answered with status {answer.status}")
    expect(not world.inway.seen, "the request reached the inway all the same")


@scenario("Outway-IncomingRequest-1", "Proxy a request to the inway", "Core 4.6.1.1, 4.6.1.2", needs=_OUTWAY)
async def proxied(world: World) -> None:
    proposal = await outgoing(world)
    answer = await _called(world, proposal, path="/hello?a=1")
    expect(len(world.inway.seen) == 1, f"the inway received {len(world.inway.seen)} requests")
    seen = world.inway.seen[0]
    expect(
        answer.object() == {"method": "GET", "path": "/hello?a=1", "length": 0},
        "the answer of the inway did not arrive",
    )
    expect(seen.certificate_peer_id == world.target_id, "the connection had the certificate of another peer")
    token = seen.headers.get("fsc-authorization", "").removeprefix("Bearer ")
    expect(token == world.first.tokens[proposal.grant_hash], "the access token was not in Fsc-Authorization")


@scenario(
    "Outway-IncomingRequest-2", "Receive a request for which there is no access token", "Core 4.6.1.3", needs=_OUTWAY
)
async def no_token(world: World) -> None:
    thumbprint = await world.outway_thumbprint()
    unknown = Proposal.of(world.content(world.from_target(thumbprint)))
    _not_sent(world, await world.through_outway(unknown.grant_hash))
    proposed = await world.proposed(world.from_target(thumbprint, delegator=world.second.peer_id))
    _not_sent(world, await world.through_outway(proposed.grant_hash))
    refused = await _fresh(world)
    world.first.refuse_tokens = True
    _not_sent(world, await world.through_outway(refused.grant_hash))


@scenario("Outway-IncomingRequest-3", "Proxy a request to an inway that fails", "Core 4.6.1.4", needs=_OUTWAY)
async def inway_unreachable(world: World) -> None:
    proposal = await _fresh(world)
    async with world.other_inway(None, world.first.identity):
        answer = await world.through_outway(proposal.grant_hash)
    expect(answer.status >= 500, f"the outway answered with status {answer.status}")
    await _called(world, proposal)


async def _logged_before_inway(world: World, proposal: Proposal) -> Json:
    """The record of a request, as it stands in the target's log at the moment that the inway receives it."""
    found: list[Json | None] = []

    async def look(seen: Seen) -> Reply:
        transaction = seen.headers.get("fsc-transaction-id", "")
        found.append(await world.log_record(transaction, "DIRECTION_OUTGOING"))
        return await echo(seen)

    world.inway.respond = look
    await _called(world, proposal)
    expect(found, "the request did not reach the inway")
    expect(found[0] is not None, "there was no log record yet when the inway received the request")
    return found[0] or {}


@scenario(
    "Outway-TransactionLog-1", "Create a log record for a received request", "Logging 3.1, 3.4.1.1", needs=_OUTWAY
)
async def logged(world: World) -> None:
    proposal = await outgoing(world)
    wanted = {
        "direction": "DIRECTION_OUTGOING",
        "grant_hash": proposal.grant_hash,
        "source": {"type": "SOURCE_TYPE_SOURCE", "outway_peer_id": world.target_id},
        "destination": {"type": "DESTINATION_TYPE_DESTINATION", "service_peer_id": world.first.peer_id},
        "service_name": proposal.grant["service"]["name"],
    }
    expect_record(await _logged_before_inway(world, proposal), wanted)


@scenario("Outway-TransactionLog-2", "Add a transaction id", "Logging 3.4.1.1", needs=_OUTWAY)
async def transaction(world: World) -> None:
    proposal = await outgoing(world)
    answers = [await _called(world, proposal) for _ in range(3)]
    given = [seen.headers.get("fsc-transaction-id", "") for seen in world.inway.seen]
    expect(all(given) and len(set(given)) == 3, f"the transaction ids at the inway are {given}")
    if world.settings.transaction_id == "uuidv7":
        expect(all(_UUID7.fullmatch(one) for one in given), f"they are not all UUIDv7: {given}")
    told = [answer.headers.get("fsc-transaction-id") for answer in answers]
    expect(told == given, "the client did not receive the transaction id in Fsc-Transaction-Id")


@scenario(
    "Outway-TransactionLog-3",
    "Create a log record for a request made on behalf of another peer",
    "Logging 3.1.1, 3.4.1.2",
    needs=_OUTWAY,
)
async def logged_delegated(world: World) -> None:
    proposal = await outgoing(world, delegator=world.second.peer_id)
    source = {
        "type": "SOURCE_TYPE_DELEGATED_SOURCE",
        "outway_peer_id": world.target_id,
        "delegator_peer_id": world.second.peer_id,
    }
    expect_record(await _logged_before_inway(world, proposal), {"source": source, "grant_hash": proposal.grant_hash})


@scenario(
    "Outway-TransactionLog-4",
    "Create a log record for a request to a service offered on behalf of another peer",
    "Logging 3.1.1, 3.4.1.2",
    needs=_OUTWAY,
)
async def logged_delegated_service(world: World) -> None:
    proposal = await outgoing(world, service_delegator=world.third.peer_id)
    destination = {
        "type": "DESTINATION_TYPE_DELEGATED_DESTINATION",
        "service_peer_id": world.first.peer_id,
        "delegator_peer_id": world.third.peer_id,
    }
    record = await _logged_before_inway(world, proposal)
    expect_record(record, {"destination": destination, "grant_hash": proposal.grant_hash})


@scenario(
    "Outway-TransactionLog-5",
    "An error occurs while writing to the transaction log",
    "Logging 3.4.1.1, 3.4.1.3",
    needs=("outway", "break_log"),
)
async def log_broken(world: World) -> None:
    proposal = await outgoing(world)
    await _called(world, proposal)
    world.inway.seen.clear()
    await world.hooks.break_log()
    try:
        answer = await world.through_outway(proposal.grant_hash)
        expect_error(answer, "ERROR_DOMAIN_OUTWAY", code="TRANSACTION_LOG_WRITE_ERROR", status=500)
        expect(not world.inway.seen, "the request reached the inway all the same")
    finally:
        await world.hooks.mend_log()

    async def carried() -> bool:
        return (await world.through_outway(proposal.grant_hash)).status == 200

    await world.until(carried, "the outway does not carry requests again after the log was mended")


# -- what the suite lacks ----------------------------------------------------------------------------------------------


@scenario("Extra-Outway-Token-1", "Ask tokens as the standard says", "Core 4.6.1.3, RFC 8705 2.1", needs=_OUTWAY)
async def asks(world: World) -> None:
    proposal = await _fresh(world)
    await _called(world, proposal)
    asked = [seen for seen in world.first.manager.seen if seen.path.endswith("/token")][-1]
    form = dict(parse_qsl(asked.body.decode()))
    wanted = {"grant_type": "client_credentials", "scope": proposal.grant_hash, "client_id": world.target_id}
    expect(form == wanted, f"the form is {form}")
    kind = asked.headers.get("content-type", "")
    expect(kind.startswith("application/x-www-form-urlencoded"), f"the content type is {kind!r}")
    used = world.inway.seen[-1].certificate
    expect(
        asked.certificate is not None and used is not None and thumbprint_of(asked.certificate) == thumbprint_of(used),
        "the token was asked with another certificate than it was used with",
    )


@scenario("Extra-Outway-Token-2", "Use no token of another group", "Core 4.6.1.2", needs=_OUTWAY)
async def other_group(world: World) -> None:
    proposal = await _fresh(world, gid="another-group")
    _not_sent(world, await world.through_outway(proposal.grant_hash))


@scenario(
    "Extra-Outway-Token-3", "Send nothing under a contract that was revoked", "Core 3.2.1, 4.6.1.2", needs=_OUTWAY
)
async def revoked(world: World) -> None:
    proposal = await _fresh(world)
    await _called(world, proposal)
    expect_status(await world.place(world.first, proposal, "revoke"), 201)
    del world.first.grants[proposal.grant_hash]
    world.inway.seen.clear()
    answer = await world.through_outway(proposal.grant_hash)
    # A token that it holds still may be used until it expires; the inway must refuse that. Nothing else may happen.
    used = [seen.headers.get("fsc-authorization", "").removeprefix("Bearer ") for seen in world.inway.seen]
    expect(answer.status >= 400 or used == [world.first.tokens[proposal.grant_hash]], "it was sent without a token")


@scenario("Extra-Outway-Routing-1", "Do not alter method, path, query and body", "Core 4.6.1.2", needs=_OUTWAY)
async def unaltered(world: World) -> None:
    proposal = await outgoing(world)
    path, body = "/a%20path/with//slashes/?q=1&q=%C3%A9&empty=", bytes(range(256)) * 64
    headers = {"X-Client": "of the client", "Content-Type": "application/octet-stream"}
    answer = await world.through_outway(proposal.grant_hash, method="PUT", path=path, headers=headers, content=body)
    expect_status(answer, 200)
    seen = world.inway.seen[-1]
    expect((seen.method, seen.path) == ("PUT", path), f"the inway received {seen.method} {seen.path}")
    expect(seen.body == body, "the inway received another body")
    expect(seen.headers.get("x-client") == "of the client", "a header of the client did not reach the inway")


@scenario("Extra-Outway-Error-1", "Return an error of the inway without altering it", "Core 4.6.1.4", needs=_OUTWAY)
async def inway_error(world: World) -> None:
    proposal = await outgoing(world)
    error = {"message": "not here", "domain": "ERROR_DOMAIN_INWAY", "code": "ERROR_CODE_SERVICE_NOT_FOUND"}

    async def refuse(seen: Seen) -> Reply:
        del seen
        return Reply.of(error, 404, **{"fsc-error-code": error["code"]})

    world.inway.respond = refuse
    answer = expect_status(await world.through_outway(proposal.grant_hash), 404)
    expect(answer.object() == error, "the body was altered")
    expect(answer.headers.get("fsc-error-code") == error["code"], "Fsc-Error-Code was altered")


@scenario("Extra-Outway-Error-2", "Refuse CONNECT", "Core 4.6.1.4.1", needs=_OUTWAY)
async def connect(world: World) -> None:
    parts = urlsplit(str(world.settings.target.outway))
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(b"CONNECT service.example:443 HTTP/1.1\r\nHost: service.example:443\r\n\r\n")
        world.transcript.add("sent", "CONNECT service.example:443 HTTP/1.1")
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode("latin-1")
        world.transcript.add("received", head)
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await asyncio.wait_for(reader.readexactly(int(headers.get("content-length", "0"))), 10)
    finally:
        writer.close()
    answer = Answer(int(first.split(" ")[1]), headers, body)
    expect_error(answer, "ERROR_DOMAIN_OUTWAY", code="ERROR_CODE_METHOD_UNSUPPORTED", status=405)


async def _impostor(world: World, identity: Identity) -> None:
    """An inway that is not what it should be: the request must not reach it."""
    impostor = Listener("what is no inway of the first peer", world.transcript, echo)
    proposal = await _fresh(world)
    async with world.other_inway(impostor, identity):
        answer = await world.through_outway(proposal.grant_hash)
    expect(answer.status >= 500, f"the outway answered with status {answer.status}")
    expect(not impostor.seen, "the request was sent to it all the same")
    await _called(world, proposal)


@scenario(
    "Extra-Outway-Authentication-1",
    "Send nothing to an inway under another trust anchor",
    "Core 4.6.1.1",
    needs=_OUTWAY,
)
async def untrusted_inway(world: World) -> None:
    await _impostor(world, world.stranger)


@scenario(
    "Extra-Outway-Authentication-2",
    "Send nothing to an inway that has another host name",
    "Core 4.1.6, RFC 6125",
    needs=_OUTWAY,
)
async def other_host(world: World) -> None:
    await _impostor(world, world.identities["first-domain"])


@scenario("Extra-Outway-Routing-2", "Send the request to the address in the token", "Core 4.6.1.2", needs=_OUTWAY)
async def to_the_audience(world: World) -> None:
    # The same inway, under the other way to write its address: with a slash, as a URI may have.
    proposal = await _fresh(world, aud=world.settings.tester.inway.rstrip("/") + "/")
    await _called(world, proposal)
    expect(len(world.inway.seen) == 1, "the request did not reach the inway in the token")


@scenario(
    "Extra-Outway-Authentication-3",
    "Send nothing to an inway whose certificate has expired",
    "Core 4.6.1.1",
    needs=_OUTWAY,
)
async def expired_inway(world: World) -> None:
    await _impostor(world, world.identities["first-expired"])


@scenario(
    "Extra-Outway-Error-3", "Say so in FSC's form when a grant hash is unknown", "Core 4.1.7, 4.6.1.4", needs=_OUTWAY
)
async def unknown_grant(world: World) -> None:
    unknown = Proposal.of(world.content(world.from_target(await world.outway_thumbprint())))
    try:
        answer = await world.through_outway(unknown.grant_hash, headers={"Fsc-Transaction-Id": uuid7()})
    except Unreachable:
        expect(False, "the outway gave no answer")
        return
    expect(400 <= answer.status < 600, f"the outway answered with status {answer.status}")
    told = answer.object()
    expect(told.get("domain") == "ERROR_DOMAIN_OUTWAY", f"domain {told.get('domain')!r} instead of ERROR_DOMAIN_OUTWAY")
    expect(bool(answer.headers.get("fsc-error-code")), "the header Fsc-Error-Code is missing")

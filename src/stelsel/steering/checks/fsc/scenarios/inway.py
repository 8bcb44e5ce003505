"""Inway: which requests it lets through to the service, and what it records of them (Core 4.7, Logging 3.3)."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

from stelsel.base.ids import uuid7
from stelsel.steering.checks.fsc.client import Unreachable
from stelsel.steering.checks.fsc.contracts import Json
from stelsel.steering.checks.fsc.counterparty import Reply, Seen, echo
from stelsel.steering.checks.fsc.documents import Jws, base64url, jcs
from stelsel.steering.checks.fsc.identities import Identity
from stelsel.steering.checks.fsc.model import (
    Answer,
    NotRun,
    expect,
    expect_error,
    expect_record,
    expect_status,
    scenario,
)
from stelsel.steering.checks.fsc.scenarios.manager_tokens import delegated_publication
from stelsel.steering.checks.fsc.world import World

_INWAY = ("inway",)
_SIGNING = ("inway", "signing")
DOMAIN = "ERROR_DOMAIN_INWAY"
_INVALID = "ERROR_CODE_ACCESS_TOKEN_INVALID"


async def _token(world: World) -> str:
    return await world.token((await world.usual()).grant_hash)


def _denied(world: World, answer: Answer, status: int, code: str) -> None:
    """Refused with this code, and the service heard nothing of it."""
    expect_error(answer, DOMAIN, code=code, status=status)
    if status == 401:
        given = answer.headers.get("www-authenticate")
        expect(given is not None and given.split(" ")[0] == "Bearer", f"WWW-Authenticate is {given!r}, not Bearer")
    expect(not world.echo.seen, "the request reached the service all the same")


def _forged(world: World, token: str, by: Identity | None = None, **changes: object) -> str:
    """The token with other claims, signed by the target's own key, or by `by`."""
    signer = by or world.signing
    if signer is None:
        raise NotRun("there is no key to sign tokens with")
    return signer.sign(Jws.read(token).payload | changes, header={"typ": "JWT"})


@scenario(
    "Inway-Incoming-Request-1", "Receive a request with a valid access token", "Core 4.7.1.2, 4.7.1.3", needs=_INWAY
)
async def valid(world: World) -> None:
    expect_status(await world.through_inway(await _token(world)), 200)
    expect(len(world.echo.seen) == 1, f"the service received {len(world.echo.seen)} requests")


@scenario(
    "Inway-Incoming-Request-2", "Receive a request without an access token", "Core 4.7.1.3, 4.7.2.2.1", needs=_INWAY
)
async def no_token(world: World) -> None:
    _denied(world, await world.through_inway(None), 401, "ERROR_CODE_ACCESS_TOKEN_MISSING")
    # `Authorization` is for the service; a token there does not count.
    elsewhere = {"Authorization": f"Bearer {await _token(world)}"}
    _denied(world, await world.through_inway(None, headers=elsewhere), 401, "ERROR_CODE_ACCESS_TOKEN_MISSING")


@scenario(
    "Inway-Incoming-Request-3",
    "Receive a request with an access token bound to a different certificate",
    "Core 4.7.1.2, RFC 8705 3",
    needs=_INWAY,
)
async def bound_elsewhere(world: World) -> None:
    token = await _token(world)
    for identity in (world.second.identity, world.identities["first-other"]):
        _denied(world, await world.through_inway(token, identity=identity), 401, _INVALID)


@scenario("Inway-Incoming-Request-4", "Receive a request with an untrusted certificate", "Core 4.7.1.1", needs=_INWAY)
async def untrusted(world: World) -> None:
    await _no_entry(world, world.stranger)


async def _no_entry(world: World, identity: Identity) -> None:
    token = await _token(world)
    async with world.new_client(identity.client_context(world.settings.trust_anchors)) as client:
        try:
            answer = await world.through_inway(token, client=client)
        except Unreachable:
            pass
        else:
            expect(400 <= answer.status < 500, f"the inway answered with status {answer.status}")
    expect(not world.echo.seen, "the request reached the service all the same")


@scenario("Inway-Incoming-Request-5", "Preserve the access token", "Core 4.7.1.3", needs=_INWAY)
async def token_preserved(world: World) -> None:
    token = await _token(world)
    expect_status(await world.through_inway(token), 200)
    given = world.echo.seen[-1].headers.get("fsc-authorization", "")
    expect(given.removeprefix("Bearer ") == token, "the service did not receive the access token in Fsc-Authorization")


@scenario("Inway-Incoming-Request-6", "Receive a request with an expired access token", "Core 4.7.2.2.1", needs=_INWAY)
async def expired(world: World) -> None:
    if world.signing is not None:
        now = int(time.time())
        token = _forged(world, await _token(world), exp=now - 120, nbf=now - 600)
    else:
        token = await _wait_for_expiry(world)
    _denied(world, await world.through_inway(token), 401, "ERROR_CODE_ACCESS_TOKEN_EXPIRED")


async def _wait_for_expiry(world: World) -> str:
    """A token of the target's manager that has expired by now: under a contract that ends soon, or after patience."""
    now = int(time.time())
    ends = now + min(10, int(world.settings.patience))
    proposal = await world.valid(world.to_target(), validity={"not_before": now - 60, "not_after": ends})
    token = await world.token(proposal.grant_hash)
    left = Jws.read(token).payload["exp"] - time.time() + 1
    expect(left <= world.settings.patience, f"the token lives {left:.0f} seconds yet: set patience, or target.signing")
    await asyncio.sleep(max(left, 0))
    return token


async def _logged_before_service(world: World, token: str, transaction_id: str) -> Json:
    """The record of a request, as it stands in the target's log at the moment that the service receives it."""
    found: list[Json | None] = []

    async def look(seen: Seen) -> Reply:
        found.append(await world.log_record(transaction_id, "DIRECTION_INCOMING"))
        return await echo(seen)

    world.echo.respond = look
    expect_status(await world.through_inway(token, transaction_id=transaction_id), 200)
    expect(found, "the request did not reach the service")
    expect(found[0] is not None, "there was no log record yet when the service received the request")
    return found[0] or {}


@scenario("Inway-TransactionLog-1", "Create a log record for a received request", "Logging 3.1, 3.3.1.1", needs=_INWAY)
async def logged(world: World) -> None:
    proposal, transaction = await world.usual(), uuid7()
    record = await _logged_before_service(world, await world.token(proposal.grant_hash), transaction)
    wanted = {
        "transaction_id": transaction,
        "direction": "DIRECTION_INCOMING",
        "grant_hash": proposal.grant_hash,
        "source": {"type": "SOURCE_TYPE_SOURCE", "outway_peer_id": world.first.peer_id},
        "destination": {"type": "DESTINATION_TYPE_DESTINATION", "service_peer_id": world.target_id},
        "service_name": world.settings.target.service,
    }
    expect_record(record, wanted)


@scenario("Inway-TransactionLog-2", "Preserve the transaction id", "Logging 3.3.1.1", needs=_INWAY)
async def transaction_preserved(world: World) -> None:
    transaction = uuid7()
    expect_status(await world.through_inway(await _token(world), transaction_id=transaction), 200)
    given = world.echo.seen[-1].headers.get("fsc-transaction-id")
    expect(given == transaction, f"the service received the transaction id {given!r}")


@scenario("Inway-TransactionLog-3", "Reject a request without a transaction id", "Logging 3.3.1.3", needs=_INWAY)
async def no_transaction(world: World) -> None:
    _denied(world, await world.through_inway(await _token(world), transaction_id=None), 400, "MISSING_LOG_RECORD_ID")


@scenario(
    "Inway-TransactionLog-4",
    "Create a log record for a request made on behalf of another peer",
    "Logging 3.1.1, 3.3.1.2",
    needs=_INWAY,
)
async def logged_delegated(world: World) -> None:
    proposal = await world.valid(world.to_target(delegator=world.second.peer_id))
    record = await _logged_before_service(world, await world.token(proposal.grant_hash), uuid7())
    source = {
        "type": "SOURCE_TYPE_DELEGATED_SOURCE",
        "outway_peer_id": world.first.peer_id,
        "delegator_peer_id": world.second.peer_id,
    }
    expect_record(record, {"source": source, "grant_hash": proposal.grant_hash})
    seen = await world.log_record(record["transaction_id"], "DIRECTION_INCOMING", by=world.second)
    expect(seen is not None, "the delegator does not get to see the record (Logging 3.2.1.1)")


@scenario(
    "Inway-TransactionLog-5",
    "Create a log record for a request to a service offered on behalf of another peer",
    "Logging 3.1.1, 3.3.1.2",
    needs=_INWAY,
)
async def logged_delegated_service(world: World) -> None:
    await delegated_publication(world)
    proposal = await world.valid(world.to_target(service_delegator=world.third.peer_id))
    record = await _logged_before_service(world, await world.token(proposal.grant_hash), uuid7())
    destination = {
        "type": "DESTINATION_TYPE_DELEGATED_DESTINATION",
        "service_peer_id": world.target_id,
        "delegator_peer_id": world.third.peer_id,
    }
    expect_record(record, {"destination": destination, "grant_hash": proposal.grant_hash})
    seen = await world.log_record(record["transaction_id"], "DIRECTION_INCOMING", by=world.third)
    expect(seen is not None, "the delegator of the service does not get to see the record (Logging 3.2.1.1)")


@scenario(
    "Inway-TransactionLog-6",
    "An error occurs while writing to the transaction log",
    "Logging 3.3.1.1, 3.3.1.3",
    needs=("inway", "break_log"),
)
async def log_broken(world: World) -> None:
    token = await _token(world)
    expect_status(await world.through_inway(token), 200)
    world.echo.seen.clear()
    await world.hooks.break_log()
    try:
        _denied(world, await world.through_inway(token), 500, "TRANSACTION_LOG_WRITE_ERROR")
    finally:
        await world.hooks.mend_log()

    async def carried() -> bool:
        return (await world.through_inway(token)).status == 200

    await world.until(carried, "the inway does not carry requests again after the log was mended")


@scenario("Inway-Port-1", "Accept requests on port 443 or 8443", "Core 4.1.1", needs=_INWAY)
async def port(world: World) -> None:
    found = urlsplit(str(world.settings.target.inway)).port
    expect(found in {443, 8443}, f"the inway is on port {found}")
    expect_status(await world.through_inway(None), 401)


# -- what the suite lacks ----------------------------------------------------------------------------------------------


@scenario("Extra-Inway-Token-1", "Refuse what is no access token of this peer", "Core 4.7.1.2", needs=_INWAY)
async def no_token_of_ours(world: World) -> None:
    token = await _token(world)
    head, payload, signature = token.split(".")
    unsigned = base64url(jcs({"alg": "none"})) + f".{payload}."
    altered = f"{head}.{base64url(jcs(Jws.read(token).payload | {'svc': 'other'}))}.{signature}"
    by_first = _forged(world, token, by=world.first.identity)
    as_target = world.first.identity.sign(
        Jws.read(token).payload, header={"x5t#S256": Jws.read(token).header["x5t#S256"]}
    )
    for bad in ("abc", "a.b.c", unsigned, altered, f"{head}.{payload}.{'A' * 86}", by_first, as_target):
        _denied(world, await world.through_inway(bad), 401, _INVALID)


@scenario("Extra-Inway-Token-2", "Refuse a token of another group", "Core 4.7.1.2, 4.7.2.2.1", needs=_SIGNING)
async def other_group(world: World) -> None:
    token = _forged(world, await _token(world), gid="another-group")
    _denied(world, await world.through_inway(token), 403, "ERROR_CODE_WRONG_GROUP_ID_IN_TOKEN")


@scenario(
    "Extra-Inway-Token-3", "Refuse a token for a service that is not here", "Core 4.7.1.2, 4.7.2.2.1", needs=_SIGNING
)
async def other_service(world: World) -> None:
    token = _forged(world, await _token(world), svc="not-offered-here")
    _denied(world, await world.through_inway(token), 404, "ERROR_CODE_SERVICE_NOT_FOUND")


@scenario("Extra-Inway-Token-4", "Refuse a token that is not valid yet", "Core 4.3.1, RFC 7519 4.1.5", needs=_SIGNING)
async def too_early(world: World) -> None:
    now = int(time.time())
    token = _forged(world, await _token(world), nbf=now + 3600, exp=now + 7200)
    _denied(world, await world.through_inway(token), 401, _INVALID)


@scenario(
    "Extra-Inway-Token-5", "Refuse a token that is bound to no certificate", "Core 4.7.1.2, RFC 8705 3", needs=_SIGNING
)
async def unbound(world: World) -> None:
    token = await _token(world)
    for cnf in (None, {}, {"x5t#S256": ""}, {"x5t#S256": world.second.identity.thumbprint}):
        _denied(world, await world.through_inway(_forged(world, token, cnf=cnf)), 401, _INVALID)


@scenario("Extra-Inway-Token-6", "Refuse a token that lacks a claim", "Core 4.3.1", needs=_SIGNING)
async def incomplete(world: World) -> None:
    token = await _token(world)
    for claim in ("gth", "gid", "sub", "iss", "svc", "exp"):
        signer, claims = world.signing or world.first.identity, Jws.read(token).payload
        del claims[claim]
        answer = await world.through_inway(signer.sign(claims, header={"typ": "JWT"}))
        expect_error(answer, DOMAIN, status=(401, 403, 404))
        expect(not world.echo.seen, f"a token without {claim} opened the way to the service")


@scenario(
    "Extra-Inway-Token-7",
    "Refuse a token with a critical header that is not understood",
    "RFC 7515 4.1.11",
    needs=_SIGNING,
)
async def critical_header(world: World) -> None:
    signer, claims = world.signing or world.first.identity, Jws.read(await _token(world)).payload
    token = signer.sign(claims, header={"typ": "JWT", "crit": ["urgent"], "urgent": True})
    _denied(world, await world.through_inway(token), 401, _INVALID)


@scenario("Extra-Inway-TransactionLog-7", "Refuse a transaction id that is none", "Logging 3.3.1.3", needs=_INWAY)
async def bad_transaction(world: World) -> None:
    token = await _token(world)
    bad = ["not-an-id", "0" * 36, "x" * 300]
    if world.settings.transaction_id == "uuidv7":
        bad.append("7f1c2f8e-6e0b-4c6e-9a53-0f6c7d1c9b1a")  # a UUIDv4
    for transaction in bad:
        answer = await world.through_inway(token, transaction_id=transaction)
        _denied(world, answer, 400, "INVALID_LOG_RECORD_ID")


@scenario(
    "Extra-Inway-Routing-1",
    "Pass method, path, query, body and headers on to the service",
    "Core 4.7.1.3",
    needs=_INWAY,
)
async def passed_on(world: World) -> None:
    path = "/a%20path/with//slashes/?q=1&q=%C3%A9&empty="
    body = bytes(range(256)) * 64
    headers = {"X-Client": "of the client", "Content-Type": "application/octet-stream"}
    answer = await world.through_inway(await _token(world), method="POST", path=path, headers=headers, content=body)
    expect_status(answer, 200)
    seen = world.echo.seen[-1]
    expect((seen.method, seen.path) == ("POST", path), f"the service received {seen.method} {seen.path}")
    expect(seen.body == body, "the service received another body")
    expect(seen.headers.get("x-client") == "of the client", "a header of the client did not reach the service")


@scenario("Extra-Inway-Error-1", "Return an error of the service without altering it", "Core 4.7.2.2", needs=_INWAY)
async def service_error(world: World) -> None:
    async def fail(seen: Seen) -> Reply:
        del seen
        return Reply(418, b"a teapot, not FSC", {"content-type": "text/teapot", "x-service": "said so"})

    world.echo.respond = fail
    answer = expect_status(await world.through_inway(await _token(world)), 418)
    expect(answer.body == b"a teapot, not FSC", "the body was altered")
    expect(answer.headers.get("content-type") == "text/teapot", "the content type was altered")
    expect(answer.headers.get("x-service") == "said so", "a header was dropped")
    expect("fsc-error-code" not in answer.headers, "Fsc-Error-Code was added to an error of the service")


@scenario("Extra-Inway-Error-2", "Say so when the service cannot be reached", "Core 4.7.2.2.1", needs=_INWAY)
async def unreachable(world: World) -> None:
    token = await _token(world)
    await world.stop_echo()
    try:
        _denied(world, await world.through_inway(token), 502, "ERROR_CODE_SERVICE_UNREACHABLE")
    finally:
        await world.start_echo()


@scenario(
    "Extra-Inway-Authentication-1", "Refuse an outway whose certificate has expired", "Core 4.7.1.1", needs=_INWAY
)
async def expired_certificate(world: World) -> None:
    await _no_entry(world, world.identities["first-expired"])

"""Manager: contents that break a rule of Core 4.2.1, which the suite does not try; and odd ones that keep it."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import Any

from stelsel.steering.checks.fsc.contracts import Json, Proposal, by_domain, by_key, publication
from stelsel.steering.checks.fsc.model import expect, expect_refused, expect_status, scenario
from stelsel.steering.checks.fsc.scenarios.manager import NOT_RECEIVER
from stelsel.steering.checks.fsc.scenarios.manager_tokens import delegated_publication
from stelsel.steering.checks.fsc.world import World


async def _refused(world: World, content: Json, code: str | tuple[str, ...] = ()) -> None:
    proposal = Proposal.of(content)
    expect_refused(await world.submit(world.first, proposal), code or ())
    if proposal.grant_hashes:
        expect(await world.contract(proposal, world.first) is None, "the contract is listed all the same")


def _content_scenario(number: int, title: str, clause: str, code: str, **changes: Any) -> None:
    async def run(world: World) -> None:
        made = {name: value() if callable(value) else value for name, value in changes.items()}
        await _refused(world, world.content(world.to_target(), **made), code)

    scenario(f"Extra-Manager-Content-{number}", title, clause)(run)


def _validity(begin: int, end: int) -> Any:
    return lambda: {"not_before": int(time.time()) + begin, "not_after": int(time.time()) + end}


_content_scenario(
    1, "Refuse a contract created in the future", "Core 4.2.1", "", created_at=lambda: int(time.time()) + 86_400
)
_content_scenario(2, "Refuse not_after before not_before", "Core 4.2.1", "", validity=_validity(7200, 3600))
_content_scenario(3, "Refuse not_after in the past", "Core 4.2.1", "", validity=_validity(-7200, -3600))
_content_scenario(4, "Refuse a contract without grants", "Core 4.2.1", "", grants=list)
_content_scenario(5, "Refuse an iv that is not a UUID", "Core 4.2.1", "", iv="0" * 36)
_content_scenario(
    6, "Refuse an unknown version of FSC", "Core 4.4.5.3", "ERROR_CODE_UNKNOWN_FSC_VERSION", fsc_version="99.0.0"
)
_content_scenario(7, "Refuse a date that is text", "Core 4.2, OpenAPI contractContent", "", created_at="today")


@scenario("Extra-Manager-Content-8", "Refuse a second contract with the same iv", "Core 4.2.1")
async def same_iv(world: World) -> None:
    used = await world.usual()
    again = world.content(world.to_target(properties={"other": True}), iv=used.content["iv"])
    await _refused(world, again)


@scenario("Extra-Manager-Content-9", "Refuse the same iv written in capitals", "Core 4.2.1")
async def same_iv_in_capitals(world: World) -> None:
    used = await world.usual()
    iv = used.content["iv"].upper()
    if iv == used.content["iv"]:  # a UUID of digits alone has no capitals
        return
    await _refused(world, world.content(world.to_target(properties={"other": True}), iv=iv))


@scenario("Extra-Manager-Content-10", "Refuse one of two contracts with the same iv that come at once", "Core 4.2.1")
async def same_iv_at_once(world: World) -> None:
    iv = str(uuid.uuid4())
    both = [Proposal.of(world.content(world.to_target(properties={"one": one}), iv=iv)) for one in (1, 2)]
    answers = await asyncio.gather(*(world.submit(world.first, proposal) for proposal in both))
    statuses = sorted(answer.status for answer in answers)
    expect(statuses[0] == 201 and statuses[1] in {400, 422}, f"the two were answered with {statuses}")
    listed = [await world.contract(proposal, world.first) for proposal in both]
    expect(sum(one is not None for one in listed) == 1, "it is not one of the two that is listed")


_content_scenario(
    11,
    "Refuse an unknown hash algorithm in the content",
    "Core 4.2.6.3, 4.4.5.3",
    "ERROR_CODE_UNKNOWN_HASH_ALGORITHM_HASH",
    hash_algorithm="HASH_ALGORITHM_SHA3_1024",
)


def _grant_scenario(number: int, title: str, clause: str, change: Any) -> None:
    async def run(world: World) -> None:
        grant = world.to_target()
        change(grant)
        await _refused(world, world.content(grant))

    scenario(f"Extra-Manager-Grant-{number}", title, clause)(run)


def _set(*path: str, value: Any) -> Any:
    def change(grant: Json) -> None:
        inner = grant
        for name in path[:-1]:
            inner = inner[name]
        if value is None:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value

    return change


_THUMBPRINT = ("outway", "identification", "public_key_thumbprint")
_grant_scenario(1, "Refuse an outway without a thumbprint", "Core 4.2.1.3", _set(*_THUMBPRINT, value=None))
_grant_scenario(2, "Refuse a thumbprint that is not one", "Core 4.2.1.3", _set(*_THUMBPRINT, value="z" * 64))
_grant_scenario(
    3,
    "Refuse an identification of an unknown type",
    "OpenAPI outwayIdentificationType",
    _set("outway", "identification", "type", value="OUTWAY_IDENTIFICATION_TYPE_NAME"),
)
_grant_scenario(
    4,
    "Refuse a domain name identification without one",
    "Core 4.2.1.3",
    _set("outway", "identification", value={"type": "OUTWAY_IDENTIFICATION_TYPE_DOMAIN_NAME"}),
)
_grant_scenario(
    5,
    "Refuse a service that the peer does not offer",
    "Core 4.2.1.3",
    _set("service", "name", value="not-offered-here"),
)
_grant_scenario(6, "Refuse properties that are not an object", "Core 4.2.2.1", _set("properties", value=["a", "list"]))
_grant_scenario(7, "Refuse a grant of an unknown type", "OpenAPI grantType", _set("type", value="GRANT_TYPE_OTHER"))
_grant_scenario(
    8, "Refuse a service of an unknown type", "OpenAPI serviceType", _set("service", "type", value="SERVICE")
)


@scenario("Extra-Manager-Grant-9", "Refuse to publish a name that breaks the rule for names", "Core 4.2.1.1")
async def bad_names(world: World) -> None:
    for name in ("two words", "a/b", "", "n" * 101, "naïef", "line\nbreak"):
        await _refused(world, world.content(publication(world.first.peer_id, world.target_id, name)))


@scenario(
    "Extra-Manager-Grant-10",
    "Refuse a contract that this peer is not on",
    "Core 4.4.5.3",
)
async def receiver_not_on_it(world: World) -> None:
    grant = world.to_target()
    grant["service"]["peer_id"] = world.second.peer_id
    await _refused(world, world.content(grant), NOT_RECEIVER)


@scenario(
    "Extra-Manager-Grant-11", "Refuse a DelegatedServicePublicationGrant with any other grant", "Core 4.2.1, 4.4.5.3"
)
async def mixed_delegated(world: World) -> None:
    first, second = world.first.peer_id, world.second.peer_id
    published = publication(first, world.target_id, "mixed", delegator=second)
    grants = published, world.to_target(delegator=second)
    await _refused(world, world.content(*grants), "ERROR_CODE_GRANT_COMBINATION_NOT_ALLOWED")


@scenario("Extra-Manager-Grant-12", "Take both identifications of an outway, side by side", "Core 4.2.1.3, 4.2.1")
async def both_identifications(world: World) -> None:
    grants = (
        world.to_target(identification=by_domain("outway.toetser.example")),
        world.to_target(identification=by_key(world.first.identity.key_thumbprint)),
    )
    proposal = await world.proposed(*grants)
    listed = await world.listed("/contracts", "contracts", grant_hash=proposal.grant_hashes[1])
    expect([one.get("content") for one in listed] == [proposal.content], "the order of grants was not kept (4.4.1.2)")


@scenario("Extra-Manager-Grant-13", "Refuse a delegator for whom the service is not published", "Core 4.2.1.3, 4.2.1.4")
async def other_delegator(world: World) -> None:
    await delegated_publication(world)
    await _refused(world, world.content(world.to_target(service_delegator=world.second.peer_id)))


_STRANGE: Json = {
    "numbers": [0, -0.0, 1.0, 1e21, 1e-7, 123456789.125, 9007199254740991, -1.5e300, 0.000001],
    "text": 'quote " backslash \\ slash / newline \n tab \t bell \u0007 del \u007f line \u2028',
    "order": {"\ufb33": 1, "\U0001f600": 2, "\u20ac": 3, "1": 4, "a": 5, "A": 6, "": 7},
    "arrays": [3, 1, 2, [], {}, None, True, False],
    "markup": "<script>alert(1)</script>\u202e",
}


@scenario("Extra-Manager-Hash-1", "Hash what canonicalises in an unusual way as RFC 8785 says", "Core 4.1.8, 4.2.4")
async def unusual_properties(world: World) -> None:
    proposal = await world.proposed(world.to_target(properties=_STRANGE))
    expect(await world.contract(proposal, world.first) is not None, "the contract is not listed with its own content")


@scenario("Extra-Manager-Hash-2", "Take in large properties (RECOMMENDED limit: 1 MB)", "Core 4.2.2.2")
async def large_properties(world: World) -> None:
    await world.proposed(world.to_target(properties={"large": "x" * 900_000}))


@scenario("Extra-Manager-Hash-3", "Refuse JSON that names the same member twice", "Core 4.1.8, RFC 7493 2.3")
async def duplicate_member(world: World) -> None:
    proposal = Proposal.of(world.content(world.to_target()))
    signature = world.sign(world.first, proposal, "accept")
    iv = proposal.content["iv"]
    text = _json({"content": proposal.content, "signature": signature})
    twice = text.replace(f'"iv":"{iv}"', f'"iv":"{uuid.uuid4()}","iv":"{iv}"', 1)
    expect(twice != text, "the tester could not make the request")
    answer = await world.call(
        "POST",
        f"{world.manager}/v1/contracts",
        headers={"Fsc-Manager-Address": world.first.address, "Content-Type": "application/json"},
        content=twice.encode(),
    )
    expect_refused(answer, status=(400, 422))


@scenario("Extra-Manager-Hash-4", "Keep members that are not known, or take none of it", "Core 4.2.4, OpenAPI")
async def unknown_members(world: World) -> None:
    grant = world.to_target() | {"extension": {"of": "another"}}
    proposal = Proposal.of(world.content(grant, extension=[1, 2, 3]))
    answer = expect_status(await world.submit(world.first, proposal), 201, 400, 422)
    if answer.status == 201:
        expect(await world.contract(proposal, world.first), "it was taken in, but not as it was signed")


@scenario("Extra-Manager-Submit-1", "A contract that is submitted twice is there once", "Core 4.2.1, 4.4.1.2")
async def twice(world: World) -> None:
    proposal = await world.proposed(world.to_target())
    expect_status(await world.submit(world.first, proposal), 201)
    listed = await world.listed("/contracts", "contracts", grant_hash=proposal.grant_hash)
    expect(len(listed) == 1, f"the contract is listed {len(listed)} times")


@scenario("Extra-Manager-Submit-2", "Refuse a submission without Fsc-Manager-Address", "Core 4.4.4, OpenAPI")
async def no_address(world: World) -> None:
    proposal = Proposal.of(world.content(world.to_target()))
    body = {"content": proposal.content, "signature": world.sign(world.first, proposal, "accept")}
    expect_status(await world.call("POST", f"{world.manager}/v1/contracts", json=body), 400)


@scenario("Extra-Manager-Submit-3", "Refuse bodies that are no submission", "OpenAPI submitContract")
async def no_submission(world: World) -> None:
    proposal = Proposal.of(world.content(world.to_target()))
    signature = world.sign(world.first, proposal, "accept")
    for body in ({}, {"content": proposal.content}, {"signature": signature}, {"content": [], "signature": signature}):
        answer = await world.call(
            "POST",
            f"{world.manager}/v1/contracts",
            headers={"Fsc-Manager-Address": world.first.address, "Content-Type": "application/json"},
            content=_json(body).encode(),
        )
        expect_refused(answer, status=(400, 422))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

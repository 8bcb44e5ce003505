"""Manager: who gets in, and what nobody can make it do (Core 4.4.1.1, 4.2.3); none of it is in the suite."""

from __future__ import annotations

import ssl

from stelsel.steering.checks.fsc.client import Unreachable
from stelsel.steering.checks.fsc.contracts import publication
from stelsel.steering.checks.fsc.identities import Identity
from stelsel.steering.checks.fsc.model import NotRun, expect, scenario
from stelsel.steering.checks.fsc.world import World


async def _no_entry(world: World, identity: Identity | None) -> None:
    anchors = world.settings.trust_anchors
    context = identity.client_context(anchors) if identity else ssl.create_default_context(cafile=str(anchors))
    async with world.new_client(context) as client:
        for path in ("/peer", "/contracts"):
            try:
                answer = await world.call("GET", f"{world.manager}/v1{path}", client=client)
            except Unreachable:
                continue
            expect(400 <= answer.status < 500, f"{path} answered with status {answer.status}")


@scenario("Extra-Manager-Authentication-1", "Refuse a client without a certificate", "Core 4.4.1.1")
async def no_certificate(world: World) -> None:
    await _no_entry(world, None)


@scenario("Extra-Manager-Authentication-2", "Refuse a client under another trust anchor", "Core 4.4.1.1, 4.1.5")
async def untrusted(world: World) -> None:
    await _no_entry(world, world.stranger)


@scenario(
    "Extra-Manager-Authentication-3", "Refuse a client whose certificate has expired", "Core 4.4.1.1, RFC 5280 6.1.3"
)
async def expired(world: World) -> None:
    await _no_entry(world, world.identities["first-expired"])


@scenario(
    "Extra-Manager-Publish-1",
    "Let nobody make this peer publish a service by itself",
    "Core 4.2.1.2, 4.2.3",
    note="A directory may accept publications of others by itself. To be the provider is its own choice.",
)
async def no_provider_against_its_will(world: World) -> None:
    if not world.hooks.asked:
        raise NotRun("the target accepts every contract by itself")
    name = world.settings.target.delegated_service
    grant = publication(world.target_id, world.target_id, name, delegator=world.second.peer_id)
    proposal = await world.proposed(grant, by=world.second)
    found = await world.signature(proposal, world.second, "accept", world.target_id)
    expect(found is None, "the target became the provider of a published service without being asked")

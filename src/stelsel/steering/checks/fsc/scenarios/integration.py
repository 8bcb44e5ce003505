"""The whole chain, from contract to answer, in both directions: the target consumes, and the target provides.

The suite does not say who consumes and who provides. The tester is the other party, so that nothing needs a second
node of the same make: each scenario passes when it holds with the target on either side.
"""

from __future__ import annotations

from stelsel.base.ids import uuid7
from stelsel.steering.checks.fsc.contracts import Proposal, publication
from stelsel.steering.checks.fsc.model import expect, expect_status, expect_token_error, scenario
from stelsel.steering.checks.fsc.scenarios.manager_tokens import delegated_publication
from stelsel.steering.checks.fsc.world import World

_BOTH = ("inway", "outway")


async def _consumed(world: World, **options: str) -> None:
    """A service of the first peer through the target's outway; the target's service through its inway."""
    outgoing = await world.valid(world.from_target(await world.outway_thumbprint(), **options))
    answer = expect_status(await world.through_outway(outgoing.grant_hash, path="/chain"), 200).object()
    expect(answer.get("path") == "/chain", "the answer of the first peer's service did not arrive")
    incoming = await world.valid(world.to_target(**options))
    token = await world.token(incoming.grant_hash)
    answer = expect_status(await world.through_inway(token, path="/chain"), 200).object()
    expect(answer.get("path") == "/chain", "the answer of the target's service did not arrive")


@scenario("Integration-ConsumeService-1", "Consume a service", "Core 3.5, 3.7", needs=_BOTH)
async def consume(world: World) -> None:
    await _consumed(world)


@scenario(
    "Integration-ConsumeService-2", "Consume a service without a valid contract", "Core 3.7, 4.4.1.6", needs=_BOTH
)
async def no_contract(world: World) -> None:
    thumbprint = await world.outway_thumbprint()
    outgoing = [
        Proposal.of(world.content(world.from_target(thumbprint))),
        await world.proposed(world.from_target(thumbprint, delegator=world.second.peer_id)),
    ]
    revoked = await world.valid(world.from_target(thumbprint))
    expect_status(await world.place(world.first, revoked, "revoke"), 201)
    for proposal in (*outgoing, revoked):
        answer = await world.through_outway(proposal.grant_hash)
        expect(answer.status >= 400, f"the outway answered with status {answer.status}")
    expect(not world.inway.seen, "a request reached the inway of the first peer")
    incoming = await world.proposed(world.to_target(delegator=world.second.peer_id))
    expect_token_error(await world.ask_token(incoming.grant_hash))


@scenario(
    "Integration-ConsumeServiceAsDelegatee-1",
    "Consume a service with a DelegatedServiceConnectionGrant",
    "Core 3.6.1, 3.7",
    needs=_BOTH,
)
async def as_delegatee(world: World) -> None:
    await _consumed(world, delegator=world.second.peer_id)


async def _on_behalf(world: World) -> None:
    """A service of the first peer, and one of the target, are published on behalf of the third."""
    grant = publication(world.first.peer_id, world.target_id, "fsc-check-of-tester", delegator=world.third.peer_id)
    await world.kept("published on behalf", lambda: world.valid(grant))
    await delegated_publication(world)


@scenario(
    "Integration-ConsumeDelegatedService-1",
    "Consume a service with a ServiceConnectionGrant containing a delegator",
    "Core 3.5, 3.7",
    needs=_BOTH,
)
async def delegated(world: World) -> None:
    await _on_behalf(world)
    await _consumed(world, service_delegator=world.third.peer_id)


@scenario(
    "Integration-ConsumeDelegatedService-2",
    "Consume a service with a DelegatedServiceConnectionGrant containing a delegator",
    "Core 3.6.2, 3.7",
    needs=_BOTH,
)
async def delegated_as_delegatee(world: World) -> None:
    await _on_behalf(world)
    await _consumed(world, delegator=world.second.peer_id, service_delegator=world.third.peer_id)


@scenario(
    "Integration-TransactionLog-1", "Create transaction log records", "Logging 2.3, 3.3.1.1, 3.4.1.1", needs=_BOTH
)
async def both_logged(world: World) -> None:
    outgoing = await world.valid(world.from_target(await world.outway_thumbprint()))
    answer = expect_status(await world.through_outway(outgoing.grant_hash), 200)
    transaction = world.inway.seen[-1].headers.get("fsc-transaction-id", "")
    expect(
        answer.headers.get("fsc-transaction-id") == transaction, "client and inway received different transaction ids"
    )
    found = await world.log_record(transaction, "DIRECTION_OUTGOING")
    expect(found is not None, "the target as consumer has no record with the transaction id that the inway received")
    incoming, transaction = await world.usual(), uuid7()
    token = await world.token(incoming.grant_hash)
    expect_status(await world.through_inway(token, transaction_id=transaction), 200)
    found = await world.log_record(transaction, "DIRECTION_INCOMING")
    expect(found is not None, "the target as provider has no record with the transaction id that the outway sent")

"""Manager: signatures that the suite does not try, and what the target itself signs and sends (Core 4.2.3, 4.4.1.3)."""

from __future__ import annotations

import time

from stelsel.steering.checks.fsc.contracts import Proposal
from stelsel.steering.checks.fsc.documents import Jws
from stelsel.steering.checks.fsc.model import expect, expect_refused, expect_status, scenario
from stelsel.steering.checks.fsc.world import World

_FAILED = "ERROR_CODE_SIGNATURE_VERIFICATION_FAILED"
_OTHER_PEER = "ERROR_CODE_PEER_ID_SIGNATURE_MISMATCH"


def _fresh(world: World) -> Proposal:
    return Proposal.of(world.content(world.to_target()))


@scenario("Extra-Manager-Signature-3", "Refuse a signature by another peer than the submitter", "Core 4.4.5.3")
async def by_another_peer(world: World) -> None:
    # The second peer is on the contract and did sign; but it is the first that brings this signature.
    proposal = Proposal.of(world.content(world.to_target(delegator=world.second.peer_id)))
    signed = world.sign(world.second, proposal, "accept")
    world.first.shown.append(world.second.identity)
    try:
        expect_refused(await world.submit(world.first, proposal, signed), (_OTHER_PEER, _FAILED))
    finally:
        world.first.shown.remove(world.second.identity)


@scenario("Extra-Manager-Signature-4", "Refuse a signature that names no certificate", "Core 4.2.3")
async def no_thumbprint(world: World) -> None:
    proposal = _fresh(world)
    signed = world.sign(world.first, proposal, "accept", header={"x5t#S256": None})
    expect_refused(await world.submit(world.first, proposal, signed), _FAILED)


@scenario("Extra-Manager-Signature-5", "Refuse a certificate that the peer does not show", "Core 4.4.1.4, 4.4.5.3")
async def not_shown(world: World) -> None:
    proposal = _fresh(world)
    signed = world.sign(world.identities["first-hidden"], proposal, "accept")
    expect_refused(await world.submit(world.first, proposal, signed), _FAILED)


@scenario("Extra-Manager-Signature-6", "Refuse a certificate under another trust anchor", "Core 4.1.5, 4.2.3")
async def untrusted(world: World) -> None:
    proposal = _fresh(world)
    world.first.shown.append(world.stranger)
    try:
        signed = world.sign(world.stranger, proposal, "accept")
        expect_refused(await world.submit(world.first, proposal, signed), _FAILED)
    finally:
        world.first.shown.remove(world.stranger)


@scenario("Extra-Manager-Signature-7", "Refuse a signature by a certificate that has expired", "Core 4.2.7")
async def expired_certificate(world: World) -> None:
    proposal = _fresh(world)
    signed = world.sign(world.identities["first-expired"], proposal, "accept")
    expect_refused(await world.submit(world.first, proposal, signed), _FAILED)


@scenario("Extra-Manager-Signature-8", "Refuse one key's signature under another certificate's name", "Core 4.2.3")
async def wrong_key(world: World) -> None:
    proposal, other = _fresh(world), world.identities["first-other"]
    signed = world.sign(world.first, proposal, "accept", header={"x5t#S256": other.thumbprint})
    expect_refused(await world.submit(world.first, proposal, signed), _FAILED)


@scenario("Extra-Manager-Signature-9", "Refuse a signature without signed_at, or from the future", "Core 4.2.3.1")
async def when_signed(world: World) -> None:
    proposal = _fresh(world)
    for moment in (None, "today", 32503680000):
        signed = world.sign(world.first, proposal, "accept", signed_at=moment)
        expect_refused(await world.submit(world.first, proposal, signed), status=(400, 422))


@scenario(
    "Extra-Manager-Signature-10", "Refuse to submit with a signature that is not accept", "OpenAPI submitContract"
)
async def submit_rejecting(world: World) -> None:
    proposal = _fresh(world)
    for kind in ("reject", "revoke"):
        expect_refused(
            await world.submit(world.first, proposal, world.sign(world.first, proposal, kind)), status=(400, 422)
        )


@scenario("Extra-Manager-Signature-11", "Refuse a critical header that is not understood", "RFC 7515 4.1.11")
async def critical_header(world: World) -> None:
    proposal = _fresh(world)
    signed = world.sign(world.first, proposal, "accept", header={"crit": ["urgent"], "urgent": True})
    expect_refused(await world.submit(world.first, proposal, signed), _FAILED)


@scenario("Extra-Manager-Signature-12", "Refuse a hash in the URL of an unsupported algorithm", "Core 4.4.5.3")
async def unknown_hash_in_path(world: World) -> None:
    proposal = await world.proposed(world.to_target(delegator=world.second.peer_id), by=world.second)
    answer = await world.place(world.first, proposal, "accept", path_hash="$2" + proposal.hash[2:])
    codes = ("ERROR_CODE_UNKNOWN_HASH_ALGORITHM_HASH", "ERROR_CODE_URL_PATH_CONTENT_HASH_MISMATCH")
    expect_refused(answer, codes)


@scenario("Extra-Manager-Signature-13", "The same signature twice is harmless", "Core 4.4.1.3")
async def twice(world: World) -> None:
    proposal = await world.proposed(world.to_target(delegator=world.second.peer_id), by=world.second)
    signed = world.sign(world.first, proposal, "accept")
    for _ in range(2):
        expect_status(await world.place(world.first, proposal, "accept", signed), 201)
    found = await world.signature(proposal, world.first, "accept", world.first.peer_id)
    expect(found == signed, "the signature is not on the contract")


@scenario("Extra-Manager-Signature-14", "A renewed accept signature takes the place of the old one", "Core 4.2.7")
async def renewed(world: World) -> None:
    proposal = await world.valid(world.to_target())
    signed = world.sign(world.identities["first-other"], proposal, "accept", signed_at=int(time.time()))
    expect_status(await world.place(world.first, proposal, "accept", signed), 201)
    found = await world.signature(proposal, world.first, "accept", world.first.peer_id)
    expect(found == signed, "the contract holds the old signature still")
    await world.token(proposal.grant_hash)


@scenario("Extra-Manager-Signature-15", "What was revoked does not come back by accepting again", "Core 3.2.1")
async def accept_after_revoke(world: World) -> None:
    proposal = await world.valid(world.to_target())
    expect_status(await world.place(world.first, proposal, "revoke"), 201)
    await world.place(world.first, proposal, "accept")
    answer = await world.ask_token(proposal.grant_hash)
    expect(answer.status >= 400, "a token was given under a revoked contract")


@scenario(
    "Extra-Manager-Propagate-1", "The target's signature reaches every peer on the contract", "Core 4.4.1.3, 4.4.4"
)
async def propagated(world: World) -> None:
    grant = world.to_target(delegator=world.second.peer_id, service_delegator=world.third.peer_id)
    proposal = await world.valid(grant)
    shown = await world.signature(proposal, world.first, "accept", world.target_id)
    for peer in world.peers.values():
        brought = await world.until(
            lambda peer=peer: peer.signatures(proposal.hash, "accept"),  # type: ignore[misc]
            f"the target did not send its accept signature to the {peer.name} peer",
        )
        seen, signature = brought[-1]
        expect(seen.certificate_peer_id == world.target_id, "it came with the certificate of another peer")
        expect(signature == shown, "the target sent another signature than it shows")
        address = seen.headers.get("fsc-manager-address", "")
        expect(address.rstrip("/") == world.manager, f"Fsc-Manager-Address is {address!r} instead of {world.manager}")


@scenario("Extra-Manager-Propagate-2", "The target's own signature keeps to the standard", "Core 4.2.3, 4.2.4")
async def own_signature(world: World) -> None:
    proposal = await world.usual()
    compact = await world.signature(proposal, world.first, "accept", world.target_id)
    try:
        signed = Jws.read(str(compact))
    except (ValueError, TypeError):
        expect(False, "the target's signature is not a compact JWS")
        return
    expect(await world.holds(signed), "the signature is not by a certificate that the target shows")
    payload = signed.payload
    expect(payload.get("contract_content_hash") == proposal.hash, "it is not for the content hash of this contract")
    expect(payload.get("type") == "accept", f"its type is {payload.get('type')!r}")
    expect(isinstance(payload.get("signed_at"), int), "it has no signed_at")

"""Manager: submitting contracts, and placing signatures on them (Core 4.2, 4.4.1.2, 4.4.1.3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from stelsel.steering.checks.fsc.contracts import Json, Proposal, publication
from stelsel.steering.checks.fsc.counterparty import Peer
from stelsel.steering.checks.fsc.documents import base64url, jcs
from stelsel.steering.checks.fsc.model import expect, expect_refused, expect_status, scenario
from stelsel.steering.checks.fsc.world import World

# The OpenAPI has one code where the table of Core 4.4.5.3 has two; both are right by one of them.
NOT_SUBMITTER = ("ERROR_CODE_SUBMITTING_PEER_NOT_PART_OF_CONTRACT", "ERROR_CODE_PEER_NOT_PART_OF_CONTRACT")
NOT_RECEIVER = ("ERROR_CODE_RECEIVING_PEER_NOT_PART_OF_CONTRACT", "ERROR_CODE_PEER_NOT_PART_OF_CONTRACT")
_DELEGATED = "Core 3.6.1, 4.2.1.4"


async def _taken(world: World, grant: Json, by: Peer | None = None) -> None:
    """The contract is taken in, and the target lists it with the submitter's signature."""
    submitter = by or world.first
    proposal = await world.proposed(grant, by=submitter)
    listed = await world.contract(proposal, submitter)
    expect(listed is not None, "the target does not list the contract that it took in")
    accepted = (listed or {}).get("signatures", {}).get("accept", {})
    expect(submitter.peer_id in accepted, "the submitter's accept signature is not on the contract")


@scenario("Manager-SubmitContract-1", "Submit a contract with a ServiceConnectionGrant", "Core 4.2.1.3")
async def submit_connection(world: World) -> None:
    await _taken(world, world.to_target())


@scenario("Manager-SubmitContract-2", "Submit a contract with a ServicePublicationGrant", "Core 4.2.1.1")
async def submit_publication(world: World) -> None:
    await _taken(world, publication(world.first.peer_id, world.target_id, "submitted"))


@scenario("Manager-SubmitContract-3", "Submit a contract with a DelegatedServicePublicationGrant", "Core 4.2.1.2")
async def submit_delegated_publication(world: World) -> None:
    first, second = world.first, world.second
    await _taken(world, publication(first.peer_id, world.target_id, "submitted-delegated", delegator=second.peer_id))


@scenario("Manager-SubmitContract-4", "Submit a contract with a DelegatedServiceConnectionGrant", _DELEGATED)
async def submit_delegated_connection(world: World) -> None:
    await _taken(world, world.to_target(delegator=world.second.peer_id))


@scenario(
    "Manager-SubmitContract-5",
    "Submit a contract with a ServiceConnectionGrant containing a delegated service",
    "Core 3.5, 4.2.1.3",
)
async def submit_connection_to_delegated(world: World) -> None:
    await _taken(world, world.to_target(service_delegator=world.third.peer_id))


@scenario(
    "Manager-SubmitContract-6",
    "Submit a contract with a DelegatedServiceConnectionGrant containing a delegated service",
    "Core 3.6.2, 4.2.1.4",
)
async def submit_delegated_to_delegated(world: World) -> None:
    await _taken(world, world.to_target(delegator=world.second.peer_id, service_delegator=world.third.peer_id))


@scenario("Manager-SubmitContract-7", "Submit a contract without being a peer on it", "Core 4.2.3, 4.4.5.3")
async def submit_of_others(world: World) -> None:
    proposal = Proposal.of(world.content(world.to_target(by=world.second)))
    expect_refused(await world.submit(world.first, proposal), NOT_SUBMITTER)
    expect(await world.contract(proposal, world.second) is None, "the contract is listed all the same")


@scenario("Manager-SubmitContract-8", "Submit a ServicePublicationGrant with any other grant", "Core 4.2.1, 4.4.5.3")
async def submit_mixed(world: World) -> None:
    grants = publication(world.first.peer_id, world.target_id, "mixed"), world.to_target()
    for mixed in (grants, grants[::-1]):
        proposal = Proposal.of(world.content(*mixed))
        expect_refused(await world.submit(world.first, proposal), "ERROR_CODE_GRANT_COMBINATION_NOT_ALLOWED")


@scenario("Manager-SubmitContract-9", "Submit a contract of another group", "Core 4.2.1, 4.4.5.3")
async def submit_other_group(world: World) -> None:
    proposal = Proposal.of(world.content(world.to_target(), group_id="another-group"))
    expect_refused(await world.submit(world.first, proposal), "ERROR_CODE_INCORRECT_GROUP_ID")


@scenario(
    "Manager-SubmitContract-10",
    "Submit a contract with a content hash of an unsupported hash algorithm",
    "Core 4.2.6.3, 4.4.5.3",
)
async def submit_unknown_hash(world: World) -> None:
    code = "ERROR_CODE_UNKNOWN_HASH_ALGORITHM_HASH"
    proposal = Proposal.of(world.content(world.to_target(), hash_algorithm="HASH_ALGORITHM_SHA3_1024"))
    signed = world.sign(world.first, proposal, "accept", contract_content_hash="$2" + proposal.hash[2:])
    expect_refused(await world.submit(world.first, proposal, signed), code)
    proposal = Proposal.of(world.content(world.to_target()))
    signed = world.sign(world.first, proposal, "accept", contract_content_hash="$2" + proposal.hash[2:])
    expect_refused(await world.submit(world.first, proposal, signed), code)


async def _submit_signed_with(world: World, name: str, algorithm: str) -> None:
    proposal = Proposal.of(world.content(world.to_target()))
    signed = world.sign(world.identities[name], proposal, "accept", header={"alg": algorithm})
    expect_status(await world.submit(world.first, proposal, signed), 201)
    found = await world.signature(proposal, world.first, "accept", world.first.peer_id)
    expect(found == signed, "the contract is not listed with this signature")


@scenario("Manager-SubmitContract-11", "Submit a contract signed with an RSA algorithm", "Core 4.2.3")
async def submit_rsa(world: World) -> None:
    await _submit_signed_with(world, "first-rsa", "RS256")


@scenario("Manager-SubmitContract-12", "Submit a contract signed with an ECDSA algorithm", "Core 4.2.3")
async def submit_ecdsa(world: World) -> None:
    await _submit_signed_with(world, "first", "ES256")


@scenario("Extra-Manager-Signature-1", "Submit contracts signed with RS384 and RS512", "Core 4.2.3")
async def submit_longer_rsa(world: World) -> None:
    await _submit_signed_with(world, "first-rsa", "RS384")
    await _submit_signed_with(world, "first-rsa", "RS512")


@scenario("Extra-Manager-Signature-2", "Submit contracts signed with ES384 and ES512", "Core 4.2.3")
async def submit_longer_ecdsa(world: World) -> None:
    await _submit_signed_with(world, "first-p384", "ES384")
    await _submit_signed_with(world, "first-p521", "ES512")


# -- the same seven scenarios for each type of signature ---------------------------------------------------------------

Prepare = Callable[[World], Awaitable[Proposal]]


async def _waiting(world: World) -> Proposal:
    """A contract of three peers that the second proposed: the first has signed nothing yet."""
    return await world.proposed(world.to_target(delegator=world.second.peer_id), by=world.second)


async def _in_force(world: World) -> Proposal:
    return await world.valid(world.to_target())


async def _of_others(world: World) -> Proposal:
    return await world.kept("of others", lambda: world.valid(world.to_target(by=world.second), by=world.second))


async def _is_placed(world: World, prepare: Prepare, kind: str, name: str = "first", alg: str | None = None) -> None:
    proposal = await prepare(world)
    signer = world.identities[name]
    signed = world.sign(signer, proposal, kind, header={"alg": alg or signer.algorithm})
    expect_status(await world.place(world.first, proposal, kind, signed), 201)
    found = await world.signature(proposal, world.first, kind, world.first.peer_id)
    expect(found == signed, f"the contract does not contain the {kind} signature")


async def _not_placed(world: World, proposal: Proposal, kind: str) -> None:
    found = await world.signature(proposal, world.first, kind, world.first.peer_id)
    expect(found is None, f"the {kind} signature was placed all the same")


async def _no_peer(world: World, kind: str) -> None:
    proposal = await _of_others(world)
    answer = await world.place(world.first, proposal, kind)
    expect_refused(answer, NOT_SUBMITTER)
    listed = await world.contract(proposal, world.second) or {}
    placed = listed.get("signatures", {}).get(kind, {})
    expect(world.first.peer_id not in placed, f"the {kind} signature was placed all the same")


async def _no_jws(world: World, prepare: Prepare, kind: str) -> None:
    proposal = await prepare(world)
    good = world.sign(world.first, proposal, kind)
    for bad in ("not a JWS", good.rpartition(".")[0], good[:-12] + ("A" * 12), "e30.e30.e30"):
        answer = await world.place(world.first, proposal, kind, bad)
        codes = ("ERROR_CODE_SIGNATURE_VERIFICATION_FAILED", "ERROR_CODE_UNKNOWN_ALGORITHM_SIGNATURE")
        expect_refused(answer, codes if bad.startswith("e30") else codes[0])
    await _not_placed(world, proposal, kind)


async def _other_content(world: World, prepare: Prepare, kind: str) -> None:
    proposal, other = await prepare(world), Proposal.of(world.content(world.to_target()))
    answer = await world.place(world.first, proposal, kind, world.sign(world.first, other, kind))
    expect_refused(answer, "ERROR_CODE_SIGNATURE_CONTRACT_CONTENT_HASH_MISMATCH")
    await _not_placed(world, proposal, kind)


async def _other_type(world: World, prepare: Prepare, kind: str) -> None:
    proposal = await prepare(world)
    others = [other for other in ("accept", "reject", "revoke", "Accept", "") if other != kind]
    for other in others:
        answer = await world.place(world.first, proposal, kind, world.sign(world.first, proposal, other))
        expect_refused(answer, status=(400, 422))
    await _not_placed(world, proposal, kind)


async def _other_path(world: World, prepare: Prepare, kind: str) -> None:
    proposal, other = await prepare(world), Proposal.of(world.content(world.to_target()))
    answer = await world.place(world.first, proposal, kind, path_hash=other.hash)
    expect_refused(answer, "ERROR_CODE_URL_PATH_CONTENT_HASH_MISMATCH")
    await _not_placed(world, proposal, kind)


async def _unknown_algorithm(world: World, prepare: Prepare, kind: str) -> None:
    proposal = await prepare(world)
    tail = world.sign(world.first, proposal, kind).partition(".")[2]
    for algorithm in ("PS256", "EdDSA", "HS256", "none"):
        header = _encoded({"alg": algorithm, "x5t#S256": world.first.identity.thumbprint})
        answer = await world.place(world.first, proposal, kind, f"{header}.{tail}")
        expect_refused(answer, "ERROR_CODE_UNKNOWN_ALGORITHM_SIGNATURE")
    await _not_placed(world, proposal, kind)


def _encoded(header: Json) -> str:
    return base64url(jcs(header))


def _register(kind: str, prepare: Prepare) -> None:
    """The scenarios 1 to 7 of AcceptContract, RejectContract and RevokeContract."""
    suite, one = f"Manager-{kind.capitalize()}Contract", f"an {kind}" if kind == "accept" else f"a {kind}"
    tried: list[tuple[str, str, Callable[[World], Awaitable[None]]]] = [
        (f"Place {one} signature on a contract", "Core 3.2.1, 4.2.3", lambda w: _is_placed(w, prepare, kind)),
        (f"Place {one} signature without being a peer on the contract", "Core 4.2.3", lambda w: _no_peer(w, kind)),
        (f"Place {one} signature that is not a valid JWS", "Core 4.2.3", lambda w: _no_jws(w, prepare, kind)),
        (
            f"Place {one} signature whose content hash is of another contract",
            "Core 4.2.4",
            lambda w: _other_content(w, prepare, kind),
        ),
        (f"Place a signature that is not of the type {kind}", "Core 4.2.3.2", lambda w: _other_type(w, prepare, kind)),
        (
            f"Place {one} signature under another hash in the URL",
            "Core 4.4.5.3",
            lambda w: _other_path(w, prepare, kind),
        ),
        (
            f"Place {one} signature with an unsupported algorithm",
            "Core 4.2.3, 4.4.5.3",
            lambda w: _unknown_algorithm(w, prepare, kind),
        ),
    ]
    for number, (title, clause, run) in enumerate(tried, 1):
        scenario(f"{suite}-{number}", title, clause)(run)
    if kind == "accept":
        scenario(f"{suite}-8", "Place an accept signature made with RSA", "Core 4.2.3")(
            lambda w: _is_placed(w, prepare, kind, "first-rsa", "RS512")
        )
        scenario(f"{suite}-9", "Place an accept signature made with ECDSA", "Core 4.2.3")(
            lambda w: _is_placed(w, prepare, kind, "first-p384", "ES384")
        )


_register("accept", _waiting)
_register("reject", _waiting)
_register("revoke", _in_force)

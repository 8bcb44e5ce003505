"""Manager: access tokens (Core 4.3, 4.4.1.6, 4.4.5.1)."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from stelsel.steering.checks.fsc.contracts import Json, Proposal, by_domain, by_key, connection, publication
from stelsel.steering.checks.fsc.documents import ALGORITHMS, Jws
from stelsel.steering.checks.fsc.identities import DOMAIN
from stelsel.steering.checks.fsc.model import expect, expect_status, expect_token_error, scenario
from stelsel.steering.checks.fsc.world import LAWFUL_PROPERTIES, World


async def _given(world: World, proposal: Proposal) -> Json:
    """The claims of a token that is given under a contract, checked as far as they are the same for each kind."""
    compact = await world.token(proposal.grant_hash)
    header, claims = Jws.read(compact).header, await world.claims(compact)
    expect(header.get("alg") in ALGORITHMS, f"alg is {header.get('alg')!r}")
    wanted = {
        "gth": proposal.grant_hash,
        "gid": world.settings.group_id,
        "iss": world.target_id,
        "svc": proposal.grant["service"]["name"],
        "cnf": {"x5t#S256": world.first.identity.thumbprint},
    }
    for name, value in wanted.items():
        expect(claims.get(name) == value, f"the claim {name} is {claims.get(name)!r} instead of {value!r}")
    now = time.time()
    expect(isinstance(claims.get("exp"), int) and claims["exp"] > now, "exp is not in the future")
    expect(isinstance(claims.get("nbf"), int) and claims["nbf"] <= now + 5, "nbf has not passed")
    audience = urlsplit(str(claims.get("aud")))
    expect(audience.scheme == "https" and audience.port, f"aud is {claims.get('aud')!r}: it must have scheme and port")
    inway = world.settings.target.inway
    expect(inway is None or claims["aud"].rstrip("/") == inway.rstrip("/"), f"aud is {claims['aud']!r}, not the inway")
    expect(proposal.grant.get("properties") == claims.get("prp"), f"the claim prp is {claims.get('prp')!r}")
    delegator = proposal.grant.get("delegator", {}).get("peer_id")
    if delegator is None:
        expect(claims.get("sub") == world.first.peer_id, f"the claim sub is {claims.get('sub')!r}")
        expect("act" not in claims, "the claim act is there without a delegator")
    else:
        # 4.3.1: the sentence puts the delegator in act.sub, the example the delegatee; both name both.
        named = {claims.get("sub"), (claims.get("act") or {}).get("sub")}
        expect(
            named == {world.first.peer_id, delegator}, f"sub and act.sub do not name delegatee and delegator: {named}"
        )
    behind = proposal.grant["service"].get("delegator", {}).get("peer_id")
    expect(claims.get("pdi") == behind, f"the claim pdi is {claims.get('pdi')!r} instead of {behind!r}")
    return claims


@scenario("Manager-GetToken-1", "Request an access token with a valid contract", "Core 4.3.1, 4.4.1.6")
async def valid(world: World) -> None:
    await _given(world, await world.usual())


@scenario("Manager-GetToken-2", "Request an access token without a valid contract", "Core 4.4.1.6")
async def not_valid(world: World) -> None:
    proposal = await world.proposed(world.to_target(delegator=world.second.peer_id))
    expect_token_error(await world.ask_token(proposal.grant_hash))
    unknown = Proposal.of(world.content(world.to_target()))
    expect_token_error(await world.ask_token(unknown.grant_hash))


@scenario(
    "Manager-GetToken-3",
    "Request an access token when the contract has been revoked",
    "Core 3.2.1, 4.4.1.6",
    note="The suite prints that a token is given; 3.2.1 makes a revoked contract invalid, 4.4.1.6 asks a valid one.",
)
async def revoked(world: World) -> None:
    proposal = await world.valid(world.to_target())
    await world.token(proposal.grant_hash)
    expect_status(await world.place(world.first, proposal, "revoke"), 201)
    expect_token_error(await world.ask_token(proposal.grant_hash))


@scenario("Manager-GetToken-4", "Request an access token with a malformed grant hash", "Core 4.2.5, RFC 6749 5.2")
async def malformed(world: World) -> None:
    good = (await world.usual()).grant_hash
    for scope in ("hash", good[:-10], good + "==", "$1$9$" + good[5:], "$" * 20, "x" * 2000):
        expect_token_error(await world.ask_token(scope))


@scenario(
    "Manager-GetToken-5", "Request an access token with another grant_type than client_credentials", "RFC 6749 5.2"
)
async def grant_type(world: World) -> None:
    hashed = (await world.usual()).grant_hash
    for kind in ("authorization_code", "password", "Client_Credentials"):
        expect_token_error(await world.ask_token(hashed, grant_type=kind), "unsupported_grant_type")


@scenario(
    "Manager-GetToken-6", "Request an access token under a DelegatedServiceConnectionGrant", "Core 4.3.1, 4.4.1.6"
)
async def delegated(world: World) -> None:
    await _given(world, await world.valid(world.to_target(delegator=world.second.peer_id)))


@scenario(
    "Manager-GetToken-7", "Request an access token for a service offered on behalf of another", "Core 4.3.1, 4.4.1.6"
)
async def delegated_service(world: World) -> None:
    await delegated_publication(world)
    await _given(world, await world.valid(world.to_target(service_delegator=world.third.peer_id)))


async def delegated_publication(world: World) -> None:
    """The target's second service is published on behalf of the third peer."""
    name = world.settings.target.delegated_service
    grant = publication(world.target_id, world.target_id, name, delegator=world.third.peer_id)
    await world.kept("delegated publication", lambda: world.valid(grant, by=world.third))


@scenario("Manager-GetToken-8", "Request an access token without client_id", "Core 4.6.1.3, RFC 6749 5.2")
async def no_client(world: World) -> None:
    hashed = (await world.usual()).grant_hash
    expect_token_error(await world.ask_token(hashed, client_id=None), "invalid_request", "invalid_client")


@scenario("Manager-GetToken-9", "Request an access token with another's client_id", "Core 4.4.1.6, RFC 6749 5.2")
async def other_client(world: World) -> None:
    hashed = (await world.usual()).grant_hash
    for client in (world.second.peer_id, world.target_id, "nobody"):
        answer = await world.ask_token(hashed, client_id=client)
        expect_token_error(answer, "invalid_client", "invalid_request", "unauthorized_client")


@scenario("Manager-GetToken-10", "Request an access token under a grant with properties", "Core 4.2.2.1, 4.3.1")
async def properties(world: World) -> None:
    await _given(world, await world.valid(world.to_target(properties=LAWFUL_PROPERTIES)))


@scenario(
    "Manager-GetToken-11", "Request an access token under a delegated grant with properties", "Core 4.2.2.1, 4.3.1"
)
async def delegated_properties(world: World) -> None:
    grant = world.to_target(delegator=world.second.peer_id, properties=LAWFUL_PROPERTIES)
    await _given(world, await world.valid(grant))


# -- what the suite lacks ----------------------------------------------------------------------------------------------


@scenario(
    "Extra-Manager-GetToken-12", "Give a token for a delegated connection to a delegated service", "Core 3.6.2, 4.3.1"
)
async def all_four(world: World) -> None:
    grant = world.to_target(delegator=world.second.peer_id, service_delegator=world.third.peer_id)
    await _given(world, await world.valid(grant))


@scenario("Extra-Manager-GetToken-13", "Give no token to another key of the same peer", "Core 4.4.1.6")
async def other_key(world: World) -> None:
    hashed = (await world.usual()).grant_hash
    expect_token_error(await world.ask_token(hashed, identity=world.identities["first-other"]))


@scenario("Extra-Manager-GetToken-14", "Give a token to an outway by its domain name, and to no other", "Core 4.4.1.6")
async def by_name(world: World) -> None:
    proposal = await world.valid(world.to_target(identification=by_domain(DOMAIN)))
    named = world.identities["first-domain"]
    claims = await world.claims(await world.token(proposal.grant_hash, identity=named))
    expect(
        claims.get("cnf") == {"x5t#S256": named.thumbprint}, "the token is not bound to the certificate that asked it"
    )
    expect_token_error(await world.ask_token(proposal.grant_hash))


@scenario("Extra-Manager-GetToken-15", "Give no token under a contract of others", "Core 4.4.1.6")
async def of_others(world: World) -> None:
    proposal = await world.kept("of others", lambda: world.valid(world.to_target(by=world.second), by=world.second))
    expect_token_error(await world.ask_token(proposal.grant_hash))


@scenario("Extra-Manager-GetToken-16", "Give a delegator no token: it does not connect", "Core 4.4.1.6")
async def to_the_delegator(world: World) -> None:
    proposal = await world.valid(world.to_target(delegator=world.second.peer_id))
    expect_token_error(await world.ask_token(proposal.grant_hash, identity=world.second.identity))


@scenario("Extra-Manager-GetToken-17", "Give no token before the contract begins", "Core 3.2.1, 4.4.1.6")
async def not_begun(world: World) -> None:
    now = int(time.time())
    proposal = await world.valid(world.to_target(), validity={"not_before": now + 3600, "not_after": now + 7200})
    expect_token_error(await world.ask_token(proposal.grant_hash))


@scenario("Extra-Manager-GetToken-18", "Give no token under a contract that a peer rejected", "Core 3.2.1, 4.4.1.6")
async def rejected(world: World) -> None:
    proposal = await world.proposed(world.to_target(delegator=world.second.peer_id))
    expect_status(await world.place(world.second, proposal, "reject"), 201)
    expect_token_error(await world.ask_token(proposal.grant_hash))


@scenario("Extra-Manager-GetToken-19", "Give no token when a delegator has revoked", "Core 3.2.1, 4.4.1.6")
async def revoked_by_delegator(world: World) -> None:
    proposal = await world.valid(world.to_target(delegator=world.second.peer_id))
    await world.token(proposal.grant_hash)
    expect_status(await world.place(world.second, proposal, "revoke"), 201)
    expect_token_error(await world.ask_token(proposal.grant_hash))


@scenario("Extra-Manager-GetToken-20", "Give no token under a publication, or under a content hash", "Core 4.4.1.6")
async def no_connection(world: World) -> None:
    proposal = await world.valid(publication(world.first.peer_id, world.target_id, "no-connection"))
    expect_token_error(await world.ask_token(proposal.grant_hash))
    expect_token_error(await world.ask_token((await world.usual()).hash))


@scenario("Extra-Manager-GetToken-21", "Refuse a token request without scope or grant_type", "RFC 6749 5.2")
async def incomplete(world: World) -> None:
    hashed = (await world.usual()).grant_hash
    expect_token_error(await world.ask_token(hashed, grant_type=None), "invalid_request", "unsupported_grant_type")
    expect_token_error(await world.ask_token(hashed, scope=None), "invalid_request", "invalid_scope")


@scenario("Extra-Manager-GetToken-22", "Give no token for a service that another peer provides", "Core 4.4.1.6")
async def of_another_provider(world: World) -> None:
    # The target is on the contract, but as the delegator: the first peer provides.
    second = world.second
    outway = by_key(second.identity.key_thumbprint)
    grant = connection(second.peer_id, outway, world.first.peer_id, "elsewhere", delegator=world.target_id)
    proposal = await world.valid(grant, by=second)
    expect_token_error(await world.ask_token(proposal.grant_hash, identity=second.identity))

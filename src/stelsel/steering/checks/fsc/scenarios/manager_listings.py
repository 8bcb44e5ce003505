"""Manager: what it lists of contracts, services, peers, keys and transactions (Core 4.4.1, Logging 3.2)."""

from __future__ import annotations

import base64
import time
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from stelsel.base.ids import uuid7
from stelsel.steering.checks.fsc.contracts import Json, publication
from stelsel.steering.checks.fsc.documents import from_base64url
from stelsel.steering.checks.fsc.model import Failed, expect, expect_refused, expect_status, scenario
from stelsel.steering.checks.fsc.world import LAWFUL_PROPERTIES, World

_PORTS = (443, 8443)


@scenario("Manager-Contracts-1", "List contracts", "Core 4.4.1.5")
async def list_contracts(world: World) -> None:
    proposal = await world.usual()
    listed = await world.listed("/contracts", "contracts")
    same = [one for one in listed if one.get("content") == proposal.content]
    expect(len(same) == 1, "the contract is not in the list")
    signatures = same[0].get("signatures", {})
    expect(set(signatures) >= {"accept", "reject", "revoke"}, "the lists of signatures are not all there")
    expect(set(signatures["accept"]) == proposal.signatories, "not every accept signature is there")


@scenario("Manager-Contracts-2", "Do not list contracts which do not contain the peer", "Core 4.4.1.5")
async def not_of_others(world: World) -> None:
    proposal = await world.valid(world.to_target(by=world.second), by=world.second)
    expect(await world.contract(proposal, world.second) is not None, "its own peer does not find the contract")
    listed = await world.listed("/contracts", "contracts")
    listed += await world.listed("/contracts", "contracts", grant_hash=proposal.grant_hash)
    expect(all(one.get("content") != proposal.content for one in listed), "a contract of others is in the list")


async def _published(world: World, name: str, *, delegated: bool, properties: Json | None) -> Json:
    """Publish a service of the first peer, and find it in the list."""
    delegator = world.second.peer_id if delegated else None
    await world.valid(
        publication(world.first.peer_id, world.target_id, name, delegator=delegator, properties=properties)
    )
    listed = await world.listed("/services", "services", by=world.third)
    same = [one for one in listed if one.get("data", {}).get("name") == name]
    expect(len(same) == 1, f"the service is listed {len(same)} times")
    found = same[0]
    data = found["data"]
    kind = "SERVICE_TYPE_DELEGATED_SERVICE" if delegated else "SERVICE_TYPE_SERVICE"
    expect(data.get("type") == kind, f"its type is {data.get('type')!r} instead of {kind}")
    peer = data.get("peer", {})
    expect(peer.get("id") == world.first.peer_id, "it is not listed as a service of its provider")
    expect(peer.get("name") == world.first.identity.peer_name, "its provider is listed under another name")
    expect(peer.get("manager_address") == world.first.address, "its provider is listed with another manager address")
    expect(data.get("protocol") == "PROTOCOL_TCP_HTTP_1.1", f"its protocol is {data.get('protocol')!r}")
    if delegated:
        delegate = data.get("delegator", {})
        expect(delegate.get("peer_id") == world.second.peer_id, "it is not listed with its delegator")
        expect(
            delegate.get("peer_name") == world.second.identity.peer_name, "its delegator is listed under another name"
        )
    return dict(data)


@scenario("Manager-Services-1", "List services", "Core 4.4.1.8")
async def list_services(world: World) -> None:
    await _published(world, "listed", delegated=False, properties=None)


@scenario("Manager-Services-2", "List services offered on behalf of another peer", "Core 4.4.1.8")
async def list_delegated(world: World) -> None:
    await _published(world, "listed-delegated", delegated=True, properties=None)


@scenario("Manager-Services-3", "List services with properties", "Core 4.2.2, OpenAPI serviceListingService")
async def list_with_properties(world: World) -> None:
    data = await _published(world, "listed-properties", delegated=False, properties=LAWFUL_PROPERTIES)
    expect(data.get("properties") == LAWFUL_PROPERTIES, "its properties are not those of the grant")


@scenario(
    "Manager-Services-4",
    "List services with properties offered on behalf of another peer",
    "Core 4.2.2, OpenAPI serviceListingDelegatedService",
)
async def list_delegated_with_properties(world: World) -> None:
    data = await _published(world, "listed-both", delegated=True, properties=LAWFUL_PROPERTIES)
    expect(data.get("properties") == LAWFUL_PROPERTIES, "its properties are not those of the grant")


@scenario("Manager-PeerInfo-1", "Get peer information", "Core 4.4.3, OpenAPI getPeerInfo")
async def peer_info(world: World) -> None:
    told = expect_status(await world.get("/peer"), 200).object()
    expect(told.get("peer_id") == world.target_id, f"peer_id is {told.get('peer_id')!r}")
    wanted = world.settings.target.peer_name
    name = told.get("peer_name")
    expect(name == wanted if wanted else isinstance(name, str) and name, f"peer_name is {name!r}")
    expect(isinstance(told.get("fsc_version"), str), "fsc_version is missing")
    expect(isinstance(told.get("enabled_extensions"), dict), "enabled_extensions is missing")


@scenario("Manager-Peers-1", "List peers that announced themselves", "Core 4.4.1.9, 4.4.2")
async def list_peers(world: World) -> None:
    expect_status(await world.put(world.third, "/announce"), 200)
    listed = await world.listed("/peers", "peers")
    third = {"id": world.third.peer_id, "name": world.third.identity.peer_name, "manager_address": world.third.address}
    expect(third in listed, "the peer that announced itself is not in the list, with its name and manager address")


@scenario(
    "Manager-Services-1 (2)",
    "List services with a valid contract containing a ServicePublicationGrant",
    "Core 4.4.1.8",
    note="The suite uses the id Manager-Services-1 twice.",
)
async def listed_while_valid(world: World) -> None:
    name = "listed-while-valid"
    proposal = await world.valid(publication(world.first.peer_id, world.target_id, name))

    async def names() -> list[Any]:
        return [
            one.get("data", {}).get("name") for one in await world.listed("/services", "services", service_name=name)
        ]

    expect(name in await names(), "the service is not listed while its contract is valid")
    expect_status(await world.place(world.first, proposal, "revoke"), 201)
    expect(name not in await names(), "the service is listed still after its contract was revoked")


@scenario("Manager-TransactionLogRecord-1", "List transaction log records", "Logging 3.2.1.1", needs=("inway",))
async def list_records(world: World) -> None:
    proposal = await world.usual()
    transaction = uuid7()
    expect_status(await world.through_inway(await world.token(proposal.grant_hash), transaction_id=transaction), 200)
    found = await world.log_record(transaction, "DIRECTION_INCOMING")
    expect(found is not None, "the transaction is not in the log that the target shows")
    listed = await world.listed("/logs", "records")
    expect(any(one.get("transaction_id") == transaction for one in listed), "it is not in the list without filters")


@scenario("Manager-Port-1", "Accept requests on port 443 or 8443", "Core 4.1.1")
async def port(world: World) -> None:
    found = urlsplit(world.manager).port
    expect(found in _PORTS, f"the manager is on port {found}")
    expect_status(await world.get("/peer"), 200)


@scenario("Manager-JSONWebKeySet-1", "List the keys used to sign", "Core 4.4.1.4")
async def key_set(world: World) -> None:
    document = expect_status(await world.get("/.well-known/jwks.json"), 200).object()
    keys = document.get("keys")
    expect(isinstance(keys, list) and keys, "there is no key in it")
    for key in keys or []:
        expect(key.get("kty") in {"EC", "RSA"}, f"kty is {key.get('kty')!r}")
        expect(not set(key) & {"d", "p", "q", "dp", "dq", "qi", "k"}, "it shows a private key")
    chains = list((await world.key_set()).values())
    expect(any(world.trusted(chain) for chain in chains), "no chain in x5c holds under the trust anchors of the group")
    roots = {certificate.subject for certificate in x509.load_pem_x509_certificates(world.anchors.pem)}
    for chain in chains:
        subjects = [x509.load_der_x509_certificate(der).subject for der in chain]
        expect(not roots & set(subjects), "the root certificate is in x5c; it must be left out")


# -- what the suite lacks ----------------------------------------------------------------------------------------------


@scenario("Extra-Manager-JSONWebKeySet-2", "The key in a key set is that of its certificate", "RFC 7517 4.7")
async def keys_match(world: World) -> None:
    document = expect_status(await world.get("/.well-known/jwks.json"), 200).object()
    for key in document["keys"]:
        public = x509.load_der_x509_certificate(base64.b64decode(key["x5c"][0])).public_key()
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            wanted = {"n": numbers.n, "e": numbers.e}
        elif isinstance(public, ec.EllipticCurvePublicKey):
            wanted = {"x": public.public_numbers().x, "y": public.public_numbers().y}
        else:
            raise Failed("a certificate has a key that FSC does not know")
        found = {name: int.from_bytes(from_base64url(str(key.get(name, ""))), "big") for name in wanted}
        expect(found == wanted, "the key is not the one in its certificate")


@scenario("Extra-Manager-Contracts-3", "Page through contracts, in both orders", "OpenAPI paginationResult, sortOrder")
async def pages(world: World) -> None:
    for _ in range(5):
        await world.proposed(world.to_target())
    whole = await world.listed("/contracts", "contracts", limit="1000")
    paged = await world.listed("/contracts", "contracts", limit="2")
    expect(len(whole) >= 5 and paged == whole, "the pages together are not the list")
    ascending = await world.listed("/contracts", "contracts", limit="3", sort_order="SORT_ORDER_ASCENDING")
    expect(ascending == whole[::-1], "ascending is not the reverse of descending")
    made = [one["content"]["created_at"] for one in whole]
    expect(made == sorted(made, reverse=True), "contracts are not sorted by their creation date, newest first")
    first = expect_status(await world.get("/contracts", limit="2"), 200).object()
    expect(len(first["contracts"]) == 2, "a page does not keep to its limit")


@scenario("Extra-Manager-Contracts-4", "Filter contracts by type of grant", "OpenAPI grant_type")
async def by_type(world: World) -> None:
    await world.usual()
    await world.proposed(world.to_target(delegator=world.second.peer_id))
    for kind in ("GRANT_TYPE_SERVICE_CONNECTION", "GRANT_TYPE_DELEGATED_SERVICE_CONNECTION"):
        listed = await world.listed("/contracts", "contracts", grant_type=kind)
        expect(listed, f"no contract with a {kind} is found")
        for one in listed:
            kinds = [grant["data"]["type"] for grant in one["content"]["grants"]]
            expect(kind in kinds, f"a contract without a {kind} is found")


@scenario("Extra-Manager-Contracts-5", "Grant hashes override paging and the other filter", "OpenAPI grant_hash")
async def by_grant_hash(world: World) -> None:
    found = [await world.usual(), await world.proposed(world.to_target(delegator=world.second.peer_id))]
    hashes = ",".join(one.grant_hash for one in found)
    query: dict[str, Any] = {"grant_hash": hashes, "limit": "1", "grant_type": "GRANT_TYPE_SERVICE_PUBLICATION"}
    listed = expect_status(await world.get("/contracts", **query), 200).object()["contracts"]
    expect(len(listed) == 2, f"{len(listed)} contracts instead of the 2 that were asked for")


@scenario(
    "Extra-Manager-Contracts-6",
    "Refuse bad limits and unknown orders, in FSC's form",
    "Core 4.4.5.2, OpenAPI limit",
)
async def bad_paging(world: World) -> None:
    queries: list[dict[str, Any]] = [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "many"},
        {"sort_order": "UP"},
        {"grant_type": "NONE"},
    ]
    for query in queries:
        for path in ("/contracts", "/peers", "/services", "/logs"):
            if "grant_type" in query and path != "/contracts":
                continue
            expect_refused(await world.get(path, **query), status=(400, 422))


@scenario("Extra-Manager-Peers-1", "List peers with whom contracts were negotiated", "Core 4.4.1.9")
async def peers_by_contract(world: World) -> None:
    await world.proposed(world.to_target(by=world.second), by=world.second)
    second = world.second
    wanted = {"id": second.peer_id, "name": second.identity.peer_name, "manager_address": second.address}
    expect(wanted in await world.listed("/peers", "peers"), "a peer that proposed a contract is not in the list")


@scenario("Extra-Manager-Peers-2", "Filter peers by name and by peer id", "OpenAPI getPeers")
async def peers_by(world: World) -> None:
    for peer in world.peers.values():
        expect_status(await world.put(peer, "/announce"), 200)
    name = world.first.identity.peer_name
    part = name[1:-1].swapcase()
    listed = await world.listed("/peers", "peers", peer_name=part)
    expect(world.first.peer_id in {one["id"] for one in listed}, "the name is not found without regard to capitals")
    expect(all(part.casefold() in one["name"].casefold() for one in listed), "other names are found as well")
    wanted = {world.first.peer_id, world.second.peer_id}
    query: dict[str, Any] = {"peer_id": ",".join(sorted(wanted)), "limit": "1", "peer_name": "nobody"}
    answer = expect_status(await world.get("/peers", **query), 200).object()
    expect({one["id"] for one in answer["peers"]} == wanted, "peer ids do not override the other filters")


@scenario(
    "Extra-Manager-Services-5", "Filters on services are OR-ed, names without regard to capitals", "OpenAPI getServices"
)
async def services_by(world: World) -> None:
    async def make(name: str, by: Any) -> None:
        await world.valid(publication(by.peer_id, world.target_id, name), by=by)

    await make("Filter-One", world.first)
    await make("filter-two", world.second)
    await make("third-of-all", world.third)

    async def names(**query: Any) -> set[str]:
        return {one["data"]["name"] for one in await world.listed("/services", "services", **query)}

    found = await names(service_name="FILTER-")
    expect({"Filter-One", "filter-two"} <= found, "names are not found without regard to capitals")
    expect("third-of-all" not in found, "a service without the name is found")
    found = await names(service_name="filter-one", peer_id=world.third.peer_id)
    expect({"Filter-One", "third-of-all"} <= found, "two filters do not give the services where either holds")
    expect("filter-two" not in found, "a service for which neither filter holds is found")


@scenario("Extra-Manager-Services-6", "A service whose contract is not accepted by all is not listed", "Core 4.4.1.8")
async def not_valid_yet(world: World) -> None:
    name = "not-valid-yet"
    grant = publication(world.first.peer_id, world.target_id, name, delegator=world.second.peer_id)
    proposal = await world.proposed(grant)
    listed = await world.listed("/services", "services", service_name=name)
    expect(not listed, "it is listed although its delegator has not accepted")
    expect_status(await world.place(world.second, proposal, "reject"), 201)
    expect(not await world.listed("/services", "services", service_name=name), "it is listed although it was rejected")


@scenario("Extra-Manager-Announce-1", "A new manager address takes the place of the old", "Core 4.4.2")
async def moved(world: World) -> None:
    peer, old = world.third, world.third.address
    peer.address = "https://moved.example:8443"
    try:
        expect_status(await world.put(peer, "/announce"), 200)
        listed = await world.listed("/peers", "peers", peer_id=peer.peer_id)
        addresses = [one["manager_address"] for one in listed]
        expect(addresses == [peer.address], f"the addresses listed are {addresses}")
    finally:
        peer.address = old
        await world.put(peer, "/announce")


@scenario("Extra-Manager-TransactionLog-2", "Show no transactions of others", "Logging 3.2.1.1", needs=("inway",))
async def no_records_of_others(world: World) -> None:
    proposal = await world.usual()
    transaction = uuid7()
    await world.through_inway(await world.token(proposal.grant_hash), transaction_id=transaction)
    expect(await world.log_record(transaction, "DIRECTION_INCOMING"), "its own peer does not see the transaction")
    found = await world.log_record(transaction, "DIRECTION_INCOMING", by=world.third)
    expect(found is None, "a transaction of two other peers is shown")


@scenario(
    "Extra-Manager-TransactionLog-3",
    "Filter transactions by time, grant and service",
    "Logging, OpenAPI getLogs",
    needs=("inway",),
)
async def records_by(world: World) -> None:
    proposal, other = await world.usual(), await world.valid(world.to_target(properties={"other": 1}))
    calls = {proposal.grant_hash: uuid7(), other.grant_hash: uuid7()}
    for hashed, transaction in calls.items():
        expect_status(await world.through_inway(await world.token(hashed), transaction_id=transaction), 200)
    for hashed, transaction in calls.items():
        listed = await world.listed("/logs", "records", grant_hash=hashed)
        expect(transaction in {one["transaction_id"] for one in listed}, "a record is not found by its grant hash")
        expect({one["grant_hash"] for one in listed} == {hashed}, "records of another grant are found")
    service, now = world.settings.target.service, int(time.time())
    listed = await world.listed("/logs", "records", service_name=service)
    expect(set(calls.values()) <= {one["transaction_id"] for one in listed}, "records are not found by service name")
    expect(not await world.listed("/logs", "records", service_name="no-such-service"), "another service is found")
    expect(
        not await world.listed("/logs", "records", after=str(now + 3600)), "records after an hour from now are found"
    )
    listed = await world.listed("/logs", "records", after=str(now - 3600), before=str(now + 3600))
    expect(set(calls.values()) <= {one["transaction_id"] for one in listed}, "records are not found by their time")


@scenario(
    "Extra-Manager-TransactionLog-4",
    "Page through transactions, by id regardless",
    "Logging, OpenAPI getLogs",
    needs=("inway",),
)
async def record_pages(world: World) -> None:
    proposal = await world.usual()
    token = await world.token(proposal.grant_hash)
    made = [uuid7() for _ in range(3)]
    for transaction in made:
        expect_status(await world.through_inway(token, transaction_id=transaction), 200)
    paged = [one["transaction_id"] for one in await world.listed("/logs", "records", limit="2")]
    whole = [one["transaction_id"] for one in await world.listed("/logs", "records", limit="1000")]
    expect(paged == whole, "the pages together are not the list")
    expect(set(made) <= set(whole), "records are missing in the list")
    query: dict[str, Any] = {"transaction_ids": ",".join(made), "limit": "1", "service_name": "no-such-service"}
    answer = expect_status(await world.get("/logs", **query), 200).object()
    expect({one["transaction_id"] for one in answer["records"]} == set(made), "ids do not override the other filters")

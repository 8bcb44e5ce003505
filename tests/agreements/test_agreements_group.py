"""The rules of a group are enforced: ports, TLS, algorithms, number of grants, and revoked certificates."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from agreements_peers import CONSUMER, DIRECTORY, PROVIDER, Country
from pydantic import ValidationError
from test_agreements_api import HEADERS, Stranger, code_of
from test_agreements_country import agree, until

from stelsel.agreements import signatures
from stelsel.agreements.group import Group
from stelsel.agreements.proposals import ConnectionProposal
from stelsel.agreements.terms import Terms
from stelsel.base.certificates import KeyPair, TlsRules, TrustAnchors
from stelsel.base.errors import ConfigurationFault, Forbidden, Unauthenticated
from stelsel.base.jose import Signer
from stelsel.base.revocation import RevocationLists
from stelsel.base.settings import read_toml
from stelsel.demo.authority import Authority

_FILE = """\
id = "groep"
name = "Groep"
trust_anchors = "anchors.pem"
directory_peer_id = "00000099000000001000"
directory_address = "https://directory.example:8443"
"""


def group_of(folder: Path, authority: Authority, *lines: str) -> Group:
    (folder / "anchors.pem").write_bytes(authority.root_pem)
    (folder / "group.toml").write_text(_FILE + "\n".join(lines))
    return read_toml(folder / "group.toml", Group)


def test_without_a_word_the_rules_are_those_of_the_standard(tmp_path: Path, authority: Authority) -> None:
    group = group_of(tmp_path, authority)
    assert group.allows_port("https://manager.example:443")
    assert group.allows_port("https://manager.example:8443/")
    assert not group.allows_port("https://manager.example:8080")
    with pytest.raises(ConfigurationFault, match=r"manager\.address"):
        group.check_own_address("manager.address", "https://manager.example:9000")
    trust = group.trust()
    assert trust.tls.lowest is ssl.TLSVersion.TLSv1_2
    assert trust.revocations is None


def test_what_a_group_says_is_what_a_node_does(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.pem").write_bytes(authority.revocation_list())
    group = group_of(
        tmp_path,
        authority,
        'tls_versions = ["TLSv1.3"]',
        'peer_name_element = "commonName"',
        'revocation_lists = "lists"',
        "revocation_grace = 60",
    )
    trust = group.trust()
    assert (trust.tls.lowest, trust.tls.highest) == (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3)
    assert trust.elements == group.elements
    assert group.elements.peer_name == "commonName"
    assert trust.revocations is not None
    assert len(trust.revocations.lists()) == 1


@pytest.mark.parametrize(
    "line",
    [
        "ports = [8443, 70000]",
        "ports = [443]",  # the directory itself is elsewhere
        'tls_versions = ["TLSv1.1"]',
        "tls_versions = []",
        'signature_algorithms = ["HS256"]',
        'signature_algorithms = ["none"]',
        'peer_id_element = "favouriteDrink"',
        'ciphers = "x y"',
        "maximum_grants = 0",
    ],
)
def test_rules_that_cannot_be_are_told(line: str, tmp_path: Path, authority: Authority) -> None:
    with pytest.raises(ConfigurationFault):
        group_of(tmp_path, authority, line)


def test_a_port_that_the_group_does_not_allow_is_not_taken_nor_gone_to(country: Country, terms: Terms) -> None:
    allowed = {peer.port for peer in country.peers} | {country.provider.port + 1}
    for peer in country.peers:
        peer.group = peer.group.model_copy(update={"ports": tuple(allowed)})

    async def scenario() -> None:
        async with country.running(), Stranger(country) as stranger:
            response = await stranger.submit(stranger.content())  # from port 9999
            assert code_of(response) == "400 STELSEL_REQUEST_NOT_READABLE"
            assert "port" in response.json()["message"]
            announced = await stranger.client.put("/v1/announce", headers=HEADERS)
            assert announced.status_code == 400
            content_hash = await agree(country, terms)
            consumer = country.consumer.agreements
            (agreement,) = consumer.contract(content_hash).agreements
            assert (await consumer.token(agreement.grant_hash)).compact
            consumer.forget_token(agreement.grant_hash)
            await country.consumer.down()
            country.consumer.group = country.consumer.group.model_copy(
                update={"ports": tuple(allowed - {country.provider.port + 1})}
            )
            consumer = await country.consumer.up()
            with pytest.raises(Exception, match="port that the group does not allow"):
                await consumer.token(agreement.grant_hash)

    asyncio.run(scenario())


def test_a_client_with_a_version_of_tls_that_is_not_allowed_gets_no_connection(
    country: Country, authority: Authority
) -> None:
    country.provider.anchors = TrustAnchors(authority.root_pem, tls=TlsRules(lowest=ssl.TLSVersion.TLSv1_3))

    async def scenario() -> None:
        async with country.running(country.provider):
            for highest, works in ((ssl.TLSVersion.TLSv1_3, True), (ssl.TLSVersion.TLSv1_2, False)):
                context = country.consumer.keypair.client_context(country.consumer.anchors)
                context.maximum_version = highest
                async with httpx.AsyncClient(verify=context, trust_env=False) as client:
                    try:
                        answer = await client.get(country.provider.address + "/v1/peer")
                    except httpx.HTTPError:
                        assert not works
                    else:
                        assert (answer.status_code, works) == (200, True)

    asyncio.run(scenario())


def test_more_grants_than_the_group_allows_are_refused(country: Country, terms: Terms) -> None:
    country.provider.group = country.provider.group.model_copy(update={"maximum_grants": 1})

    async def scenario() -> None:
        async with country.running():
            consumer = country.consumer.agreements
            one = ConnectionProposal(PROVIDER, "personen", terms)
            content_hash = await consumer.propose(one, one)
            await until(lambda: consumer.contract(content_hash).refused_by)
            assert "at most 1 grants" in consumer.contract(content_hash).refused_by[PROVIDER]

    asyncio.run(scenario())


class _Lists:
    """The revocation lists of a test: a file that each peer reads."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._file = folder / "list.pem"
        self._authority = authority
        self._file.write_bytes(authority.revocation_list())
        self._at = 0

    def anchors(self) -> TrustAnchors:
        return TrustAnchors(self._authority.root_pem, revocations=RevocationLists(self._file, self._authority.root_pem))

    def revoke(self, *keypairs: KeyPair) -> None:
        self._at += 2
        self._file.write_bytes(self._authority.revocation_list(tuple(each.certificate.der for each in keypairs)))
        os.utime(self._file, (self._at, self._at))


def test_a_revoked_peer_is_refused_in_both_directions_while_others_go_on(
    country: Country, terms: Terms, tmp_path: Path, authority: Authority
) -> None:
    lists = _Lists(tmp_path, authority)
    for peer in country.peers:
        peer.anchors = lists.anchors()

    def refresh() -> None:
        for peer in country.peers:
            assert peer.anchors.revocations is not None
            peer.anchors.revocations.refresh()

    async def scenario() -> None:
        async with country.running(), Stranger(country) as stranger:
            content_hash = await agree(country, terms)
            consumer, provider = country.consumer.agreements, country.provider.agreements
            (agreement,) = consumer.contract(content_hash).agreements
            token = await consumer.token(agreement.grant_hash)
            assert (await stranger.client.get("/v1/peer")).status_code == 200
            lists.revoke(country.consumer.keypair)
            refresh()
            # On the connection that is open already, and on a new one.
            refused = await stranger.client.get("/v1/peer")
            assert code_of(refused) == "400 ERROR_CODE_PEER_CERTIFICATE_VERIFICATION_FAILED"
            async with Stranger(country) as again:
                form = {"grant_type": "client_credentials", "scope": agreement.grant_hash, "client_id": CONSUMER}
                assert (await again.client.post("/v1/token", data=form)).status_code == 400
            consumer.forget_token(agreement.grant_hash)
            with pytest.raises(Forbidden, match="revoked"):
                await consumer.token(agreement.grant_hash)
            with pytest.raises(Unauthenticated):  # what the inway asks of each connection and request
                country.provider.anchors.identify(country.consumer.keypair.certificate.der)
            assert token.compact
            # The provider does not go to it either.
            await provider.revoke(content_hash)
            await until(lambda: provider.contract(content_hash).deliveries[-1].reason)
            assert "revoked" in provider.contract(content_hash).deliveries[-1].reason

    asyncio.run(scenario())


def test_a_signature_by_a_revoked_certificate_is_refused_though_the_connection_is_by_another(
    country: Country, tmp_path: Path, authority: Authority, new_keypair: Callable[..., KeyPair]
) -> None:
    lists = _Lists(tmp_path, authority)
    country.provider.anchors = lists.anchors()
    stolen = new_keypair(CONSUMER, "Gemeente Zilverdam")
    lists.revoke(stolen)
    assert country.provider.anchors.revocations is not None
    country.provider.anchors.revocations.refresh()

    async def scenario() -> None:
        async with (
            country.running(country.directory, country.provider, country.consumer),
            Stranger(country) as stranger,
        ):
            shown = country.consumer.agreements.key_set()
            shown["keys"].append(signatures.key_set(Signer(stolen), stolen.chain)["keys"][0])
            country.consumer.agreements.key_set = lambda: shown  # type: ignore[method-assign]
            content = stranger.content()
            body: dict[str, Any] = {"content": content, "signature": stranger.signed(content, keypair=stolen)}
            headers = {"Fsc-Manager-Address": country.consumer.address}
            refused = await stranger.client.post("/v1/contracts", json=body, headers=headers)
            assert code_of(refused) == "422 ERROR_CODE_SIGNATURE_VERIFICATION_FAILED"
            assert "revoked" in refused.json()["message"]
            body["signature"] = stranger.signed(content)
            assert (await stranger.client.post("/v1/contracts", json=body, headers=headers)).status_code == 201

    asyncio.run(scenario())


def test_a_node_reads_new_revocation_lists_by_itself(
    country: Country, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = _Lists(tmp_path, authority)
    country.provider.anchors = lists.anchors()
    monkeypatch.setattr("stelsel.agreements.service._TICK", 0.02)

    async def scenario() -> None:
        async with country.running(country.provider), Stranger(country) as stranger:
            assert (await stranger.client.get("/v1/peer")).status_code == 200
            lists.revoke(country.consumer.keypair)
            deadline = asyncio.get_running_loop().time() + 5
            while (await stranger.client.get("/v1/peer")).status_code == 200:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.02)

    asyncio.run(scenario())


def test_a_directory_at_a_port_that_is_not_allowed_is_no_group(group: Group) -> None:
    with pytest.raises(ValidationError, match="directory_address"):
        Group.model_validate(group.model_dump() | {"ports": (443,), "directory_peer_id": DIRECTORY})

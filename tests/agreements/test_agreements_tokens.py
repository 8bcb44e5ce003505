"""Access tokens: who gets one, what it says, and every way in which one is refused at the inway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from agreements_peers import CONSUMER, DIRECTORY, OTHER, PROVIDER

from stelsel.agreements import hashes, signatures, tokens
from stelsel.agreements.contract import parse
from stelsel.agreements.fsc_errors import (
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TokenRequestFault,
    WrongGroup,
)
from stelsel.agreements.group import Group
from stelsel.agreements.memory import Memory
from stelsel.agreements.proposals import ConnectionProposal, content_of
from stelsel.agreements.terms import Terms
from stelsel.agreements.token_desk import TokenDesk
from stelsel.agreements.tokens import TokenClaims
from stelsel.base.canonical import canonical
from stelsel.base.certificates import KeyPair
from stelsel.base.clock import SetClock
from stelsel.base.errors import BadGateway, Forbidden, NotFound
from stelsel.base.jose import Signer

NOW = 1_800_000_000.0
INWAY = "https://localhost:7244"
Change = Callable[[dict[str, Any]], Any]


@dataclass
class Scene:
    """One valid contract, and desks of its provider and its consumer that share it."""

    keypairs: dict[str, KeyPair]
    group: Group
    clock: SetClock
    memory: Memory
    grant_hash: str

    def desk(self, peer_id: str = PROVIDER, **changes: Any) -> TokenDesk:
        options = {
            "memory": self.memory,
            "keypair": self.keypairs[peer_id],
            "signer": Signer(self.keypairs[peer_id]),
            "group": self.group,
            "clock": self.clock,
            "inway_address": INWAY,
            "services": frozenset({"personen"}),
            "lifetime": 300,
        }
        return TokenDesk(**(options | changes))

    def form(self, **changes: str) -> dict[str, str]:
        return {"grant_type": "client_credentials", "scope": self.grant_hash, "client_id": CONSUMER} | changes

    def token(self) -> str:
        return str(self.desk().issue(self.form(), self.keypairs[CONSUMER].certificate)["access_token"])

    @property
    def thumbprint(self) -> str:
        return self.keypairs[CONSUMER].certificate.thumbprint


def make_scene(keypairs: dict[str, KeyPair], group: Group, terms: Terms, change: Change = lambda _: None) -> Scene:
    key = keypairs[CONSUMER].certificate.key_thumbprint
    content = content_of(ConnectionProposal(PROVIDER, "personen", terms), group, CONSUMER, key, NOW)
    change(content)
    contract, memory = parse(content), Memory()
    signed = [
        replace(
            signatures.sign(contract, "accept", Signer(keypairs[peer]), keypairs[peer], NOW),
            certificate_not_after=2e9,
        )
        for peer in contract.signatories
    ]
    memory.put(contract, CONSUMER, NOW, signed, NOW)
    return Scene(keypairs, group, SetClock(NOW), memory, contract.grants[0].grant_hash)


@pytest.fixture
def scene(keypairs: dict[str, KeyPair], group: Group, terms: Terms) -> Scene:
    return make_scene(keypairs, group, terms)


def test_a_token_says_what_was_agreed_and_is_bound_to_the_certificate(scene: Scene, terms: Terms) -> None:
    answer = scene.desk().issue(scene.form(), scene.keypairs[CONSUMER].certificate)
    assert answer["token_type"] == "bearer"
    claims = scene.desk().verify(answer["access_token"], scene.thumbprint)
    assert claims == TokenClaims(
        grant_hash=scene.grant_hash,
        group_id=scene.group.id,
        consumer=CONSUMER,
        provider=PROVIDER,
        service="personen",
        audience=INWAY,
        expires=int(NOW) + 300,
        not_before=int(NOW) - scene.group.clock_skew,
        thumbprint=scene.thumbprint,
        properties=terms.to_properties(),
    )


REFUSED_REQUESTS: dict[str, tuple[dict[str, str], str]] = {
    "no grant type": ({"grant_type": ""}, "invalid_request"),
    "no scope": ({"scope": ""}, "invalid_request"),
    "no client id": ({"client_id": ""}, "invalid_request"),
    "another grant type": ({"grant_type": "password"}, "unsupported_grant_type"),
    "another peer's id": ({"client_id": OTHER}, "invalid_client"),
    "a scope that is no grant hash": ({"scope": "everything"}, "invalid_scope"),
    "an unknown grant hash": ({"scope": "$1$3$" + "A" * 86}, "invalid_scope"),
    "a content hash": ({"scope": "$1$1$" + "A" * 86}, "invalid_scope"),
}


@pytest.mark.parametrize("fault", REFUSED_REQUESTS)
def test_a_token_request_with_a_fault_is_refused(fault: str, scene: Scene) -> None:
    change, error = REFUSED_REQUESTS[fault]
    with pytest.raises(TokenRequestFault) as raised:
        scene.desk().issue(scene.form(**change), scene.keypairs[CONSUMER].certificate)
    assert raised.value.body()["error"] == error


def _refused(scene: Scene, peer_id: str = CONSUMER, desk: TokenDesk | None = None) -> str:
    with pytest.raises(TokenRequestFault) as raised:
        (desk or scene.desk()).issue(scene.form(client_id=peer_id), scene.keypairs[peer_id].certificate)
    return raised.value.error


def test_a_peer_cannot_use_the_agreement_of_another(scene: Scene) -> None:
    assert _refused(scene, OTHER) == "invalid_scope"


def test_no_token_before_or_after_the_contract_holds(scene: Scene) -> None:
    scene.clock.set(NOW - 3600)
    assert _refused(scene) == "invalid_grant"
    scene.clock.set(NOW + 366 * 86_400)
    assert _refused(scene) == "invalid_grant"


def test_no_token_where_the_service_or_the_inway_is_not(scene: Scene) -> None:
    assert _refused(scene, desk=scene.desk(services=frozenset())) == "invalid_grant"
    assert _refused(scene, desk=scene.desk(inway_address=None)) == "invalid_grant"
    assert _refused(scene, desk=scene.desk(DIRECTORY)) == "invalid_grant"


def test_no_token_for_another_key_than_the_outways(
    scene: Scene, new_keypair: Callable[..., KeyPair], keypairs: dict[str, KeyPair], group: Group, terms: Terms
) -> None:
    scene.keypairs = {**scene.keypairs, CONSUMER: new_keypair(CONSUMER, "Gemeente met een andere sleutel")}
    assert _refused(scene) == "unauthorized_client"

    def by_name(content: dict[str, Any]) -> None:
        identification = {"type": "OUTWAY_IDENTIFICATION_TYPE_DOMAIN_NAME", "domain_name": "Outway.example"}
        content["grants"][0]["data"]["outway"]["identification"] = identification

    scene = make_scene(keypairs, group, terms, by_name)
    assert _refused(scene) == "unauthorized_client"
    named = new_keypair(CONSUMER, "Gemeente", domain_names=("outway.example",))
    assert scene.desk().issue(scene.form(), named.certificate)


def test_no_token_after_revocation(scene: Scene) -> None:
    known = next(scene.memory.all())
    keypair = scene.keypairs[PROVIDER]
    revoked = signatures.sign(known.contract, "revoke", Signer(keypair), keypair, NOW)
    scene.memory.put(known.contract, CONSUMER, NOW, [revoked], NOW)
    assert _refused(scene) == "invalid_grant"


def test_delegators_are_in_the_token(keypairs: dict[str, KeyPair], group: Group, terms: Terms) -> None:
    def delegate(content: dict[str, Any]) -> None:
        data = content["grants"][0]["data"]
        data.update(type="GRANT_TYPE_DELEGATED_SERVICE_CONNECTION", delegator={"peer_id": OTHER})
        data["service"].update(type="SERVICE_TYPE_DELEGATED_SERVICE", delegator={"peer_id": DIRECTORY})

    scene = make_scene(keypairs, group, terms, delegate)
    claims = scene.desk().verify(scene.token(), scene.thumbprint)
    assert claims.to_json()["act"] == {"sub": OTHER}
    assert claims.to_json()["pdi"] == DIRECTORY
    assert (claims.consumer_delegator, claims.provider_delegator) == (OTHER, DIRECTORY)


# --- at the inway ---------------------------------------------------------------------------------------------------


def test_no_token_is_missing(scene: Scene) -> None:
    with pytest.raises(TokenMissing) as raised:
        scene.desk().verify("", scene.thumbprint)
    assert raised.value.status == 401
    assert raised.value.headers() == {"Fsc-Error-Code": raised.value.code, "WWW-Authenticate": "Bearer"}
    assert set(raised.value.body()) == {"message", "domain", "code"}


@pytest.mark.parametrize("nonsense", ["x", "a.b", "a.b.c", "....", "e30.e30.", "é.é.é", "A" * 100_000])
def test_nonsense_is_no_token(nonsense: str, scene: Scene) -> None:
    with pytest.raises(TokenInvalid):
        scene.desk().verify(nonsense, scene.thumbprint)


def test_a_token_with_the_certificate_of_another_is_refused_also_once_it_was_seen(scene: Scene) -> None:
    desk, token = scene.desk(), scene.token()
    desk.verify(token, scene.thumbprint)
    with pytest.raises(TokenInvalid):
        desk.verify(token, scene.keypairs[OTHER].certificate.thumbprint)


def test_an_expired_token_is_refused_also_once_it_was_seen(scene: Scene) -> None:
    desk, token = scene.desk(), scene.token()
    scene.clock.forward(299)
    desk.verify(token, scene.thumbprint)
    scene.clock.forward(1)
    with pytest.raises(TokenExpired):
        desk.verify(token, scene.thumbprint)


def test_a_token_does_not_outlive_its_agreement(keypairs: dict[str, KeyPair], group: Group, terms: Terms) -> None:
    scene = make_scene(keypairs, group, terms, lambda c: c["validity"].update(not_after=int(NOW) + 10))
    assert scene.desk().verify(scene.token(), scene.thumbprint).expires == int(NOW) + 10


def test_a_token_that_is_not_valid_yet_is_refused(scene: Scene) -> None:
    token = scene.token()
    scene.clock.set(NOW - scene.group.clock_skew - 1)
    with pytest.raises(TokenInvalid):
        scene.desk().verify(token, scene.thumbprint)


def test_a_token_of_another_inway_group_or_peer_is_refused(scene: Scene) -> None:
    token = scene.token()
    with pytest.raises(TokenInvalid):
        scene.desk(inway_address="https://localhost:1").verify(token, scene.thumbprint)
    with pytest.raises(TokenInvalid):
        scene.desk(OTHER).verify(token, scene.thumbprint)
    with pytest.raises(WrongGroup) as raised:
        scene.desk(group=scene.group.model_copy(update={"id": "other"})).verify(token, scene.thumbprint)
    assert raised.value.status == 403


def test_a_foreign_or_altered_token_is_refused(scene: Scene) -> None:
    claims = scene.desk().verify(scene.token(), scene.thumbprint)
    foreign = tokens.sign(claims, Signer(scene.keypairs[OTHER]))
    header, payload, signature = scene.token().split(".")
    wider = tokens.sign(replace(claims, service="alles"), Signer(scene.keypairs[OTHER])).split(".")[1]
    flipped = signature[:-10] + ("A" if signature[-10] != "A" else "B") + signature[-9:]
    for token in (foreign, f"{header}.{wider}.{signature}", f"{header}.{payload}.{flipped}", f"{header}.{payload}."):
        with pytest.raises(TokenInvalid):
            scene.desk().verify(token, scene.thumbprint)


@pytest.mark.parametrize("claim", ["gth", "gid", "sub", "iss", "svc", "aud", "exp", "nbf", "cnf"])
@pytest.mark.parametrize("value", [None, True, [], {}])
def test_a_token_that_lacks_a_claim_is_refused(claim: str, value: Any, scene: Scene) -> None:
    payload = scene.desk().verify(scene.token(), scene.thumbprint).to_json()
    payload[claim] = value
    token = Signer(scene.keypairs[PROVIDER]).sign(canonical(payload), typ="JWT")
    with pytest.raises(TokenInvalid):
        scene.desk().verify(token, scene.thumbprint)


# --- at the consumer ------------------------------------------------------------------------------------------------


def test_however_many_requests_wait_the_provider_is_asked_once_and_again_before_it_expires(scene: Scene) -> None:
    asked: list[str] = []

    async def ask(provider: str, form: dict[str, str]) -> dict[str, Any]:
        asked.append(provider)
        await asyncio.sleep(0)
        return scene.desk().issue(form, scene.keypairs[CONSUMER].certificate)

    async def scenario() -> None:
        desk = scene.desk(CONSUMER)
        found = await asyncio.gather(*(desk.get(scene.grant_hash, ask) for _ in range(20)))
        assert len({token.compact for token in found}) == 1
        await desk.get(scene.grant_hash, ask)
        assert asked == [PROVIDER]
        scene.clock.forward(280)
        await desk.get(scene.grant_hash, ask)
        assert len(asked) == 2
        desk.forget(scene.grant_hash)
        await desk.get(scene.grant_hash, ask)
        assert len(asked) == 3
        scene.clock.forward(366 * 86_400)
        with pytest.raises(Forbidden):
            await desk.get(scene.grant_hash, ask)
        with pytest.raises(NotFound):
            await desk.get("$1$3$unknown", ask)
        with pytest.raises(NotFound):
            await scene.desk(OTHER).get(scene.grant_hash, ask)

    asyncio.run(scenario())


def test_an_answer_that_is_no_token_for_this_agreement_is_refused(scene: Scene) -> None:
    good = scene.desk().verify(scene.token(), scene.thumbprint)
    signer = Signer(scene.keypairs[PROVIDER])
    other = hashes.content_hash({})
    answers: list[dict[str, Any]] = [
        {},
        {"access_token": 1, "token_type": "bearer"},
        {"access_token": scene.token(), "token_type": "mac"},
        *(
            {"access_token": tokens.sign(replace(good, **change), signer), "token_type": "Bearer"}
            for change in (
                {"grant_hash": other},
                {"group_id": "other"},
                {"provider": OTHER},
                {"service": "adressen"},
                {"thumbprint": "other"},
                {"audience": "http://localhost:1"},
            )
        ),
    ]

    async def scenario() -> None:
        for answer in answers:

            async def ask(_provider: str, _form: dict[str, str], answer: dict[str, Any] = answer) -> dict[str, Any]:
                return answer

            with pytest.raises(BadGateway):
                await scene.desk(CONSUMER).get(scene.grant_hash, ask)

    asyncio.run(scenario())

"""Signatures and tokens with every algorithm of FSC Core 4.2.3 and 4.3, with real keys of each kind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from agreements_peers import CONSUMER, OTHER, PROVIDER, Country
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from test_agreements_country import state_of, until

from stelsel.agreements import signatures, tokens
from stelsel.agreements.agreement import State
from stelsel.agreements.contract import Contract, parse
from stelsel.agreements.fsc_errors import SignatureVerificationFailed, TokenInvalid, UnknownSignatureAlgorithm
from stelsel.agreements.group import Group
from stelsel.agreements.proposals import ConnectionProposal, content_of
from stelsel.agreements.terms import Terms
from stelsel.agreements.tokens import TokenClaims
from stelsel.base import jose
from stelsel.base.canonical import b64url, canonical
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.errors import ConfigurationFault

NewKeyPair = Callable[..., KeyPair]
KEYS = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "RS384": lambda: rsa.generate_private_key(65537, 3072),
    "RS512": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
}


@pytest.fixture(scope="module")
def pairs(new_keypair: NewKeyPair) -> dict[str, KeyPair]:
    return {name: new_keypair(CONSUMER, "Gemeente Zilverdam", key=make()) for name, make in KEYS.items()}


@pytest.fixture
def contract(group: Group) -> Contract:
    return parse(content_of(ConnectionProposal(PROVIDER, "personen"), group, CONSUMER, "0" * 64, time.time()))


def signer_of(pairs: dict[str, KeyPair], algorithm: str) -> jose.Signer:
    return jose.Signer(pairs[algorithm], (algorithm,))


def verify(compact: str, contract: Contract, keypair: KeyPair, anchors: TrustAnchors) -> None:
    signatures.verify(
        compact,
        contract,
        "accept",
        keypair.chain,
        submitter=CONSUMER,
        anchors=anchors,
        now=time.time(),
        clock_skew=60,
    )


def claims(keypair: KeyPair) -> TokenClaims:
    now = 1_800_000_000
    thumbprint = keypair.certificate.thumbprint
    return TokenClaims("g", "group", CONSUMER, PROVIDER, "s", "https://localhost:1", now + 60, now - 60, thumbprint)


@pytest.mark.parametrize("algorithm", KEYS)
def test_each_algorithm_signs_contracts_and_tokens_that_verify(
    algorithm: str, pairs: dict[str, KeyPair], contract: Contract, anchors: TrustAnchors
) -> None:
    keypair, signer = pairs[algorithm], signer_of(pairs, algorithm)
    compact = signatures.sign(contract, "accept", signer, keypair, time.time()).compact
    assert jose.peek(compact)[0]["alg"] == algorithm
    verify(compact, contract, keypair, anchors)
    token = tokens.sign(claims(keypair), signer)
    assert tokens.verify(token, keypair.certificate) == claims(keypair)
    keys = signatures.key_set(signer, keypair.chain)
    assert signatures.chain_in(keys, keypair.certificate.thumbprint) == keypair.chain
    assert keys["keys"][0]["alg"] == algorithm
    altered = compact[:-20] + ("A" if compact[-20] != "A" else "B") + compact[-19:]
    with pytest.raises(SignatureVerificationFailed):
        verify(altered, contract, keypair, anchors)
    with pytest.raises(TokenInvalid):
        tokens.verify(token[:-20] + ("A" if token[-20] != "A" else "B") + token[-19:], keypair.certificate)


def test_an_algorithm_that_does_not_go_with_the_key_is_refused(
    pairs: dict[str, KeyPair], contract: Contract, anchors: TrustAnchors
) -> None:
    # An elliptic curve signature under the name of another, and a certificate of another kind of key.
    compact = signatures.sign(contract, "accept", signer_of(pairs, "ES256"), pairs["ES256"], time.time()).compact
    header, payload, signature = compact.split(".")
    del header
    for algorithm in ("ES384", "ES512", "RS256"):
        thumbprint = pairs["ES256"].certificate.thumbprint
        renamed = f"{b64url(canonical({'alg': algorithm, 'x5t#S256': thumbprint}))}.{payload}.{signature}"
        with pytest.raises(SignatureVerificationFailed):
            verify(renamed, contract, pairs["ES256"], anchors)
    with pytest.raises(SignatureVerificationFailed):
        verify(compact, contract, pairs["ES384"], anchors)


def test_a_group_allows_fewer_algorithms_and_a_key_that_fits_none_is_told_at_the_start(
    pairs: dict[str, KeyPair], contract: Contract
) -> None:
    compact = signatures.sign(contract, "accept", signer_of(pairs, "ES256"), pairs["ES256"], time.time()).compact
    with pytest.raises(UnknownSignatureAlgorithm):
        signatures.thumbprint_of(compact, ("RS512", "ES512"))
    assert signatures.thumbprint_of(compact, ("ES256",)) == pairs["ES256"].certificate.thumbprint
    assert jose.Signer(pairs["RS256"], ("ES256", "RS384", "RS512")).algorithm == "RS384"
    for keypair, allowed in ((pairs["ES256"], ("RS256", "ES384")), (pairs["RS256"], ("ES256",))):
        with pytest.raises(ConfigurationFault, match="no signatures with this kind of key"):
            jose.Signer(keypair, allowed)


def test_small_and_exotic_keys_sign_nothing(new_keypair: NewKeyPair) -> None:
    for key in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256K1())):  # noqa: S505
        with pytest.raises(ConfigurationFault):
            jose.Signer(new_keypair(OTHER, "Bouwer", key=key))


def test_peers_with_keys_of_different_kinds_agree_over_mutual_tls(
    country: Country, terms: Terms, pairs: dict[str, KeyPair], new_keypair: NewKeyPair
) -> None:
    country.consumer.keypair = pairs["ES512"]
    country.provider.keypair = new_keypair(PROVIDER, "Bevolkingsregister", key=KEYS["RS256"]())
    country.other.keypair = new_keypair(OTHER, "Bouwer", key=KEYS["ES384"]())

    async def scenario() -> None:
        async with country.running(*country.peers):
            provider = country.provider.agreements
            for peer in (country.consumer, country.other):
                content_hash = await peer.agreements.propose(ConnectionProposal(PROVIDER, "personen", terms))
                await until(lambda content_hash=content_hash: provider.contract(content_hash))  # type: ignore[misc]
                await provider.accept(content_hash)
                await until(
                    lambda peer=peer, content_hash=content_hash: (  # type: ignore[misc]
                        state_of(peer.agreements, content_hash) is State.VALID
                    )
                )
                (agreement,) = peer.agreements.contract(content_hash).agreements
                token = await peer.agreements.token(agreement.grant_hash)
                assert jose.peek(token.compact)[0]["alg"] == "RS256"
                assert provider.verify_token(token.compact, peer.keypair.certificate.thumbprint)

    asyncio.run(scenario())

"""Certificates and signatures: what holds, and what must not."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from stelsel.base import jose
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.errors import BadRequest, Unauthenticated
from stelsel.demo.authority import Authority

GEMEENTE = "00000099000000002000"


def test_a_chain_under_the_anchor_holds_and_names_the_peer(
    anchors: TrustAnchors, new_keypair: Callable[..., KeyPair]
) -> None:
    keypair = new_keypair(GEMEENTE, "Gemeente")
    certificate = anchors.verify(keypair.chain, time.time())
    assert (certificate.peer_id, certificate.peer_name) == (GEMEENTE, "Gemeente")


def test_an_expired_certificate_is_refused(anchors: TrustAnchors, new_keypair: Callable[..., KeyPair]) -> None:
    expired = new_keypair(GEMEENTE, "Gemeente", days=-1)
    with pytest.raises(Unauthenticated):
        anchors.verify(expired.chain, time.time())


def test_a_certificate_of_another_authority_is_refused(new_keypair: Callable[..., KeyPair]) -> None:
    keypair = new_keypair(GEMEENTE)
    with pytest.raises(Unauthenticated):
        TrustAnchors(Authority("another").root_pem).verify(keypair.chain, time.time())


def test_a_signature_verifies_with_its_certificate_only(new_keypair: Callable[..., KeyPair]) -> None:
    mine, other = new_keypair(GEMEENTE), new_keypair(GEMEENTE)
    compact = jose.Signer(mine).sign(b'{"type":"accept"}')
    assert jose.verify(compact, mine.certificate) == {"type": "accept"}
    with pytest.raises(Unauthenticated):
        jose.verify(compact, other.certificate)


def test_an_altered_payload_is_refused(new_keypair: Callable[..., KeyPair]) -> None:
    keypair = new_keypair(GEMEENTE)
    header, payload, signature = jose.Signer(keypair).sign(b'{"type":"accept"}').split(".")
    with pytest.raises((Unauthenticated, BadRequest)):
        jose.verify(f"{header}.{payload[:-2]}Qg.{signature}", keypair.certificate)


def test_a_domain_name_is_matched_as_tls_does(new_keypair: Callable[..., KeyPair]) -> None:
    names = ("Outway.gemeente.example", "*.Wijk.example")
    certificate = new_keypair("00000099000000002000", domain_names=names).certificate
    for domain in ("outway.gemeente.example", "OUTWAY.gemeente.example.", "a.wijk.example"):
        assert certificate.names(domain)
    for domain in (
        "gemeente.example",
        "x.outway.gemeente.example",
        "wijk.example",
        "a.b.wijk.example",
        "",
        ".",
        "example",
    ):
        assert not certificate.names(domain)

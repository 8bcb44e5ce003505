"""Revocation lists: what is revoked stays out, and a list that is missing, false or old lets nobody in."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stelsel.base.certificates import KeyPair, PeerElements, TrustAnchors
from stelsel.base.errors import BadRequest, ConfigurationFault, Unauthenticated
from stelsel.base.revocation import RevocationLists
from stelsel.demo.authority import Authority

DAY = 86_400


@pytest.fixture
def keypair(new_keypair: Callable[..., KeyPair]) -> KeyPair:
    return new_keypair("00000099000000002000")


def trusting(authority: Authority, path: Path, grace: float = DAY) -> TrustAnchors:
    return TrustAnchors(authority.root_pem, revocations=RevocationLists(path, authority.root_pem, grace=grace))


def write(path: Path, data: bytes) -> None:
    before = path.stat().st_mtime if path.exists() else 0.0
    path.write_bytes(data)
    os.utime(path, (before + 2, before + 2) if before else None)


def test_a_revoked_certificate_is_refused_and_another_is_not(
    authority: Authority, keypair: KeyPair, tmp_path: Path
) -> None:
    (tmp_path / "list.pem").write_bytes(authority.revocation_list())
    anchors = trusting(authority, tmp_path)
    assert anchors.identify(keypair.certificate.der) == keypair.certificate
    assert anchors.verify(keypair.chain, time.time()) == keypair.certificate
    write(tmp_path / "list.pem", authority.revocation_list(keypair.chain))
    assert anchors.revocations is not None
    assert anchors.revocations.refresh()
    assert not anchors.revocations.refresh()
    for attempt in (
        lambda: anchors.identify(keypair.certificate.der),
        lambda: anchors.verify(keypair.chain, time.time()),
    ):
        with pytest.raises(Unauthenticated, match="revoked"):
            attempt()


def test_a_list_that_vanishes_or_breaks_undoes_no_revocation(
    authority: Authority, keypair: KeyPair, tmp_path: Path
) -> None:
    file = tmp_path / "list.pem"
    file.write_bytes(authority.revocation_list(keypair.chain))
    anchors = trusting(authority, file)
    assert anchors.revocations is not None
    write(file, b"-----BEGIN X509 CRL-----\nbroken")
    anchors.revocations.refresh()
    assert anchors.revocations.troubles
    with pytest.raises(Unauthenticated):
        anchors.identify(keypair.certificate.der)
    file.unlink()
    anchors.revocations.refresh()
    with pytest.raises(Unauthenticated):
        anchors.identify(keypair.certificate.der)
    # An older list does not take the place of a newer.
    file.write_bytes(authority.revocation_list(made=datetime.now(UTC) - timedelta(days=3)))
    anchors.revocations.refresh()
    with pytest.raises(Unauthenticated):
        anchors.identify(keypair.certificate.der)


def test_a_list_that_no_trust_anchor_signed_does_not_count(
    authority: Authority, keypair: KeyPair, tmp_path: Path
) -> None:
    (tmp_path / "list.pem").write_bytes(Authority().revocation_list())  # the same name, another key
    anchors = trusting(authority, tmp_path)
    assert anchors.revocations is not None
    assert anchors.revocations.lists() == ()
    with pytest.raises(Unauthenticated, match="no revocation list"):
        anchors.identify(keypair.certificate.der)


def test_a_list_counts_until_its_next_update_and_the_grace_of_the_group(
    authority: Authority, keypair: KeyPair, tmp_path: Path
) -> None:
    (tmp_path / "list.der").write_bytes(authority.revocation_list(days=1, made=datetime.now(UTC)))
    anchors = trusting(authority, tmp_path, grace=DAY)
    now = time.time()
    assert anchors.revocations is not None
    certificate = keypair.certificate
    anchors.revocations.check(certificate.issuer, certificate.serial, now + 1.9 * DAY)
    with pytest.raises(Unauthenticated, match="out of date"):
        anchors.revocations.check(certificate.issuer, certificate.serial, now + 2.1 * DAY)


def test_a_place_without_lists_is_a_mistake_in_the_configuration(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFault):
        trusting(authority, tmp_path / "nowhere")


def test_the_group_chooses_which_element_of_the_subject_is_the_peer(authority: Authority, keypair: KeyPair) -> None:
    swapped = TrustAnchors(authority.root_pem, elements=PeerElements("serialNumber", "commonName"))
    assert swapped.identify(keypair.certificate.der).peer_name == "localhost"
    with pytest.raises(BadRequest, match="organizationName is not an OIN"):
        TrustAnchors(authority.root_pem, elements=PeerElements("organizationName")).identify(keypair.certificate.der)

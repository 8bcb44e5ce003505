"""Certificates that change on disk: taken when they hold and have come to rest, else not, and said why."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.errors import ConfigurationFault
from stelsel.base.jose import Signer, verify
from stelsel.base.renewal import Renewal
from stelsel.demo.authority import Authority

PEER = "00000099000000002000"


class Files:
    """A node's files, and what looks after them."""

    def __init__(self, authority: Authority, folder: Path) -> None:
        self.folder = folder
        self.authority = authority
        authority.issue(folder, PEER, "Register")
        self.anchors_file = folder / "anchors.pem"
        self.anchors_file.write_bytes(authority.root_pem)
        self.keypair = KeyPair.load(folder / "certificate.pem", folder / "key.pem")
        self.anchors = TrustAnchors(authority.root_pem)
        self.now = self.keypair.certificate.not_before + 2 * 86_400
        self.renewal = Renewal(self.keypair, self.anchors, self.anchors_file)

    def put(self, source: Path, *names: str) -> None:
        for name in names or ("certificate.pem", "key.pem"):
            shutil.copy(source / name, self.folder / name)


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> Files:
    (tmp_path / "node").mkdir()
    return Files(authority, tmp_path / "node")


def test_files_that_did_not_change_are_left_alone(files: Files) -> None:
    before = files.keypair.current
    assert not any(files.renewal.look(files.now).anything for _ in range(3))
    assert files.keypair.current is before


def test_a_new_pair_is_taken_when_it_has_come_to_rest(files: Files, tmp_path: Path) -> None:
    files.authority.issue(tmp_path / "new", PEER, "Register")
    signer, old = Signer(files.keypair), files.keypair.certificate
    files.put(tmp_path / "new")
    assert not files.renewal.look(files.now).anything
    assert files.renewal.look(files.now).certificate
    new = files.keypair.certificate
    assert new.thumbprint != old.thumbprint
    assert signer.certificate is new
    verify(signer.sign(b"{}"), new)


def test_half_of_a_pair_is_not_taken_and_the_other_half_completes_it(files: Files, tmp_path: Path) -> None:
    files.authority.issue(tmp_path / "new", PEER, "Register")
    before = files.keypair.current
    files.put(tmp_path / "new", "certificate.pem")
    for _ in range(3):
        files.renewal.look(files.now)
    assert files.keypair.current is before
    assert files.renewal.trouble is not None
    files.put(tmp_path / "new", "key.pem")
    files.renewal.look(files.now)
    assert files.renewal.look(files.now).certificate
    assert files.renewal.trouble is None


def test_what_is_refused_is_looked_at_once_and_not_at_every_look(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Authority("strangers").issue(tmp_path / "new", PEER, "Register")
    files.put(tmp_path / "new")
    for _ in range(5):
        files.renewal.look(files.now)
    assert capsys.readouterr().err.count("not taken") == 1


def test_a_file_that_is_gone_changes_nothing(files: Files) -> None:
    before = files.keypair.current
    (files.folder / "key.pem").unlink()
    for _ in range(3):
        files.renewal.look(files.now)
    assert files.keypair.current is before
    with pytest.raises(ConfigurationFault, match="no private key"):
        files.renewal.take(files.now)


def test_trust_anchors_without_which_our_own_certificate_does_not_hold_are_not_taken(files: Files) -> None:
    before = files.anchors.pem
    files.anchors_file.write_bytes(Authority("strangers").root_pem)
    with pytest.raises(ConfigurationFault, match="trust anchors"):
        files.renewal.take(files.now)
    assert files.anchors.pem == before
    files.anchors_file.write_bytes(before + Authority("more").root_pem)
    assert files.renewal.take(files.now).trust_anchors
    assert files.anchors.pem.count(b"BEGIN") == 2


def test_whoever_asked_hears_of_a_renewal_and_is_not_kept_alive_by_it(
    files: Files, new_keypair: Callable[..., KeyPair]
) -> None:
    class Listener:
        heard = 0

        def hear(self) -> None:
            self.heard += 1

    listener, other = Listener(), Listener()
    files.keypair.on_renewal(listener.hear)
    files.keypair.on_renewal(other.hear)
    del other
    files.keypair.renew(new_keypair(PEER).current)
    assert listener.heard == 1


def test_the_private_key_is_in_no_representation_and_in_no_file_that_is_left(files: Files) -> None:
    assert "PRIVATE" not in repr(files.keypair.current)
    files.keypair.server_context(files.anchors)
    open_now = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink() and each.exists()]
    assert not [name for name in open_now if "memfd:pair" in name]

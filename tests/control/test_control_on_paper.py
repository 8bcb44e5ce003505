"""The doctor names each fault that can be seen without the node running, and what to do about it."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.settings import read_toml
from stelsel.control.observation import Observation
from stelsel.control.on_paper import (
    LEAST_FREE,
    examine,
    judge_certificate,
    judge_chain,
    judge_disk,
    judge_host_name,
    judge_listener,
    judge_mode,
    listeners,
    smells,
)
from stelsel.demo.authority import Authority
from stelsel.settings import NodeSettings

OIN = "00000099000000003000"
DAY = 86_400
NODE = """
data = "data"
group = "group.toml"
[peer]
certificate = "certificate.pem"
key = "key.pem"
[manager]
listen = "0.0.0.0:8443"
address = "https://{host}:8443"
[inway]
listen = "0.0.0.0:443"
address = "https://{host}:443"
[outway]
listen = "127.0.0.1:8080"
[web]
listen = "127.0.0.1:8000"
address = "https://{host}"
security_contact = "mailto:security@{host}"
"""
GROUP = """
id = "g"
name = "G"
trust_anchors = "anchors.pem"
directory_peer_id = "00000099000000001000"
directory_address = "https://directory.example:8443"
"""


@pytest.fixture
def node(tmp_path: Path, authority: Authority) -> Path:
    """A node's file with all that goes with it, of which nothing runs."""
    authority.issue(tmp_path, OIN, "Gemeente", domain_names=("node.gemeente.example",))
    (tmp_path / "anchors.pem").write_bytes(authority.root_pem)
    (tmp_path / "group.toml").write_text(GROUP)
    file = tmp_path / "node.toml"
    file.write_text(NODE.format(host="node.gemeente.example"))
    return file


def now_of(node: Path) -> float:
    keypair = KeyPair.load(node.parent / "certificate.pem", node.parent / "key.pem")
    return keypair.certificate.not_after - 60 * DAY


def wrong(seen: list[Observation]) -> dict[str, Observation]:
    found = {observation.name: observation for observation in seen if observation.ok is False}
    assert all(observation.next_step for observation in found.values()), "what is wrong comes with a next step"
    return found


def test_a_node_that_is_in_order_has_nothing_wrong(node: Path) -> None:
    settings, seen = examine(node, now_of(node))
    assert settings is not None
    assert wrong(seen) == {}
    assert not (node.parent / "data").exists()  # looking makes nothing


def test_a_file_that_cannot_be_read_is_the_one_thing_said(tmp_path: Path) -> None:
    settings, seen = examine(tmp_path / "none.toml", 0)
    assert settings is None
    assert [observation.ok for observation in seen] == [False]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda node: (node.parent / "key.pem").chmod(0o640), "private key"),
        (lambda node: (node.parent / "key.pem").write_text("nonsense"), "certificate"),
        (lambda node: (node.parent / "anchors.pem").write_text("nonsense"), "trust anchors"),
        (lambda node: (node.parent / "anchors.pem").write_bytes(Authority().root_pem), "chain"),
        (lambda node: node.write_text(NODE.format(host="elsewhere.example")), "manager host name"),
        (lambda node: node.write_text(node.read_text().replace(":8443", ":9443")), "manager port"),
        (lambda node: (node.parent / "data").mkdir(0o755), "data folder"),
        (lambda node: node.write_text(node.read_text().replace("127.0.0.1:8080", "0.0.0.0:8080")), "outway listens"),
        (lambda node: (node.parent / "group.toml").write_text(GROUP + 'revocation_lists = "gone"\n'), "trust anchors"),
    ],
)
def test_each_fault_is_named(node: Path, change: Callable[[Path], Any], name: str) -> None:
    change(node)
    now = now_of(node) if name != "certificate" else 0
    assert name in wrong(examine(node, now)[1])


def test_a_revocation_list_out_of_date_is_told(node: Path, authority: Authority) -> None:
    lists = node.parent / "lists.pem"
    lists.write_bytes(authority.revocation_list(days=1))
    (node.parent / "group.toml").write_text(GROUP + 'revocation_lists = "lists.pem"\n')
    found = wrong(examine(node, now_of(node))[1])
    assert "out of date" in found["revocation lists"].detail


def test_a_certificate_is_judged_by_its_dates(new_keypair: Callable[..., KeyPair]) -> None:
    certificate = new_keypair(OIN).certificate
    end, begin = certificate.not_after, certificate.not_before
    assert judge_certificate(certificate, end - 60 * DAY).ok
    assert "expires in 29 days" in judge_certificate(certificate, end - 29.5 * DAY).detail
    assert "expired on" in judge_certificate(certificate, end).detail
    assert "clock" in judge_certificate(certificate, begin - 1).next_step
    hostile = replace(certificate, peer_name="a\n\x1b[31m\u202eb")
    assert judge_certificate(hostile, end - 60 * DAY).detail.isprintable()


def test_a_chain_of_another_authority_does_not_hold(new_keypair: Callable[..., KeyPair]) -> None:
    keypair = new_keypair(OIN)
    seen = judge_chain(keypair, TrustAnchors(Authority().root_pem), keypair.certificate.not_before + DAY)
    assert seen.ok is False
    assert "leaf first" in seen.next_step


def test_a_wildcard_names_one_level_only(new_keypair: Callable[..., KeyPair]) -> None:
    certificate = replace(new_keypair(OIN).certificate, domain_names=("*.gemeente.example",))
    assert judge_host_name("manager", "https://node.gemeente.example:8443", certificate).ok is True
    assert judge_host_name("manager", "https://a.node.gemeente.example:8443", certificate).ok is False
    assert judge_host_name("manager", "https://gemeente.example:8443", certificate).ok is False
    assert judge_host_name("manager", "https://192.0.2.1:8443", certificate).ok is None


def test_modes_and_room() -> None:
    path = Path("/n/key.pem")
    assert judge_mode("private key", path, stat.S_IFREG | 0o600).ok
    assert judge_mode("private key", path, stat.S_IFREG | 0o604).next_step == "chmod 600 /n/key.pem"
    assert judge_mode("data folder", path, stat.S_IFDIR | 0o750).next_step == "chmod 700 /n/key.pem"
    assert judge_mode("private key", path, None).ok is False
    assert judge_disk(path, LEAST_FREE, writable=True).ok
    assert judge_disk(path, LEAST_FREE - 1, writable=True).ok is False
    assert judge_disk(path, LEAST_FREE, writable=False).ok is False


@pytest.mark.parametrize(
    ("name", "listen", "address", "ok"),
    [
        ("manager", "0.0.0.0:8443", "https://node.example:8443", True),
        ("manager", "127.0.0.1:8443", "https://node.example:8443", False),
        ("manager", "127.0.0.1:8443", "https://localhost:8443", True),
        ("inway", "[::1]:443", "https://node.example:443", False),
        ("outway", "127.0.0.1:8080", "", True),
        ("outway", "unix:/run/outway.sock", "", True),
        ("outway", "10.0.0.1:8080", "", False),
        ("web", "127.0.0.1:8000", "https://node.example", True),
        ("web", "0.0.0.0:8000", "https://node.example", False),
    ],
)
def test_listeners_reach_whom_they_are_for(name: str, listen: str, address: str, ok: bool) -> None:
    assert judge_listener(name, listen, address).ok is ok


def test_all_listeners_are_looked_at(node: Path) -> None:
    found = [name for name, _, _ in listeners(read_toml(node, NodeSettings))]
    assert found == ["manager", "inway", "outway", "web"]


def test_settings_that_are_seldom_meant_are_told_but_not_on_one_machine(node: Path) -> None:
    text = node.read_text() + '\n[portal]\nissuer = "https://login.example"\nclient_id = "g"\ndemo = true\n'
    text += '[[agreements.approve]]\nname = "open"\npeers = ["*"]\nservices = ["a"]\nmaximum_days = 9\n'
    text += '\n[[services]]\nname = "a"\nendpoint = "http://10.0.0.7:80"\n'
    text = text.replace('address = "https://node.gemeente.example"\n', 'address = "http://node.gemeente.example"\n')
    node.write_text(text)
    found = " ".join(each.detail for each in smells(read_toml(node, NodeSettings)) if each.ok is False)
    for part in (
        "plain http",
        "the rule open lets any peer",
        "portal.demo",
        "goes plain HTTP over the network, to 10.0.0.7",
    ):
        assert part in found
    node.write_text(text.replace("https://node.gemeente.example:8443", "https://localhost:8443"))
    assert all(each.ok is None for each in smells(read_toml(node, NodeSettings)))

"""Nodes whose own process carries all: certificates that are renewed, restarts, and sockets that systemd gives."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from exchange_processes import Door, Load, Pair, a_pair, until
from exchange_world import MUNICIPALITY, REGISTER

from stelsel.base.errors import Fault
from stelsel.demo.authority import Authority

pytestmark = pytest.mark.country


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with a_pair(tmp_path_factory.mktemp("r")) as pair:
        yield pair


@pytest.fixture(scope="module")
def contract(pair: Pair) -> str:
    return pair.agree()


def test_a_renewed_certificate_with_another_kind_of_key_is_taken_by_itself_and_nobody_notices(
    pair: Pair, contract: str
) -> None:
    door = Door(pair, 2)
    door.get_token(str(pair.control("register").get(f"/agreements/{contract.replace('/', '%2F')}")["grant_hashes"][0]))
    with Load(pair.outway) as load:
        # The two files change one after the other: what does not match is not taken.
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pair.authority.issue(pair.folder / "register", REGISTER, "register", key=key)
        new = pair.keypair("register").chain[0]
        until(lambda: pair.shown_at(pair.inway) == new)
        assert pair.shown_at(pair.managers["register"]) == new
        assert door.statuses() == [200, 200]
        count = load.answered
        until(lambda: load.answered > count + 20)
    assert (load.lost, set(load.statuses), load.reconnected) == ([], {200}, 0)
    # Its signatures are made again with the new certificate, so the contract outlives the old one.
    until(lambda: pair.control("municipality").get("/agreements")[0]["state"] == "valid")
    door.get_token(str(pair.control("register").get(f"/agreements/{contract.replace('/', '%2F')}")["grant_hashes"][0]))
    assert door.statuses() == [200, 200]
    door.close()


def test_tokens_follow_the_certificate_of_the_outway(pair: Pair, contract: str) -> None:
    keypair = pair.keypair("municipality")
    with Load(pair.outway) as load:
        pair.authority.issue(pair.folder / "municipality", MUNICIPALITY, "municipality", key=keypair.key, days=80)
        told = pair.control("municipality").post("/commands/reload")
        assert told["certificate_until"] < keypair.certificate.not_after
        count = load.answered
        until(lambda: load.answered > count + 50)
    assert (load.lost, set(load.statuses), load.reconnected) == ([], {200}, 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda pair, folder: pair.authority.issue(folder, MUNICIPALITY, "other"), "of another peer"),
        (lambda pair, folder: pair.authority.issue(folder, REGISTER, "register", days=-1), "expired"),
        (lambda pair, folder: Authority("strangers").issue(folder, REGISTER, "register"), "trust anchors"),
        (lambda pair, folder: (folder / "certificate.pem").write_text("nothing"), "no certificate"),
    ],
    ids=["other peer", "expired", "other authority", "no certificate"],
)
def test_a_certificate_that_does_not_hold_is_not_taken_and_the_operator_hears_why(
    pair: Pair, make: object, words: str
) -> None:
    folder = pair.folder / "register"
    before = {name: (folder / name).read_bytes() for name in ("certificate.pem", "key.pem")}
    shown = pair.shown_at(pair.inway)
    try:
        make(pair, folder)  # type: ignore[operator]
        with pytest.raises(Fault, match=words) as refused:
            pair.control("register").post("/commands/reload")
        assert refused.value.next_step
        assert pair.shown_at(pair.inway) == shown
        seen = {item["name"]: item for item in pair.control("register").post("/commands/doctor")}
        assert (seen["renewal"]["ok"], words in seen["renewal"]["detail"]) == (False, True)
    finally:
        for name, data in before.items():
            (folder / name).write_bytes(data)
    pair.control("register").post("/commands/reload")
    assert "renewal" not in {item["name"] for item in pair.control("register").post("/commands/doctor")}


def test_a_node_that_could_not_start_again_is_not_stopped(pair: Pair, contract: str) -> None:
    file = pair.folder / "register" / "node.toml"
    good = file.read_text()
    file.write_text(good + "\nnonsense = 1\n")
    with pytest.raises(Fault, match="nonsense"):
        pair.control("register").post("/commands/restart")
    file.write_text(good)
    assert pair.ask() == 200


def test_new_trust_anchors_are_trusted_at_once_and_old_ones_no_more(pair: Pair) -> None:
    strangers = Authority("strangers")
    other = pair.folder / "stranger"
    strangers.issue(other, "00000099000000005000", "stranger")
    (pair.lists / "strangers.crl").write_bytes(strangers.revocation_list())
    keypair = pair.keypair("stranger")

    def let_in() -> bool:
        with pair.handshake(pair.inway, keypair) as connection:
            try:
                connection.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
                return connection.recv(12) == b"HTTP/1.1 401"  # it has no token, but is heard
            except OSError:
                return False

    assert not let_in()
    (pair.folder / "anchors.pem").write_bytes(pair.authority.root_pem + strangers.root_pem)
    pair.control("register").post("/commands/reload")
    assert let_in()
    (pair.folder / "anchors.pem").write_bytes(pair.authority.root_pem)
    pair.control("register").post("/commands/reload")
    assert not let_in()


@pytest.mark.parametrize("name", ["register", "municipality"])
def test_a_restart_in_place_loses_no_request_and_cuts_none_that_is_under_way(
    pair: Pair, contract: str, name: str
) -> None:
    with Load(pair.outway) as load, Load(pair.outway, 2, "/echo/slow", "POST") as slow:
        pair.restart(name)
        count = load.answered
        until(lambda: load.answered > count + 20)
    assert (load.lost, set(load.statuses)) == ([], {200})
    assert (slow.lost, set(slow.statuses)) == ([], {200})


def test_a_node_stays_on_the_processor_that_its_file_names_also_when_that_changes(pair: Pair, contract: str) -> None:
    file, allowed = pair.folder / "municipality" / "node.toml", os.sched_getaffinity(0)
    good = file.read_text()
    for chosen in (min(allowed), max(allowed)):
        file.write_text(f"processors = [{chosen}]\n{good}")
        pair.restart("municipality")
        assert os.sched_getaffinity(pair.nodes["municipality"].pid) == {chosen}
        assert pair.ask() == 200
    file.write_text(f"processors = [100000]\n{good}")
    with pytest.raises(Fault, match="processor 100000"):
        pair.control("municipality").post("/commands/restart")
    file.write_text(good)
    pair.restart("municipality")
    assert os.sched_getaffinity(pair.nodes["municipality"].pid) == allowed


def test_a_stop_finishes_what_is_under_way(pair: Pair, contract: str) -> None:
    with Load(pair.outway, 1, "/echo/slow") as slow:
        count, before = slow.answered, pair.service.seen
        until(lambda: pair.service.seen > before)
        pair.nodes["municipality"].ask_to_stop()
        until(lambda: slow.answered > count)
        assert set(slow.statuses) == {200}
        pair.nodes["municipality"].await_end()
    pair.nodes["municipality"].start()
    pair.nodes["municipality"].wait_until(f"127.0.0.1:{pair.outway}")


def test_sockets_that_systemd_gives_are_used(pair: Pair, contract: str) -> None:
    pair.nodes["municipality"].stop()
    given = [socket.create_server(("127.0.0.1", port)) for port in (pair.managers["municipality"], pair.outway)]

    def hand_over() -> None:
        copies = [os.dup(each.fileno()) for each in given]
        for number, copy in enumerate(copies, 3):
            os.dup2(copy, number)
        os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "manager:node.socket"}
        file = str(pair.folder / "municipality" / "node.toml")
        os.execv(sys.executable, [sys.executable, "-m", "stelsel", "run", file])  # noqa: S606

    log = (pair.folder / "municipality" / "activated.log").open("wb")
    process = subprocess.Popen(["true"], preexec_fn=hand_over, close_fds=False, stdout=log, stderr=log)
    try:
        # Whoever comes before it runs waits in the backlog.
        assert pair.ask() == 200
        for each in given:
            assert each.getsockname()  # it listens still, and the node did not have to
    finally:
        process.terminate()
        process.wait(20)
        log.close()
        for each in given:
            each.close()
    assert b"running" in (pair.folder / "municipality" / "activated.log").read_bytes()

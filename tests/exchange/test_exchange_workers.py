"""Workers as real processes: every change acts in all of them at once, one that dies is replaced, none is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from exchange_processes import Door, Load, Pair, a_pair, until
from exchange_world import REGISTER

from stelsel.base.errors import Fault

pytestmark = pytest.mark.country
_AT_ONCE = 1.0
"""Seconds in which a change acts in all workers."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with a_pair(tmp_path_factory.mktemp("w"), register_workers=2, municipality_workers=2) as pair:
        yield pair


@pytest.fixture(scope="module")
def contract(pair: Pair) -> str:
    return pair.agree()


def grant_hash(pair: Pair, contract: str) -> str:
    return str(pair.control("register").get(f"/agreements/{contract.replace('/', '%2F')}")["grant_hashes"][0])


def all_are(door: Door, *wanted: int) -> bool:
    return set(door.statuses()) <= set(wanted)


def test_both_ledgers_hold_what_workers_carried_and_the_operator_sees_the_workers(pair: Pair, contract: str) -> None:
    before = {name: pair.control(name).get("/about")["ledger"]["size"] for name in pair.nodes}
    assert {pair.ask() for _ in range(20)} == {200}
    for name, size in before.items():
        assert pair.control(name).get("/about")["ledger"]["size"] == size + 20
        workers = pair.workers(name)
        assert [worker["serving"] for worker in workers] == [True, True]
        assert len({worker["pid"] for worker in workers} | {pair.nodes[name].pid}) == 3
    until(lambda: sum(worker["recorded"] for worker in pair.workers("register")) >= 20)
    seen = {item["name"]: item for item in pair.control("register").post("/commands/doctor")}
    assert seen["workers"]["ok"]
    assert seen["workers"]["detail"].startswith("2 run")
    steps = pair.control("municipality").post("/commands/explain", {"service": "echo"})
    assert all(step["ok"] is not False for step in steps), steps


def test_a_new_contract_and_its_revocation_act_in_every_worker_within_a_second(pair: Pair) -> None:
    door = Door(pair)
    try:
        content_hash = pair.agree()
        door.get_token(grant_hash(pair, content_hash))
        assert until(lambda: all_are(door, 200)) < _AT_ONCE
        pair.revoke(content_hash)
        assert until(lambda: all_are(door, 403)) < _AT_ONCE
    finally:
        door.close()


def test_a_certificate_on_a_new_revocation_list_is_refused_by_every_worker_within_a_second(
    pair: Pair, contract: str
) -> None:
    door = Door(pair)
    try:
        door.get_token(grant_hash(pair, contract))
        assert all_are(door, 200)
        pair.write_list(pair.keypair("municipality").chain[0])
        assert until(lambda: all_are(door, 401, 0)) < _AT_ONCE
        pair.write_list()
        until(lambda: pair.ask() == 200)
    finally:
        door.close()


def test_a_worker_that_is_killed_is_replaced_and_only_its_own_connections_end(pair: Pair, contract: str) -> None:
    door = Door(pair)
    try:
        door.get_token(grant_hash(pair, contract))
        assert all_are(door, 200)
        victim, other = pair.workers("register")
        os.kill(victim["pid"], signal.SIGKILL)
        after = door.statuses()
        assert after.count(200) >= 1
        assert set(after) == {200, 0}
        # Who was hashed to the dead worker's socket waits in its backlog for the successor.
        late = Door(pair)
        late.token = door.token
        assert all_are(late, 200)
        late.close()
        until(lambda: all(worker["serving"] for worker in pair.workers("register")))
        successor, same = pair.workers("register")
        assert same["pid"] == other["pid"]
        assert (successor["pid"] != victim["pid"], successor["restarts"]) == (True, victim["restarts"] + 1)
    finally:
        door.close()


def test_workers_are_replaced_one_by_one_without_a_lost_request(pair: Pair, contract: str) -> None:
    before = {name: {worker["pid"] for worker in pair.workers(name)} for name in pair.nodes}
    with Load(pair.outway) as load:
        for name in pair.nodes:
            assert pair.control(name).post("/commands/reload")["workers"] == 2
        count = load.answered
        until(lambda: load.answered > count + 50)
        for name in pair.nodes:
            until(lambda name=name: not before[name] & _alive(before[name]))
            assert not before[name] & {worker["pid"] for worker in pair.workers(name)}
    assert (load.lost, set(load.statuses)) == ([], {200})


def test_a_worker_that_does_not_start_leaves_the_old_one_at_work(pair: Pair, contract: str) -> None:
    before = [worker["pid"] for worker in pair.workers("register")]
    key = pair.folder / "register" / "data" / "subject.key"
    key.chmod(0o644)  # others may read it, so a worker refuses to begin
    try:
        with pytest.raises(Fault, match="did not start"):
            pair.control("register").post("/commands/reload")
    finally:
        key.chmod(0o600)
    assert [worker["pid"] for worker in pair.workers("register")] == before
    assert {pair.ask() for _ in range(4)} == {200}


def test_a_worker_that_is_asked_to_end_finishes_and_is_replaced(pair: Pair, contract: str) -> None:
    with Load(pair.outway) as load:
        victim = pair.workers("municipality")[0]
        os.kill(victim["pid"], signal.SIGTERM)
        until(lambda: pair.workers("municipality")[0]["pid"] not in {None, victim["pid"]})
        until(lambda: pair.workers("municipality")[0]["serving"])
    assert (load.lost, set(load.statuses)) == ([], {200})


def test_a_house_that_restarts_loses_no_request_and_gets_new_workers(pair: Pair, contract: str) -> None:
    before = {worker["pid"] for worker in pair.workers("register")}
    with Load(pair.outway) as load:
        pair.restart("register")
        count = load.answered
        until(lambda: load.answered > count + 50)
    assert (load.lost, set(load.statuses)) == ([], {200})
    assert pair.control("register").get("/about")["process"]["pid"] == pair.nodes["register"].pid
    assert not before & {worker["pid"] for worker in pair.workers("register")}


def test_a_renewed_certificate_is_shown_by_every_worker_while_connections_live_on(pair: Pair, contract: str) -> None:
    door = Door(pair, 6)
    door.get_token(grant_hash(pair, contract))
    assert all_are(door, 200)
    pair.authority.issue(pair.folder / "register", REGISTER, "register")
    new = pair.keypair("register").chain[0]
    with Load(pair.outway) as load:
        told = pair.control("register").post("/commands/reload", {"keep_workers": True})
        # The node may have seen it by itself already.
        assert told["workers"] == 0
        assert until(lambda: {pair.shown_at(pair.inway) for _ in range(8)} == {new}) < _AT_ONCE
        assert all_are(door, 200)  # also with the token that the earlier certificate issued
    assert (load.lost, set(load.statuses), load.reconnected) == ([], {200}, 0)
    door.close()


def test_workers_without_a_house_refuse_and_end(pair: Pair, contract: str) -> None:
    door = Door(pair)
    door.get_token(grant_hash(pair, contract))
    assert all_are(door, 200)
    workers = {worker["pid"] for worker in pair.workers("register")}
    pair.nodes["register"].kill()
    assert not set(door.statuses()) & {200}
    # It starts again at once, while they may still hold its port.
    pair.nodes["register"].start()
    pair.nodes["register"].wait_until(f"unix:{pair.folder / 'register' / 'data' / 'control.sock'}")
    until(lambda: pair.ask() == 200)
    until(lambda: not _alive(workers))
    door.close()


def _alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


def test_workers_stay_on_the_processors_that_the_file_names_in_turn_and_the_house_does_not(pair: Pair) -> None:
    file, allowed = pair.folder / "register" / "node.toml", os.sched_getaffinity(0)
    good = file.read_text()
    chosen = [max(allowed), min(allowed)]
    file.write_text(f"processors = {chosen}\n{good}")
    pair.restart("register")
    until(lambda: [worker["serving"] for worker in pair.workers("register")] == [True, True])
    assert [os.sched_getaffinity(worker["pid"]) for worker in pair.workers("register")] == [{one} for one in chosen]
    assert os.sched_getaffinity(pair.nodes["register"].pid) == allowed
    assert pair.ask() == 200
    file.write_text(good)
    pair.restart("register")
    until(lambda: [worker["serving"] for worker in pair.workers("register")] == [True, True])
    assert {frozenset(os.sched_getaffinity(worker["pid"])) for worker in pair.workers("register")} == {
        frozenset(allowed)
    }

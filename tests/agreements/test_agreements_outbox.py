"""The outbox: quick at first, patient later, never for ever silent; and what it keeps when a peer refuses."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from stelsel.agreements import store
from stelsel.agreements.client import PeerRefused
from stelsel.agreements.outbox import LONGEST_WAIT, Outbox, wait_after
from stelsel.agreements.stored import Delivery
from stelsel.base.clock import SystemClock
from stelsel.base.database import Database
from stelsel.base.errors import Unavailable

PEER, OTHER = "00000099000000001000", "00000099000000002000"


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waiting_grows_to_five_minutes_and_no_further(attempts: int, spread: float) -> None:
    assert 0.1 <= wait_after(attempts, spread) <= LONGEST_WAIT
    assert wait_after(attempts, spread) <= wait_after(attempts + 1, spread)
    assert wait_after(1, 1) <= 0.2
    assert wait_after(100, 0) == LONGEST_WAIT / 2


def _database(folder: Path) -> Database:
    database = Database(folder / "node.sqlite")
    database.create()
    return database


def _queued(database: Database, *peers: str, kinds: tuple[str, ...] = ("accept",)) -> None:
    for kind in kinds:
        database.write_now(lambda c, kind=kind: store.queue(c, peers, kind, "$1$1$x", time.time()))  # type: ignore[misc]


def _all(database: Database) -> list[Delivery]:
    with database.read() as connection:
        return store.deliveries_of(connection)


async def _until_settled(database: Database) -> None:
    for _ in range(500):
        if all(delivery.status != "pending" for delivery in _all(database)):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the outbox did not get done")


def test_a_message_is_tried_again_until_it_is_heard_and_the_order_is_kept(tmp_path: Path) -> None:
    database, heard, failures = _database(tmp_path), [], iter([1, 2])

    async def send(delivery: Delivery) -> None:
        if delivery.kind == "revoke" and next(failures, None):
            raise Unavailable("down")
        heard.append(delivery.kind)

    async def scenario() -> None:
        _queued(database, PEER, kinds=("accept", "revoke"))
        outbox = Outbox(database, SystemClock(), send)
        await outbox.start()
        await _until_settled(database)
        await outbox.stop()

    asyncio.run(scenario())
    assert heard == ["accept", "revoke"]
    assert [delivery.attempts for delivery in _all(database)] == [1, 3]
    database.close()


def test_a_refusal_is_kept_with_its_reason_and_a_mistake_holds_up_nobody(tmp_path: Path) -> None:
    database = _database(tmp_path)

    async def send(delivery: Delivery) -> None:
        if delivery.peer_id == PEER:
            raise PeerRefused("no", evidence=[{"check": "x"}])
        if delivery.kind == "accept":
            raise RuntimeError("a mistake of ours")

    async def scenario() -> None:
        _queued(database, PEER, OTHER, kinds=("accept", "revoke"))
        outbox = Outbox(database, SystemClock(), send)
        await outbox.start()
        for _ in range(500):
            if all(delivery.attempts for delivery in _all(database)):
                break
            await asyncio.sleep(0.01)
        await outbox.stop()

    asyncio.run(scenario())
    found = {(d.peer_id, d.kind): d for d in _all(database)}
    assert found[PEER, "accept"].status == "refused"
    assert (found[PEER, "accept"].reason, found[PEER, "accept"].evidence) == ("no", [{"check": "x"}])
    assert found[OTHER, "accept"].status == "pending"
    assert found[OTHER, "revoke"].status == "delivered"
    database.close()


def test_a_refusal_because_our_certificates_could_not_be_fetched_is_not_for_good(tmp_path: Path) -> None:
    database, heard = _database(tmp_path), []

    async def send(delivery: Delivery) -> None:
        heard.append(delivery.kind)
        if len(heard) <= 2:
            raise PeerRefused("no certificate", code="ERROR_CODE_SIGNATURE_VERIFICATION_FAILED")

    async def scenario() -> None:
        _queued(database, PEER)
        outbox = Outbox(database, SystemClock(), send)
        await outbox.start()
        await _until_settled(database)
        await outbox.stop()

    asyncio.run(scenario())
    assert [(d.status, d.attempts, d.reason) for d in _all(database)] == [("delivered", 3, "")]
    database.close()


def test_a_peer_that_does_not_answer_holds_up_no_other(tmp_path: Path) -> None:
    database, heard = _database(tmp_path), []

    async def send(delivery: Delivery) -> None:
        if delivery.peer_id == PEER:
            await asyncio.sleep(60)
        heard.append(delivery.peer_id)

    async def scenario() -> None:
        _queued(database, PEER, OTHER)
        outbox = Outbox(database, SystemClock(), send)
        await outbox.start()
        for _ in range(500):
            if heard:
                break
            await asyncio.sleep(0.01)
        _queued(database, OTHER, kinds=("revoke",))
        outbox.wake()
        for _ in range(500):
            if len(heard) == 2:
                break
            await asyncio.sleep(0.01)
        await outbox.stop()

    asyncio.run(scenario())
    assert heard == [OTHER, OTHER]
    assert [d.status for d in _all(database) if d.peer_id == PEER] == ["pending"]
    database.close()

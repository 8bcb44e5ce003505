"""The supervisor when workers do not come to life."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from test_exchange_workers_link import House, a_group

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.errors import ConfigurationFault
from stelsel.exchange.workers import supervisor as supervisor_module
from stelsel.exchange.workers.supervisor import Configuration, Supervisor
from stelsel.privacy.subjects import SubjectReferences


def a_supervisor(keypair: KeyPair, anchors: TrustAnchors, subject_key: Path = Path("/nowhere")) -> Supervisor:
    house = House()
    configuration = Configuration(
        group=a_group().model_dump(mode="json"),
        services=[],
        inway=None,
        outway=None,
        dialect={},
        subject_key=subject_key,
        token_lifetime=300,
        deadline=5,
        waiting_records=10,
        record_bytes=1000,
        drain_seconds=1,
    )
    return Supervisor(agreements=house, ledger=house, keypair=keypair, anchors=anchors, configuration=configuration)


def test_a_node_does_not_start_with_workers_that_do_not(
    register: KeyPair, anchors: TrustAnchors, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        supervisor = a_supervisor(register, anchors)
        monkeypatch.setattr(sys, "executable", shutil.which("false"))
        await supervisor.prepare(2, {})
        with pytest.raises(ConfigurationFault, match="did not start"):
            await supervisor.start()
        await supervisor.stop(0.1)
        assert not any(worker["serving"] for worker in supervisor.status())
        # A program that cannot be begun at all is no more.
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(OSError):
            await a_supervisor(register, anchors).prepare(1, {})

    asyncio.run(asyncio.wait_for(scenario(), 90))


def test_a_worker_that_dies_again_and_again_is_replaced_ever_slower(
    register: KeyPair, anchors: TrustAnchors, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float] = []
    create = asyncio.create_subprocess_exec

    async def counted(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        begun.append(asyncio.get_running_loop().time())
        return await create(*arguments, **options)

    async def scenario() -> None:
        monkeypatch.setattr(asyncio, "create_subprocess_exec", counted)
        monkeypatch.setattr(sys, "executable", shutil.which("false"))
        supervisor = a_supervisor(register, anchors)
        await supervisor.prepare(1, {})
        while len(begun) < 4:
            await asyncio.sleep(0.01)
        await supervisor.stop(0.1)
        [worker] = supervisor.status()
        assert (worker["restarts"], worker["pid"]) == (3, None)

    asyncio.run(asyncio.wait_for(scenario(), 90))
    gaps = [later - earlier for earlier, later in pairwise(begun)]
    assert all(gap >= 0.05 * 2**number for number, gap in enumerate(gaps, 1))


def test_a_worker_that_hangs_is_killed_and_replaced_but_none_for_a_machine_that_was_halted(
    register: KeyPair, anchors: TrustAnchors, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    SubjectReferences.load(tmp_path / "subject.key")
    monkeypatch.setattr(supervisor_module, "_SILENCE", 2.0)
    monkeypatch.setattr(supervisor_module, "_TICK", 0.05)

    async def scenario() -> None:
        supervisor = a_supervisor(register, anchors, tmp_path / "subject.key")
        await supervisor.prepare(1, {})
        await supervisor.start()
        [before] = supervisor.status()
        time.sleep(2.5)  # this process stands still, and heard nothing for as long
        await asyncio.sleep(0.2)
        assert supervisor.status()[0]["pid"] == before["pid"]
        os.kill(before["pid"], signal.SIGSTOP)
        while supervisor.status()[0]["pid"] in {None, before["pid"]}:
            await asyncio.sleep(0.02)
        await supervisor.stop(0.1)

    asyncio.run(asyncio.wait_for(scenario(), 90))


def test_a_worker_in_the_place_of_another_that_hangs_before_it_serves_is_replaced_too(
    register: KeyPair, anchors: TrustAnchors, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    SubjectReferences.load(tmp_path / "subject.key")
    monkeypatch.setattr(supervisor_module, "_SILENCE", 1.0)
    monkeypatch.setattr(supervisor_module, "_TICK", 0.05)

    async def scenario() -> None:
        supervisor = a_supervisor(register, anchors, tmp_path / "subject.key")
        await supervisor.prepare(1, {})
        await supervisor.start()
        monkeypatch.setattr(supervisor_module, "_START_SECONDS", 0.5)
        pids = [supervisor.status()[0]["pid"]]
        os.kill(pids[0], signal.SIGKILL)
        for number in (signal.SIGSTOP, signal.SIGCONT):
            while (now := supervisor.status()[0]["pid"]) in {None, *pids}:
                await asyncio.sleep(0.002)
            os.kill(now, number)
            pids.append(now)
            monkeypatch.setattr(supervisor_module, "_SILENCE", 1.0 if number == signal.SIGSTOP else 30.0)
        while not supervisor.status()[0]["serving"]:
            await asyncio.sleep(0.02)
        await supervisor.stop(0.1)

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_node_that_stops_begins_no_new_workers_though_they_were_being_replaced(
    register: KeyPair, anchors: TrustAnchors, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    SubjectReferences.load(tmp_path / "subject.key")
    begun = 0
    create = asyncio.create_subprocess_exec

    async def counted(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        nonlocal begun
        begun += 1
        return await create(*arguments, **options)

    async def scenario() -> None:
        monkeypatch.setattr(asyncio, "create_subprocess_exec", counted)
        supervisor = a_supervisor(register, anchors, tmp_path / "subject.key")
        await supervisor.prepare(3, {})
        await supervisor.start()
        rolling = asyncio.create_task(supervisor.roll())
        while begun < 4:
            await asyncio.sleep(0.005)
        await supervisor.stop(0.1)
        assert await rolling == 1
        assert begun == 4
        assert [worker["pid"] for worker in supervisor.status()] == [None] * 3

    asyncio.run(asyncio.wait_for(scenario(), 60))

"""The supervisor when workers do not come to life."""

from __future__ import annotations

import asyncio
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from test_exchange_workers_link import House

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.errors import ConfigurationFault
from stelsel.exchange.workers.supervisor import Configuration, Supervisor


def a_supervisor(keypair: KeyPair, anchors: TrustAnchors) -> Supervisor:
    house = House()
    configuration = Configuration(
        group={},
        services=[],
        inway=None,
        outway=None,
        dialect={},
        subject_key=Path("/nowhere"),
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

    asyncio.run(asyncio.wait_for(scenario(), 20))


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

    asyncio.run(asyncio.wait_for(scenario(), 20))
    gaps = [later - earlier for earlier, later in pairwise(begun)]
    assert all(gap >= 0.05 * 2**number for number, gap in enumerate(gaps, 1))

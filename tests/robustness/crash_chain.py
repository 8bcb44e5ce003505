"""Two nodes of the crash trial and a service, running for a test; and traffic through them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from crash.chain import NODE, PEERS, SERVICE, Chain
from crash.load import Load
from crash.nursery import Nursery


@contextmanager
def running(folder: Path, prepare: Callable[[Chain], None] = lambda _: None) -> Iterator[tuple[Chain, Nursery]]:
    """Both nodes are up and have agreed. `prepare` may change their files before they start."""
    chain = Chain.make(folder)
    prepare(chain)
    nursery = Nursery((NODE, SERVICE))
    try:
        for name in ("service", *PEERS):
            chain.start(nursery, name)
        for name in PEERS:
            chain.await_node(name)
        chain.agree()
        yield chain, nursery
    finally:
        nursery.close()
        chain.close()


def traffic(chain: Chain, wanted: int) -> list[str]:
    """So many answered requests, or a few more; their transaction ids."""
    load = Load(chain.ports["outway"], random.Random(5))

    async def run() -> None:
        load.start()
        while len(load.answered) < wanted:
            await asyncio.sleep(0.01)
        await load.stop()

    asyncio.run(run())
    return sorted(each.decode() for each in load.answered)

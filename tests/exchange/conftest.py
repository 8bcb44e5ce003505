"""Peers for tests of the exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from exchange_world import MUNICIPALITY, REGISTER, Play, World, a_world

from stelsel.base.certificates import KeyPair, TrustAnchors


@pytest.fixture(scope="session")
def register(new_keypair: Callable[..., KeyPair]) -> KeyPair:
    return new_keypair(REGISTER, "Bevolkingsregister")


@pytest.fixture(scope="session")
def municipality(new_keypair: Callable[..., KeyPair]) -> KeyPair:
    return new_keypair(MUNICIPALITY, "Gemeente")


@pytest.fixture
def play(register: KeyPair, municipality: KeyPair, anchors: TrustAnchors) -> Play:
    """Plays a scenario in a fresh world: `play(scenario, inway_limits={...})`."""

    def run(scenario: Callable[[World], Awaitable[None]], **options: Any) -> None:
        async def main() -> None:
            async with a_world(register, municipality, anchors, **options) as world:
                await asyncio.wait_for(scenario(world), 30)

        asyncio.run(main())

    return run


@pytest.fixture
def play_fast(register: KeyPair, municipality: KeyPair, anchors: TrustAnchors) -> Play:
    """As `play`, on the loop that nodes run on."""

    def run(scenario: Callable[[World], Awaitable[None]], **options: Any) -> None:
        async def main() -> None:
            async with a_world(register, municipality, anchors, **options) as world:
                await asyncio.wait_for(scenario(world), 60)

        uvloop.run(main())

    return run

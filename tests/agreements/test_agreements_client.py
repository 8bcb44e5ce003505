"""Connections to other managers: nothing is left open, whatever breaks them off."""

from __future__ import annotations

import asyncio
import gc

from agreements_peers import CONSUMER, PROVIDER

from stelsel.agreements.client import PeerClients
from stelsel.base.certificates import KeyPair, TrustAnchors


def test_a_handshake_that_is_broken_off_leaves_nothing_open(
    keypairs: dict[str, KeyPair], anchors: TrustAnchors
) -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        address = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        clients = PeerClients(keypairs[CONSUMER], anchors, "https://localhost:1")
        task = asyncio.create_task(clients.get(PROVIDER, address, "/v1/peer"))
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await clients.close()
        server.close()
        await asyncio.sleep(0.3)

    asyncio.run(scenario())
    gc.collect()  # a socket left open is a ResourceWarning, and warnings are errors

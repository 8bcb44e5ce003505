"""A call between delegates: who let whom act is in the token, in both ledgers, and in the log that peers may read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
from exchange_world import MUNICIPALITY, REGISTER, Backend, Reply, listener, plain_answer, read_reply
from test_exchange_real_rooms import Node, until

from stelsel.agreements.agreement import State
from stelsel.agreements.external_contract import CONNECTION, ExternalContract
from stelsel.agreements.group import Group
from stelsel.agreements.proposals import ConnectionProposal, DelegatedConnectionProposal, Proposal
from stelsel.agreements.services import Service
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.clock import SystemClock
from stelsel.base.web import application, serving
from stelsel.exchange.inway import Inway
from stelsel.exchange.outway import Outway
from stelsel.exchange.settings import InwaySettings, OutwaySettings
from stelsel.ledger.api import routes as ledger_routes
from stelsel.ledger.query import Query

CONSUMER_FOR, PROVIDER_FOR, OUTSIDER = "00000099000000006000", "00000099000000007000", "00000099000000008000"
REFERENCE = ExternalContract(reference="contract 7", delegator_id="9", delegator_name="Kleine gemeente")


def test_delegation_is_in_token_ledger_and_log(
    register: KeyPair,
    municipality: KeyPair,
    anchors: TrustAnchors,
    tmp_path: Path,
    new_keypair: Callable[..., KeyPair],
) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            (tmp_path / "anchors.pem").write_bytes(anchors.pem)
            backend = Backend(answer=plain_answer(b"{}"))
            server = await asyncio.start_server(backend.serve, "127.0.0.1", 0)
            stack.callback(server.close)
            services = (Service(name="wegen", endpoint=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"),)
            in_socket, out_socket, log_socket = listener(), listener(), listener()
            inway_address = f"https://localhost:{in_socket.getsockname()[1]}"
            keypairs = [register, municipality, new_keypair(CONSUMER_FOR), new_keypair(PROVIDER_FOR)]
            nodes = {
                each.certificate.peer_id: Node(each, anchors, tmp_path / each.certificate.peer_id) for each in keypairs
            }
            group = Group(
                id="stelsel-test",
                name="Test",
                trust_anchors=tmp_path / "anchors.pem",
                directory_peer_id=REGISTER,
                directory_address=nodes[REGISTER].address,
                ports=(),
            )
            for peer_id, node in nodes.items():
                node.folder.mkdir()
                offers = peer_id == REGISTER
                await node.start(stack, group, inway_address if offers else None, services if offers else ())
                await node.agreements.announce()
            provider, consumer = nodes[REGISTER], nodes[MUNICIPALITY]
            common: dict[str, Any] = {"anchors": anchors, "group": group, "clock": SystemClock()}
            inway = Inway(
                agreements=provider.agreements,
                ledger=provider.ledger,
                references=provider.references,
                services=services,
                keypair=register,
                settings=InwaySettings(listen="127.0.0.1:1", address=inway_address),
                **common,
            )
            outway = Outway(
                agreements=consumer.agreements,
                ledger=consumer.ledger,
                references=consumer.references,
                keypair=municipality,
                settings=OutwaySettings(listen="127.0.0.1:1"),
                **common,
            )
            await inway.start(in_socket)
            stack.push_async_callback(inway.stop, 0.2)
            await outway.start(out_socket)
            stack.push_async_callback(outway.stop, 0.2)
            stack.callback(log_socket.close)
            log = application(ledger_routes(provider.ledger, provider.agreements.log_data))
            await stack.enter_async_context(serving(log, log_socket, register.server_context(anchors)))

            async def agree(proposal: Proposal) -> str:
                await until(lambda: len(provider.agreements.listed_peers()) == 4)
                content_hash = await consumer.agreements.propose(proposal)
                for peer_id in consumer.agreements.contract(content_hash).others:
                    other = nodes[peer_id].agreements
                    await until(lambda other=other: content_hash in {c.content_hash for c in other.contracts()})  # type: ignore[misc]
                    await other.accept(content_hash)
                for node in (provider, consumer):
                    await until(
                        lambda node=node: node.agreements.contract(content_hash).state is State.VALID  # type: ignore[misc]
                    )
                return consumer.agreements.contract(content_hash).agreements[0].grant_hash

            async def ask(grant_hash: str) -> Reply:
                reader, writer = await asyncio.open_connection("127.0.0.1", out_socket.getsockname()[1])
                writer.write(f"GET / HTTP/1.1\r\nHost: x\r\nFsc-Grant-Hash: {grant_hash}\r\n\r\n".encode())
                try:
                    return await asyncio.wait_for(read_reply(reader), 10)
                finally:
                    writer.close()

            async def logged(keypair: KeyPair, grant_hash: str) -> list[Any]:
                async with httpx.AsyncClient(verify=keypair.client_context(anchors), trust_env=False) as client:
                    address = f"https://localhost:{log_socket.getsockname()[1]}/v1/logs"
                    answer = await client.get(address, params={"grant_hash": grant_hash})
                    return list(answer.json()["records"])

            grant_hash = await agree(
                DelegatedConnectionProposal(REGISTER, "wegen", service_delegator=PROVIDER_FOR, delegator=CONSUMER_FOR)
            )
            reply = await ask(grant_hash)
            assert reply.status == 200
            for node in (provider, consumer):
                [entry] = await node.ledger.find(Query(transaction_id=reply.headers["fsc-transaction-id"]))
                record = entry.record
                assert (record.consumer, record.consumer_delegator) == (MUNICIPALITY, CONSUMER_FOR)
                assert (record.provider, record.provider_delegator) == (REGISTER, PROVIDER_FOR)
            for keypair in keypairs:  # all four took part (Logging 3.2.1.1)
                [shown] = await logged(keypair, grant_hash)
                assert shown["source"] == {
                    "type": "SOURCE_TYPE_DELEGATED_SOURCE",
                    "outway_peer_id": MUNICIPALITY,
                    "delegator_peer_id": CONSUMER_FOR,
                }
                assert shown["destination"] == {
                    "type": "DESTINATION_TYPE_DELEGATED_DESTINATION",
                    "service_peer_id": REGISTER,
                    "delegator_peer_id": PROVIDER_FOR,
                }
            assert await logged(new_keypair(OUTSIDER), grant_hash) == []

            grant_hash = await agree(ConnectionProposal(REGISTER, "wegen", external_contract=REFERENCE))
            assert (await ask(grant_hash)).status == 200
            [shown] = await logged(municipality, grant_hash)
            assert shown["additional_data"][CONNECTION] == REFERENCE.model_dump()
            assert shown["source"]["type"] == "SOURCE_TYPE_SOURCE"
            assert await logged(keypairs[2], grant_hash) == []
            for task in backend.tasks:
                task.cancel()
            await asyncio.gather(*backend.tasks)

    asyncio.run(scenario())

"""The whole chain with the real rooms: signed contracts, real managers, durable ledgers, receipts that verify."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from exchange_world import MUNICIPALITY, PERSON, REGISTER, Backend, Reply, listener, plain_answer, read_reply, terms

from stelsel.agreements.agreement import State
from stelsel.agreements.api import routes
from stelsel.agreements.group import Group
from stelsel.agreements.proposals import ConnectionProposal
from stelsel.agreements.service import Agreements
from stelsel.agreements.services import Service
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.clock import SystemClock
from stelsel.base.database import Database
from stelsel.base.web import application, serving
from stelsel.exchange.inway import Inway
from stelsel.exchange.outway import Outway
from stelsel.exchange.settings import InwaySettings, OutwaySettings
from stelsel.ledger import receipts
from stelsel.ledger.query import Query
from stelsel.ledger.service import Ledger
from stelsel.privacy.subjects import SubjectReferences


class Node:
    """One peer: manager, ledger, key of references."""

    def __init__(self, keypair: KeyPair, anchors: TrustAnchors, folder: Path) -> None:
        self.keypair = keypair
        self.anchors = anchors
        self.folder = folder
        self.manager = listener()
        self.address = f"https://localhost:{self.manager.getsockname()[1]}"

    async def start(
        self, stack: AsyncExitStack, group: Group, inway_address: str | None, services: tuple[Service, ...]
    ) -> None:
        database = Database(self.folder / "node.sqlite")
        database.create()
        stack.callback(database.close)
        self.agreements = Agreements(
            database=database,
            keypair=self.keypair,
            anchors=self.anchors,
            group=group,
            clock=SystemClock(),
            manager_address=self.address,
            inway_address=inway_address,
            services=services,
        )
        self.ledger = Ledger(folder=self.folder / "ledger", keypair=self.keypair, clock=SystemClock())
        self.references = SubjectReferences.load(self.folder / "references.key")
        await self.ledger.start()
        stack.push_async_callback(self.ledger.stop)
        await self.agreements.start()
        stack.push_async_callback(self.agreements.stop)
        stack.callback(self.manager.close)
        context = self.keypair.server_context(self.anchors)
        await stack.enter_async_context(serving(application(routes(self.agreements)), self.manager, context))


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it took too long"
        await asyncio.sleep(0.02)


def test_from_a_signed_contract_to_a_receipt_and_a_revocation(
    register: KeyPair, municipality: KeyPair, anchors: TrustAnchors, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            (tmp_path / "anchors.pem").write_bytes(anchors.pem)
            backend = Backend(answer=plain_answer(b'{"personen":[{"naam":"Suzanne"}]}'))
            server = await asyncio.start_server(backend.serve, "127.0.0.1", 0)
            stack.callback(server.close)
            endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            services = (Service(name="personen", endpoint=endpoint, personal=True, records="personen"),)
            in_socket, out_socket = listener(), listener()
            out_port = out_socket.getsockname()[1]
            inway_address = f"https://localhost:{in_socket.getsockname()[1]}"
            provider, consumer = (
                Node(keypair, anchors, tmp_path / keypair.certificate.peer_id) for keypair in (register, municipality)
            )
            for node in (provider, consumer):
                node.folder.mkdir()
            group = Group(
                id="stelsel-test",
                name="Test",
                trust_anchors=tmp_path / "anchors.pem",
                directory_peer_id=REGISTER,
                directory_address=provider.address,
                ports=(),
            )
            await provider.start(stack, group, inway_address, services)
            await consumer.start(stack, group, None, ())
            inway = Inway(
                agreements=provider.agreements,
                ledger=provider.ledger,
                references=provider.references,
                services=services,
                keypair=register,
                anchors=anchors,
                group=group,
                clock=SystemClock(),
                settings=InwaySettings(listen="127.0.0.1:1", address=inway_address),
            )
            outway = Outway(
                agreements=consumer.agreements,
                ledger=consumer.ledger,
                references=consumer.references,
                keypair=municipality,
                anchors=anchors,
                group=group,
                clock=SystemClock(),
                settings=OutwaySettings(listen="127.0.0.1:1", aliases={"personen": f"{REGISTER}/personen"}),
            )
            await inway.start(in_socket)
            stack.push_async_callback(inway.stop, 0.2)
            await outway.start(out_socket)
            stack.push_async_callback(outway.stop, 0.2)

            async def ask(fields: list[str]) -> Reply:
                reader, writer = await asyncio.open_connection("127.0.0.1", out_port)
                body = json.dumps({"fields": fields, "burgerservicenummer": [PERSON]}).encode()
                writer.write(
                    b"POST /personen/personen HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
                )
                try:
                    return await asyncio.wait_for(read_reply(reader), 10)
                finally:
                    writer.close()

            # No agreement, no answer.
            assert (await ask(["naam"])).json["reason"] == "no-agreement"
            await consumer.agreements.announce()
            content_hash = await consumer.agreements.propose(
                ConnectionProposal(provider=REGISTER, service="personen", terms=terms())
            )
            assert (await ask(["naam"])).json["reason"] == "not-in-force"
            await until(lambda: bool(provider.agreements.contracts(state=State.PROPOSED)))
            await provider.agreements.accept(content_hash)
            await until(lambda: any(a.state is State.VALID for a in consumer.agreements.agreements()))
            reply = await ask(["naam"])
            assert (reply.status, reply.json) == (200, {"personen": [{"naam": "Suzanne"}]})
            transaction = reply.headers["fsc-transaction-id"]
            assert (await ask(["naam", "adres"])).json["fields"] == ["adres"]
            # Both ledgers hold it, under one transaction id and one trace id; the register proves it.
            [received] = await provider.ledger.find(Query(subject=provider.references.of(PERSON)))
            [sent] = await consumer.ledger.find(Query(transaction_id=transaction))
            assert received.record.transaction_id == transaction
            assert received.record.trace_id == sent.record.trace_id
            assert (received.record.consumer, sent.record.provider) == (MUNICIPALITY, REGISTER)
            receipt = await provider.ledger.receipt(received.index)
            assert receipts.verify(receipt, anchors, time.time())
            # Revoked: the inway refuses at once, whatever the outway knows.
            await provider.agreements.revoke(content_hash)
            reply = await ask(["naam"])
            assert (reply.status, reply.json["reason"]) == (403, "revoked")
            assert len(backend.seen) == 1
            # A ledger that is gone refuses everything.
            await consumer.ledger.stop()
            reply = await ask(["naam"])
            assert (reply.status, reply.headers["fsc-error-code"]) == (500, "TRANSACTION_LOG_WRITE_ERROR")
            for task in backend.tasks:
                task.cancel()
            await asyncio.gather(*backend.tasks)

    asyncio.run(scenario())

"""Peers witness each other's ledgers over real mutual TLS; who shows two histories is caught, and anyone can see it."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from stelsel.base.canonical import parse_object
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.clock import SetClock
from stelsel.base.database import Database
from stelsel.base.web import application, listen, serving
from stelsel.demo.authority import Authority
from stelsel.ledger import receipts, tlog_api, two_histories, witness_api, witnessing
from stelsel.ledger.audit import Report
from stelsel.ledger.checkpoint import read_checkpoint
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.merkle import leaf_hash
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger
from stelsel.ledger.settings import LedgerSettings
from stelsel.ledger.witness import write_submission
from stelsel.ledger.witness_service import Witness, origin_hash
from stelsel.ledger.witnessing import Witnessing, fetch_tile

REGISTER, REGIE, GEMEENTE = "00000099000000002000", "00000099000000001000", "00000099000000003000"
START = time.time()
NewRecord = Callable[..., Record]


class Peers:
    """How one peer reaches the managers of the others."""

    def __init__(self, own: KeyPair, anchors: TrustAnchors, addresses: dict[str, str]) -> None:
        self._addresses = addresses
        self.client = httpx.AsyncClient(verify=own.client_context(anchors), timeout=10, trust_env=False)

    async def manager_address_of(self, peer_id: str) -> str:
        return self._addresses[peer_id]

    async def peer_client(self, peer_id: str) -> httpx.AsyncClient:
        del peer_id
        return self.client


@dataclass
class Peer:
    """One peer with its ledger and its witness, of which the manager is open."""

    keypair: KeyPair
    folder: Path
    database: Database
    ledger: Ledger
    witness: Witness
    witnessing: Witnessing
    peers: Peers
    address: str


class Group:
    """Peers that can be opened and closed, on one clock."""

    def __init__(self, folder: Path, anchors: TrustAnchors, new_keypair: Callable[..., KeyPair]) -> None:
        self.folder = folder
        self.anchors = anchors
        self.clock = SetClock(START)
        self.keypairs = {each: new_keypair(each, f"Peer {each[-4]}") for each in (REGISTER, REGIE, GEMEENTE)}
        self.addresses: dict[str, str] = {}

    @asynccontextmanager
    async def peer(self, peer_id: str, witnesses: tuple[str, ...] = (), quorum: int = 1) -> AsyncIterator[Peer]:
        folder = self.folder / peer_id
        folder.mkdir(exist_ok=True)
        keypair = self.keypairs[peer_id]
        settings = LedgerSettings(index_pause=0.02, witnesses=witnesses, witness_quorum=quorum, witness_interval=0.05)
        async with AsyncExitStack() as stack:
            listener = listen("127.0.0.1:0")
            stack.callback(listener.close)
            self.addresses[peer_id] = f"https://localhost:{listener.getsockname()[1]}"
            peers = Peers(keypair, self.anchors, self.addresses)
            stack.push_async_callback(peers.client.aclose)
            database = Database(folder / "node.sqlite")
            database.create()
            stack.callback(database.close)
            ledger = Ledger(folder=folder / "ledger", keypair=keypair, clock=self.clock, settings=settings)
            await ledger.start()
            stack.push_async_callback(ledger.stop)
            witness = Witness(
                database=database,
                key_file=folder / "ledger" / "witness.key",
                keypair=keypair,
                anchors=self.anchors,
                clock=self.clock,
                fetch_tile=partial(fetch_tile, peers),
            )
            routes = [*tlog_api.routes(ledger), *witness_api.routes(witness)]
            tls = keypair.server_context(self.anchors)
            await stack.enter_async_context(serving(application(routes), listener, tls))
            witnessing = Witnessing(
                ledger=ledger, peers=peers, anchors=self.anchors, clock=self.clock, settings=settings
            )
            yield Peer(keypair, folder, database, ledger, witness, witnessing, peers, self.addresses[peer_id])


@pytest.fixture
def group(tmp_path: Path, anchors: TrustAnchors, new_keypair: Callable[..., KeyPair]) -> Group:
    return Group(tmp_path, anchors, new_keypair)


async def _fill(peer: Peer, record: NewRecord, upto: int, **members: Any) -> None:
    for number in range(peer.ledger.size, upto):
        await peer.ledger.append(record(number, **members))


async def _report(ledger: Ledger) -> Report:
    async for step in ledger.audit():
        last = step
    assert isinstance(last, Report)
    return last


def test_what_k_of_n_witnesses_cosigned_is_proved_offline_by_a_receipt(
    group: Group, record: NewRecord, anchors: TrustAnchors
) -> None:
    async def run() -> dict[str, Any]:
        async with (
            group.peer(REGIE) as regie,
            group.peer(GEMEENTE) as gemeente,
            group.peer(REGISTER, (REGIE, GEMEENTE), 2) as own,
        ):
            await _fill(own, record, 10)
            assert await own.witnessing.ask() is not None
            group.clock.forward(60)
            await _fill(own, record, 300)
            cosigned = await own.witnessing.ask()
            assert cosigned is not None
            assert cosigned.checkpoint.size == 300
            assert own.ledger.cosigned == cosigned
            assert [each.trouble for each in own.witnessing.status] == ["", ""]
            assert (regie.witness.witnessed, gemeente.witness.witnessed) == (1, 1)
            shown = (await own.peers.client.get(f"{own.address}{tlog_api.PREFIX}/checkpoint")).text
            assert shown == cosigned.checkpoint.text
            asked = f"{regie.address}/stelsel/v1/witness/{origin_hash(cosigned.checkpoint.origin)}/checkpoint"
            monitored = await gemeente.peers.client.get(asked)
            assert read_checkpoint(monitored.text).root == cosigned.checkpoint.root
            await _fill(own, record, 310)
            assert (await own.ledger.receipt(305))["version"] == 1  # not cosigned yet
            return await own.ledger.receipt(123)

    receipt = asyncio.run(run())
    now = group.clock.now()
    proven = receipts.verify(receipt, anchors, now, quorum=2)
    assert {each.peer_id for each in proven.witnesses} == {REGIE, GEMEENTE}
    assert (proven.index, proven.size) == (123, 300)
    assert receipts.verify(receipt, anchors, now, witnesses=[REGIE], quorum=1).witnesses
    assert receipts.verify_file(receipts.write(receipt), anchors, now, quorum=2).anchored
    assert not receipts.verify(receipt, None, now).anchored
    for refused in (
        partial(receipts.verify, receipt, anchors, now, quorum=3),
        partial(receipts.verify, receipt, anchors, now, witnesses=[REGISTER], quorum=1),
        partial(receipts.verify, receipt, anchors, now, witnesses=[], quorum=1),
        partial(receipts.verify, receipt, None, now, quorum=1),
        partial(receipts.verify, receipt, TrustAnchors(Authority("Other").root_pem), now),
        partial(receipts.verify, receipt, anchors, now - 600),
    ):
        with pytest.raises(ProofInvalid):
            refused()
    lines = receipt["checkpoint"].splitlines(keepends=True)
    one = {"checkpoint": "".join(lines[:-1])}  # a cosignature is taken away, and its endorsement stays
    for change in (
        one,
        {"witnesses": receipt["witnesses"][:1] * 2},
        {"witnesses": [receipt["endorsement"]]},
        {"witnesses": [{}]},
        {"witnesses": []},
        {"witnesses": "x"},
        {"version": 1},
    ):
        with pytest.raises(ProofInvalid):
            receipts.verify(receipt | change, anchors, now)
    fewer = receipt | one | {"witnesses": receipt["witnesses"][:1]}
    assert len(receipts.verify(fewer, anchors, now, quorum=1).witnesses) == 1
    with pytest.raises(ProofInvalid, match="2 witnesses are demanded"):
        receipts.verify(fewer, anchors, now, quorum=2)


def test_without_enough_witnesses_the_last_cosigned_checkpoint_stays(group: Group, record: NewRecord) -> None:
    async def run() -> None:
        async with group.peer(REGISTER, (REGIE, GEMEENTE), 2) as own:
            async with group.peer(REGIE), group.peer(GEMEENTE):
                await _fill(own, record, 5)
                before = await own.witnessing.ask()
            async with group.peer(REGIE):
                await _fill(own, record, 7)
                assert await own.witnessing.ask() is None
                good, bad = own.witnessing.status
                assert (good.trouble, good.size) == ("", 7)
                assert "no connection" in bad.trouble
            assert own.ledger.cosigned == before
        async with group.peer(REGISTER, (REGIE, GEMEENTE), 1) as own, group.peer(REGIE):
            assert own.ledger.cosigned == before  # kept over a restart
            after = await own.witnessing.ask()  # the size that the witness knows is asked, since it was forgotten
            assert after is not None
            assert after.checkpoint.size == 7

    asyncio.run(run())


@pytest.mark.parametrize("answer", [b"\xff\xfe", b"", b"\n", "\u2014 odd YQ==\n".encode(), b"\x00" * 1000])
def test_a_witness_that_answers_nonsense_keeps_no_other_from_cosigning(
    group: Group, record: NewRecord, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    exchange = witnessing._exchange

    async def run() -> None:
        async with group.peer(REGISTER, (REGIE, GEMEENTE), 1) as own, group.peer(REGIE), group.peer(GEMEENTE):

            async def odd(client: httpx.AsyncClient, method: str, url: str, **options: Any) -> tuple[int, bytes]:
                status, whole = await exchange(client, method, url, **options)
                hostile = url.startswith(group.addresses[REGIE]) and url.endswith("add-checkpoint")
                return status, answer if hostile and status == 200 else whole

            monkeypatch.setattr(witnessing, "_exchange", odd)
            await _fill(own, record, 5)
            cosigned = await own.witnessing.ask()
            assert cosigned is not None
            bad, good = own.witnessing.status
            assert bad.trouble
            assert (good.trouble, good.size) == ("", 5)

    asyncio.run(run())


def test_a_ledger_is_no_witness_of_itself(group: Group, record: NewRecord) -> None:
    async def run() -> None:
        async with group.peer(REGISTER, (REGISTER,)) as own:
            await _fill(own, record, 2)
            assert await own.witnessing.ask() is None
            assert "no witness of it" in own.witnessing.status[0].trouble

    asyncio.run(run())


def test_a_witness_with_a_new_certificate_is_asked_for_its_word_anew(
    group: Group, record: NewRecord, anchors: TrustAnchors, new_keypair: Callable[..., KeyPair]
) -> None:
    """The word by a certificate that ended would make every receipt fail."""

    async def run() -> dict[str, Any]:
        group.keypairs[REGIE] = new_keypair(REGIE, "Peer 1", days=1)
        async with group.peer(REGIE) as regie, group.peer(REGISTER, (REGIE,)) as own:
            await _fill(own, record, 2)
            assert await own.witnessing.ask() is not None
            group.clock.forward(2 * 86_400)
            regie.keypair.renew(new_keypair(REGIE, "Peer 1").current)
            assert await own.witnessing.ask() is None
            assert "no certificate stands behind" in own.witnessing.status[0].trouble
            cosigned = await own.witnessing.ask()
            assert cosigned is not None
            return await own.ledger.receipt(1)

    receipt = asyncio.run(run())
    assert receipts.verify(receipt, anchors, group.clock.now(), quorum=1).witnesses[0].peer_id == REGIE


def test_witnesses_are_asked_by_themselves(group: Group, record: NewRecord) -> None:
    async def run() -> None:
        async with group.peer(REGIE), group.peer(REGISTER, (REGIE,)) as own:
            await own.witnessing.start()
            await _fill(own, record, 3)
            async with asyncio.timeout(10):
                while own.ledger.cosigned is None or own.ledger.cosigned.checkpoint.size < 3:
                    await asyncio.sleep(0.02)
            await own.witnessing.stop()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("restored", "seen", "grown", "kind"),
    [(5, 9, 12, "fork"), (5, 8, 13, "fork"), (0, 1, 4, "fork"), (5, 9, 9, "fork"), (5, 9, 7, "rollback")],
)
def test_a_node_that_shows_two_histories_is_caught(
    group: Group, record: NewRecord, anchors: TrustAnchors, restored: int, seen: int, grown: int, kind: str
) -> None:
    """An older copy of its folder is put back, and other records follow."""

    async def run() -> dict[str, Any]:
        ledger_folder, copy = group.folder / REGISTER / "ledger", group.folder / "copy"
        async with group.peer(REGIE) as regie:
            async with group.peer(REGISTER, (REGIE,)) as own:
                await _fill(own, record, restored)
            shutil.copytree(ledger_folder, copy)
            async with group.peer(REGISTER, (REGIE,)) as own:
                await _fill(own, record, seen)
                first = await own.witnessing.ask()
                assert first is not None
            group.clock.forward(3600)
            shutil.rmtree(ledger_folder)
            copy.rename(ledger_folder)
            async with group.peer(REGISTER, (REGIE,)) as own:
                await _fill(own, record, grown, service="anders")
                assert (await _report(own.ledger)).sound  # nothing here tells that there was another history
                if kind == "fork":
                    await own.witnessing.look()  # the audit of a running node asks its witnesses first
                    assert not (await _report(own.ledger)).sound
                assert await own.witnessing.ask() is None
                assert own.ledger.cosigned is None or own.ledger.cosigned != first
                (status,) = own.witnessing.status
                assert status.contradicts, status.trouble
                report = await _report(own.ledger)  # now there is: the witness told
                assert not report.sound
                assert any("witness" in each.detail or "gone" in each.detail for each in report.differences)
                await own.witnessing.ask()  # again and again is no more evidence than enough
            told = await regie.peers.client.get(f"{regie.address}/stelsel/v1/witness/findings")
            (kept,) = {one["kind"]: one for one in told.json()["findings"]}.values()
            assert kept["peer_id"] == REGISTER
        async with group.peer(REGIE) as regie:  # durable
            assert regie.witness.findings()[0].to_json() == kept
            return kept["evidence"]  # type: ignore[no-any-return]

    evidence = asyncio.run(run())
    data = two_histories.write(evidence)
    shown = two_histories.verify(two_histories.read(data), anchors, group.clock.now())
    assert (shown.kind, shown.peer_id, shown.anchored) == (kind, REGISTER, True)
    assert shown.first.size == seen
    assert shown.second.size == grown
    assert str(seen) in shown.sentence
    swapped = evidence | {"first": evidence["second"], "second": evidence["first"]}
    same = evidence | {"second": evidence["first"]}
    for bad in (swapped, same, evidence | {"kind": "unproven"}, evidence | {"consistency_proof": ["AAAA"]}):
        if not (bad is swapped and seen == grown):
            with pytest.raises(ProofInvalid):
                two_histories.verify(bad, anchors, group.clock.now())
    if kind == "fork" and seen != grown:
        guessed = evidence | {"beginning": base64.b64encode(leaf_hash(b"guess")).decode()}
        with pytest.raises(ProofInvalid):
            two_histories.verify(guessed, anchors, group.clock.now())


def test_the_witness_answers_as_the_standard_says_and_to_the_group_only(
    group: Group, record: NewRecord, new_keypair: Callable[..., KeyPair]
) -> None:
    async def run() -> None:
        async with group.peer(REGIE) as regie, group.peer(REGISTER, (REGIE,)) as own, group.peer(GEMEENTE) as other:
            await _fill(own, record, 6)
            text = (await own.ledger.checkpoint()).text
            place = f"{regie.address}/stelsel/v1/witness"

            async def add(body: bytes, by: Peer = own) -> httpx.Response:
                return await by.peers.client.post(f"{place}/add-checkpoint", content=body)

            async def introduce(document: Any, by: Peer = own) -> httpx.Response:
                return await by.peers.client.post(f"{place}/introduction", json=document)

            assert (await add(b"old 0\n\nnonsense")).status_code == 400
            assert (await add(b"x" * 3_000_000)).status_code == 413
            assert (await add(write_submission(0, [], text))).status_code == 404
            assert (await introduce({"endorsement": own.ledger.endorsement}, other)).status_code == 403
            assert (await introduce({})).status_code == 422
            assert (await introduce({"endorsement": {"jws": "a.b.c", "x5c": ["AAAA"]}})).status_code == 422
            assert (await introduce({"endorsement": own.ledger.endorsement})).status_code == 200
            assert (await introduce({"endorsement": own.ledger.endorsement})).status_code == 200
            assert (await add(write_submission(0, [], text.replace("\n6\n", "\n7\n")))).status_code == 403
            assert (await add(write_submission(7, [], text))).status_code == 400
            answer = await add(write_submission(0, [], text), other)  # whoever has a checkpoint may bring it
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert answer.text.startswith(f"— stelsel/witness/{REGIE} ")
            conflict = await add(write_submission(0, [], text))
            assert conflict.status_code == 409
            assert conflict.headers["content-type"].split(";")[0] == "text/x.tlog.size"
            assert conflict.content == b"6\n"
            await _fill(own, record, 9)
            newer = (await own.ledger.checkpoint()).text
            assert (await add(write_submission(6, [], newer), other)).status_code == 422
            assert regie.witness.findings() == []  # a bad proof by another says nothing about the ledger
            assert (await add(write_submission(6, [], newer))).status_code == 422
            assert regie.witness.findings() == []  # nor one by itself, when its tiles show that it goes on
            assert (await own.peers.client.get(f"{place}/{'0' * 64}/checkpoint")).status_code == 404
            assert (await own.peers.client.get(f"{place}/{'A' * 64}/checkpoint")).status_code == 404
            assert (await own.witnessing.ask()) is not None
        stranger = TrustAnchors(Authority("Other").root_pem)
        async with (
            group.peer(REGIE) as regie,
            httpx.AsyncClient(verify=own.keypair.client_context(stranger), trust_env=False) as client,
        ):
            with pytest.raises(httpx.TransportError):
                await client.get(f"{regie.address}/stelsel/v1/witness/findings")

    asyncio.run(run())


def test_requests_at_one_time_never_take_a_witness_back(group: Group, record: NewRecord) -> None:
    """The race that C2SP tlog-witness warns of: all ask from size 3 at once; one is cosigned, or each after another."""

    async def run() -> None:
        async with group.peer(REGIE) as regie, group.peer(REGISTER, (REGIE,)) as own:
            await _fill(own, record, 3)
            await own.witnessing.ask()
            bodies = []
            for size in range(4, 14):
                await _fill(own, record, size)
                proof = [base64.b64encode(step).decode() for step in await own.ledger.consistency(3, size)]
                bodies.append(write_submission(3, proof, (await own.ledger.checkpoint()).text))
            place = f"{regie.address}/stelsel/v1/witness/add-checkpoint"
            answers = await asyncio.gather(*(own.peers.client.post(place, content=body) for body in bodies))
            assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
            origin = read_checkpoint((await own.ledger.checkpoint()).text).origin
            cosigned = read_checkpoint(regie.witness.checkpoint(origin_hash(origin)))
            place = [answer.status_code for answer in answers].index(200)
            assert cosigned.size == 4 + place

    asyncio.run(run())


def test_a_ledger_is_read_by_its_tiles_alone(group: Group, record: NewRecord, anchors: TrustAnchors) -> None:
    async def run() -> None:
        async with group.peer(REGIE) as regie, group.peer(REGISTER) as own:
            await asyncio.gather(*(own.ledger.append(record(number)) for number in range(600)))
            prefix = f"{own.address}{tlog_api.PREFIX}"
            answer = await regie.peers.client.get(f"{prefix}/checkpoint")
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert "max-age=2" in answer.headers["cache-control"]
            checkpoint = read_checkpoint(answer.text)
            assert checkpoint.size == 600
            keys = parse_object((await regie.peers.client.get(f"{prefix}/keys")).content)
            assert keys["endorsement"] == own.ledger.endorsement
            full = await regie.peers.client.get(f"{prefix}/tile/0/000")
            assert full.headers["content-type"] == "application/octet-stream"
            assert "immutable" in full.headers["cache-control"]
            assert len(full.content) == 8192
            partial_tile = await regie.peers.client.get(f"{prefix}/tile/0/002.p/88")
            assert len(partial_tile.content) == 88 * 32
            narrower = await regie.peers.client.get(f"{prefix}/tile/0/002.p/5")
            assert partial_tile.content.startswith(narrower.content)
            entries = (await regie.peers.client.get(f"{prefix}/tile/entries/002.p/88")).content
            for number in range(88):
                entry = entries[number * 34 : number * 34 + 34]
                assert entry[:2] == b"\x00\x20"
                assert leaf_hash(entry[2:]) == partial_tile.content[number * 32 : number * 32 + 32]
            for wrong in (
                "0/002", "0/002.p/89", "0/002.p/0", "0/002.p/088", "0/002.p/256", "0/003.p/1", "0/2.p/88", "00/000",
                "0/x000/002.p/88", "1/000", "1/000.p/3", "2/000.p/1", "64/000", "-1/000", "0/000/", "entries/003.p/1",
                "0/x001/x234/067", "7/x999/x999/x999/x999/x999/999.p/1", "entries/002.p/89", "0/٠٠٠",
            ):  # fmt: skip
                assert (await regie.peers.client.get(f"{prefix}/tile/{wrong}")).status_code == 404, wrong
            assert len((await regie.peers.client.get(f"{prefix}/tile/1/000.p/2")).content) == 64

    asyncio.run(run())


def test_the_path_of_a_tile_is_that_of_the_standard() -> None:
    from stelsel.ledger.remote_tree import tile_path

    assert tile_path(0, 1234067, 256) == "0/x001/x234/067"
    assert tile_path(1, 0, 17) == "1/000.p/17"
    assert tile_path(0, 1000, 256) == "0/x001/000"
    for number in (0, 5, 999, 1000, 1001, 999_999, 1_000_000, 1_234_067):
        for width in (1, 255, 256):
            assert tlog_api.read_path(tile_path(3, number, width)) == (3, number, width)
    assert json.dumps(tlog_api.read_path("entries/x001/x234/067")) == "[null, 1234067, 256]"

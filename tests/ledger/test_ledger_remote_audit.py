"""What another organisation publishes of its ledger is audited from outside; what does not fit is named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx
import pytest

from stelsel.base.certificates import TrustAnchors
from stelsel.base.errors import BadGateway, Unavailable
from stelsel.base.web import application
from stelsel.demo.authority import Authority
from stelsel.ledger import tlog_api
from stelsel.ledger.api import public_routes
from stelsel.ledger.audit import Report
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.record import Record
from stelsel.ledger.remote_audit import Remote, summary
from stelsel.ledger.service import Ledger

COUNT = 300
PREFIX = tlog_api.PREFIX
EVIDENCE = "/stelsel/v1/ledger/counted"
Published = dict[str, bytes]


@pytest.fixture
def published(new_ledger: Callable[..., Ledger], record: Callable[..., Record]) -> Published:
    """What a ledger of 300 records serves, by path."""

    async def run() -> Published:
        ledger = new_ledger()
        await ledger.start()
        await asyncio.gather(*(ledger.append(record(number)) for number in range(COUNT)))
        transport = httpx.ASGITransport(app=application(tlog_api.routes(ledger) + public_routes(ledger)))
        async with httpx.AsyncClient(transport=transport, base_url="http://other") as client:
            paths = [f"{PREFIX}/checkpoint", f"{PREFIX}/keys", EVIDENCE]
            paths += [f"{PREFIX}/tile/{tile}" for tile in ("0/000", "0/001.p/44", "1/000.p/1")]
            found = {path: (await client.get(path)).content for path in paths}
        await ledger.stop()
        return found

    return asyncio.run(run())


def _audited(published: Published, anchors: TrustAnchors, quorum: int = 0) -> Report:
    def answer(request: httpx.Request) -> httpx.Response:
        data = published.get(request.url.path)
        return httpx.Response(404) if data is None else httpx.Response(200, content=data)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        remote = Remote("http://other/", anchors, client)
        shown = remote.shown(time.time(), quorum=quorum)
        assert (summary(shown)["peer"], summary(shown)["size"]) == ("Bevolkingsregister", COUNT)
        *_, report = remote.audit(shown)
    assert isinstance(report, Report)
    return report


def test_what_is_published_fits(published: Published, anchors: TrustAnchors) -> None:
    report = _audited(published, anchors)
    assert report.sound, report.differences
    assert (report.size, report.tiles, report.checkpoints) == (COUNT, 3, 1)


def test_what_does_not_fit_is_named(published: Published, anchors: TrustAnchors) -> None:
    tile = bytearray(published[f"{PREFIX}/tile/0/001.p/44"])
    tile[32 * 7] ^= 1
    (difference,) = _audited(published | {f"{PREFIX}/tile/0/001.p/44": bytes(tile)}, anchors).differences
    assert (difference.what, difference.index) == ("tile", 263)

    lines = published[EVIDENCE].splitlines(keepends=True)
    lines[10] = lines[10].replace(b'"allowed":true', b'"allowed":false')
    report = _audited(published | {EVIDENCE: b"".join(lines)}, anchors)
    assert {each.what for each in report.differences} == {"tile", "root", "checkpoint"}
    assert next(each for each in report.differences if each.what == "tile").index == 10
    assert all("ask that organisation" in each.next_step for each in report.differences)

    for evidence in (b"".join(lines[:200]), b"".join([*lines[:200], b"nonsense\n"])):
        report = _audited(published | {EVIDENCE: evidence}, anchors)
        record = next(each for each in report.differences if each.what == "record")
        assert record.index == 200


def test_what_proves_nothing_is_refused(published: Published, anchors: TrustAnchors) -> None:
    checkpoint = published[f"{PREFIX}/checkpoint"].replace(b"\n300\n", b"\n299\n")
    with pytest.raises(ProofInvalid):
        _audited(published | {f"{PREFIX}/checkpoint": checkpoint}, anchors)
    with pytest.raises(ProofInvalid):
        _audited(published, TrustAnchors(Authority("Other").root_pem))
    with pytest.raises(ProofInvalid, match="1 witnesses are demanded"):
        _audited(published, anchors, quorum=1)
    for missing in published:
        with pytest.raises(BadGateway):
            _audited({path: data for path, data in published.items() if path != missing}, anchors)
    for hostile in (
        {f"{PREFIX}/keys": b'{"endorsement":1,"witnesses":[]}'},
        {f"{PREFIX}/keys": b" " * 1_000_000},
        {EVIDENCE: b"x" * 200_000},
        {EVIDENCE: published[EVIDENCE][:-5]},
        {f"{PREFIX}/tile/0/000": bytes(9000)},
    ):
        with pytest.raises(BadGateway):
            _audited(published | hostile, anchors)


def test_a_node_that_does_not_answer_is_said_to(anchors: TrustAnchors) -> None:
    with httpx.Client(trust_env=False) as client, pytest.raises(Unavailable, match="does not answer"):
        Remote("http://127.0.0.1:9", anchors, client).shown(time.time())

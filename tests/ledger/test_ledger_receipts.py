"""Receipts and counted evidence prove what they say, offline, and nothing when a byte was changed."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.clock import SetClock
from stelsel.demo.authority import Authority
from stelsel.ledger import receipts
from stelsel.ledger.checkpoint import LedgerKey, endorse, origin_of, verify_checkpoint
from stelsel.ledger.endorsement import Endorsement
from stelsel.ledger.evidence import verify_counted
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger

NOW = time.time()
COUNT = 77


class Proofs:
    """What a ledger of `COUNT` records gave away."""

    receipt: dict[str, Any]
    file: bytes
    checkpoint: str
    endorsement: Endorsement
    evidence: list[bytes]


@pytest.fixture(scope="module")
def proofs(tmp_path_factory: pytest.TempPathFactory, provider: KeyPair, record: Callable[..., Record]) -> Proofs:
    result = Proofs()

    async def run() -> None:
        ledger = Ledger(folder=tmp_path_factory.mktemp("ledger"), keypair=provider, clock=SetClock(NOW))
        await ledger.start()
        await asyncio.gather(*(ledger.append(record(n, allowed=n % 3 > 0, subject="één")) for n in range(COUNT)))
        result.receipt = await ledger.receipt(50)
        result.file = receipts.write(result.receipt)
        result.checkpoint = (await ledger.checkpoint()).text
        result.endorsement = ledger.endorsement
        result.evidence = b"".join([piece async for piece in ledger.counted(COUNT)]).splitlines(keepends=True)
        await ledger.stop()

    asyncio.run(run())
    return result


def test_a_receipt_proves_its_record_with_only_the_trust_anchors(
    proofs: Proofs, anchors: TrustAnchors, provider: KeyPair
) -> None:
    verified = receipts.verify_file(proofs.file, anchors, NOW)
    assert verified.peer_id == provider.certificate.peer_id
    assert verified.peer_name == "Bevolkingsregister"
    assert verified.record == Record.read(proofs.receipt["record"])
    assert (verified.index, verified.size, verified.checkpoint_time) == (50, COUNT, int(NOW))
    assert verified.anchored
    assert not receipts.verify_file(proofs.file, None, NOW).anchored


def test_a_receipt_with_any_byte_changed_proves_nothing(proofs: Proofs, anchors: TrustAnchors) -> None:
    chance = random.Random(1)
    for place in range(len(proofs.file)):
        changed = bytearray(proofs.file)
        changed[place] ^= 1 << chance.randrange(8)
        with pytest.raises(ProofInvalid):
            receipts.verify_file(bytes(changed), anchors, NOW)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_receipt_changed_in_any_way_proves_nothing_even_without_anchors(proofs: Proofs, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(proofs.file) - 1))
    kind = data.draw(st.sampled_from(["replace", "insert", "remove", "cut"]))
    byte = bytes([data.draw(st.integers(0, 255))])
    before, after = proofs.file[:place], proofs.file[place + 1 :]
    changed = {
        "replace": before + byte + after,
        "insert": before + byte + proofs.file[place:],
        "remove": before + after,
        "cut": before,
    }[kind]
    if changed != proofs.file:
        with pytest.raises(ProofInvalid):
            receipts.verify_file(changed, None, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": 1.0},
        {"version": True},
        {"format": "other"},
        {"extra": 1},
        {"index": "50"},
        {"index": True},
        {"index": -1},
        {"index": 51},
        {"index": 10**9},
        {"inclusion_proof": None},
        {"inclusion_proof": [1]},
        {"inclusion_proof": ["AAAA"] * 100},
        {"nonce": 5},
        {"nonce": "00" * 16},
        {"nonce": "0g" * 16},
        {"record": "text"},
        {"record": {}},
        {"checkpoint": None},
        {"checkpoint": "text"},
        {"endorsement": "text"},
        {"endorsement": {"jws": 1, "x5c": ["AAAA"]}},
        {"endorsement": {"jws": "a.b.c", "x5c": []}},
        {"endorsement": {"jws": "a.b.c", "x5c": ["AAAA"]}},
    ],
)
def test_hostile_members_are_refused(change: dict[str, Any], proofs: Proofs, anchors: TrustAnchors) -> None:
    for chosen in (anchors, None):
        with pytest.raises(ProofInvalid):
            receipts.verify(proofs.receipt | change, chosen, NOW)


def test_a_receipt_outlives_the_certificate_but_is_not_from_the_future(proofs: Proofs, anchors: TrustAnchors) -> None:
    receipts.verify_file(proofs.file, anchors, NOW + 5 * 365 * 86400)
    with pytest.raises(ProofInvalid, match="in the future"):
        receipts.verify_file(proofs.file, anchors, NOW - 86400)


def test_a_receipt_under_other_anchors_proves_nothing(proofs: Proofs) -> None:
    with pytest.raises(ProofInvalid, match="trust anchors"):
        receipts.verify_file(proofs.file, TrustAnchors(Authority("Other").root_pem), NOW)


def test_a_receipt_in_another_layout_is_refused(proofs: Proofs, anchors: TrustAnchors) -> None:
    for text in (json.dumps(proofs.receipt, indent=2).encode(), proofs.file[:-1], b" " + proofs.file, b"[]\n", b""):
        with pytest.raises(ProofInvalid):
            receipts.verify_file(text, anchors, NOW)
    with pytest.raises(ProofInvalid, match="too large"):
        receipts.verify_file(b" " * 300_000, anchors, NOW)


def test_a_checkpoint_needs_the_right_key_peer_and_time(
    proofs: Proofs, anchors: TrustAnchors, provider: KeyPair, new_keypair: Callable[..., KeyPair], tmp_path: Path
) -> None:
    key, stolen = LedgerKey.load(tmp_path / "a.key"), LedgerKey.load(tmp_path / "b.key")
    origin, root, moment = origin_of(provider.certificate.peer_id), bytes(32), int(NOW)
    word = endorse(provider, key.public, NOW)
    assert verify_checkpoint(key.sign(origin, 5, root, moment).text, word, anchors, NOW).size == 5
    other = new_keypair("00000099000000003000")
    expired = new_keypair(provider.certificate.peer_id, days=-0.5)
    bad = [
        (stolen.sign(origin, 5, root, moment), word),
        (key.sign(origin_of(other.certificate.peer_id), 5, root, moment), word),
        (key.sign(origin, 5, root, moment), endorse(other, key.public, NOW)),
        (key.sign(origin, 5, root, moment), endorse(expired, key.public, NOW)),
        (key.sign(origin, 5, root, moment - 4000), word),
        (key.sign(origin, 5, root, moment + 4000), word),
        (key.sign(origin, 5, root, moment), word | {"x5c": word["x5c"] * 2}),
        (key.sign(origin, 5, root, moment), word | {"jws": word["jws"][:-4] + "AAAA"}),
    ]
    for checkpoint, endorsement in bad:
        with pytest.raises(ProofInvalid):
            verify_checkpoint(checkpoint.text, endorsement, anchors, NOW)
    text = key.sign(origin, 5, root, moment).text
    for old, new in (("\n5\n", "\n05\n"), ("\n5\n", "\n6\n"), ("time ", "time  "), ("\n\n", "\n"), ("— ", "- ")):
        with pytest.raises(ProofInvalid):
            verify_checkpoint(text.replace(old, new), word, anchors, NOW)
    altered = bytearray(base64.b64decode(text.split()[-1]))
    altered[0] ^= 1  # the key id is not under the signature, and is checked all the same
    forged = text.replace(text.split()[-1], base64.b64encode(altered).decode())
    with pytest.raises(ProofInvalid, match="another key"):
        verify_checkpoint(forged, word, anchors, NOW)


def test_anyone_counts_the_same_from_the_evidence(proofs: Proofs, anchors: TrustAnchors) -> None:
    counted = list(verify_counted(proofs.evidence, proofs.checkpoint, proofs.endorsement, anchors, NOW))
    assert sum(part["allowed"] for part in counted) == sum(n % 3 > 0 for n in range(COUNT))
    assert "één" not in b"".join(proofs.evidence).decode()
    assert set(counted[0]) == {
        "allowed", "consumer", "direction", "event", "hour", "processing_activity", "provider", "service"
    }  # fmt: skip


def test_evidence_that_was_changed_is_refused(proofs: Proofs, anchors: TrustAnchors) -> None:
    lines = proofs.evidence
    cases: list[list[bytes]] = [
        lines[:-1],
        [*lines, lines[0]],
        [lines[1], lines[0], *lines[2:]],
        [lines[0].replace(b'"allowed":false', b'"allowed":true'), *lines[1:]],
        [b"no json\n", *lines[1:]],
        [b'{"counted":1,"sealed":"00"}', *lines[1:]],
        [lines[0].replace(b'"sealed":"', b'"sealed":"0'), *lines[1:]],
        [b" " * 70_000, *lines[1:]],
        [],
    ]
    for case in cases:
        with pytest.raises(ProofInvalid):
            list(verify_counted(case, proofs.checkpoint, proofs.endorsement, anchors, NOW))

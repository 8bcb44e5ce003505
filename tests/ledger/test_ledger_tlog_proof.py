"""A receipt as C2SP tlog-proof says the same as the one in JSON, and nothing when a byte was changed."""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stelsel.base.canonical import canonical, parse_object
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.clock import SetClock
from stelsel.ledger import receipts, tlog_proof
from stelsel.ledger.checkpoint import read_checkpoint
from stelsel.ledger.commitment import commitment, sealed
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.merkle import leaf_hash, verify_inclusion
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger

NOW = time.time()


@pytest.fixture(scope="module")
def receipt(
    tmp_path_factory: pytest.TempPathFactory, provider: KeyPair, record: Callable[..., Record]
) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        ledger = Ledger(folder=tmp_path_factory.mktemp("ledger"), keypair=provider, clock=SetClock(NOW))
        await ledger.start()
        await asyncio.gather(*(ledger.append(record(number, subject="één")) for number in range(21)))
        result = await ledger.receipt(13)
        await ledger.stop()
        return result

    return asyncio.run(run())


def test_both_forms_say_the_same(receipt: dict[str, Any], anchors: TrustAnchors) -> None:
    data = tlog_proof.write(receipt)
    assert tlog_proof.is_one(data)
    assert not tlog_proof.is_one(receipts.write(receipt))
    assert tlog_proof.read(data) == receipt
    assert receipts.verify(tlog_proof.read(data), anchors, NOW).index == 13


def test_the_form_is_that_of_the_standard_and_proves_to_who_knows_only_that(receipt: dict[str, Any]) -> None:
    """Read by hand, by the text of C2SP tlog-proof, with nothing of `tlog_proof`."""
    lines = tlog_proof.write(receipt).decode().split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    extra = parse_object(base64.b64decode(lines[1].removeprefix("extra ")))
    assert lines[2] == "index 13"
    end = lines.index("")
    proof = [base64.b64decode(line) for line in lines[3:end]]
    checkpoint = read_checkpoint("\n".join(lines[end + 1 :]))
    counted = Record.read(extra["record"]).canonical_counted()
    leaf = leaf_hash(commitment(counted, sealed(bytes.fromhex(extra["nonce"]), canonical(extra["record"]))))
    verify_inclusion(leaf, 13, checkpoint.size, proof, checkpoint.root)


def test_a_proof_with_any_byte_changed_proves_nothing(receipt: dict[str, Any], anchors: TrustAnchors) -> None:
    data = tlog_proof.write(receipt)
    chance = random.Random(2)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << chance.randrange(8)
        with pytest.raises(ProofInvalid):
            receipts.verify(tlog_proof.read(bytes(changed)), anchors, NOW)


@pytest.mark.parametrize(
    "change",
    [
        (b"c2sp.org/tlog-proof@v1", b"c2sp.org/tlog-proof@v2"),
        (b"index 13", b"index 013"),
        (b"index 13", b"index -1"),
        (b"index 13\n", b""),
        (b"extra ", b"more "),
        (b"\n\n", b"\n"),
        (b"\nindex", b"\n\nindex"),
    ],
)
def test_what_is_no_proof_is_refused(change: tuple[bytes, bytes], receipt: dict[str, Any]) -> None:
    data = tlog_proof.write(receipt)
    assert change[0] in data
    with pytest.raises(ProofInvalid):
        tlog_proof.read(data.replace(*change, 1))
    with pytest.raises(ProofInvalid):
        tlog_proof.read(b"\xff" + data)
    with pytest.raises(ProofInvalid):
        tlog_proof.read(data + b"x" * 600_000)


def test_extra_data_that_holds_more_is_refused(receipt: dict[str, Any], tmp_path: Path) -> None:
    data = tlog_proof.write(receipt)
    extra = data.split(b"\n")[1]
    more = canonical({"endorsement": {}, "format": "other", "nonce": "", "record": {}})
    with pytest.raises(ProofInvalid):
        tlog_proof.read(data.replace(extra, b"extra " + base64.b64encode(more)))

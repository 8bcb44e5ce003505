"""What the doctor says about witnesses."""

from __future__ import annotations

from pathlib import Path

import pytest

from stelsel.base.errors import ConfigurationFault
from stelsel.base.settings import read_toml
from stelsel.control.proving import judge_caught, judge_witnesses
from stelsel.ledger.checkpoint import LedgerKey
from stelsel.ledger.cosignature import Cosigned
from stelsel.ledger.settings import LedgerSettings
from stelsel.ledger.witness_store import Caught
from stelsel.ledger.witnessing import WitnessStatus

ONE, TWO = "00000099000000001000", "00000099000000003000"
NOW = 1_790_000_000.0
SETTINGS = LedgerSettings(witnesses=(ONE, TWO), witness_quorum=1)


@pytest.fixture
def cosigned(tmp_path: Path) -> Cosigned:
    checkpoint = LedgerKey.load(tmp_path / "key").sign("o", 12, bytes(32), int(NOW))
    return Cosigned(checkpoint, {}, ({}, {}))


def _status(trouble: str = "", *, contradicts: bool = False) -> tuple[WitnessStatus, ...]:
    return WitnessStatus(ONE, 12, int(NOW), ""), WitnessStatus(TWO, None, None, trouble, contradicts)


def test_the_doctor_tells_whether_witnesses_cosign(cosigned: Cosigned) -> None:
    seen = judge_witnesses(_status(), cosigned, SETTINGS, NOW)
    assert (seen.ok, "2 cosigned 12 records" in seen.detail) == (True, True)
    seen = judge_witnesses(_status("no connection\x1b[2J"), cosigned, SETTINGS, NOW)
    assert (seen.ok, f"but {TWO}: no connection" in seen.detail, "\x1b" in seen.detail) == (True, True, False)
    late = judge_witnesses(_status("no connection"), cosigned, SETTINGS, NOW + 5000)
    assert (late.ok, bool(late.next_step)) == (False, True)
    assert judge_witnesses(_status(), None, SETTINGS, NOW).ok is None
    assert judge_witnesses(_status("no connection"), None, SETTINGS, NOW).ok is False
    assert judge_witnesses((), None, LedgerSettings(), NOW).ok is None


def test_the_doctor_tells_of_two_histories_ours_and_those_of_others(cosigned: Cosigned) -> None:
    seen = judge_witnesses(_status("it holds", contradicts=True), cosigned, SETTINGS, NOW)
    assert (seen.ok, TWO in seen.detail, "audit" in seen.next_step) == (False, True, True)
    assert judge_caught([]).ok is True
    assert judge_caught([Caught(1, ONE, "unproven", {}, NOW)]).ok is None
    seen = judge_caught([Caught(1, ONE, "fork", {}, NOW), Caught(2, ONE, "fork", {}, NOW)])
    assert (seen.ok, seen.detail.count(ONE), "--evidence" in seen.next_step) == (False, 1, True)


@pytest.mark.parametrize(
    "text",
    [
        'witnesses = ["123"]\n',
        f'witnesses = ["{ONE}", "{ONE}"]\n',
        f'witnesses = ["{ONE}"]\nwitness_quorum = 2\n',
        f'witnesses = ["{ONE}"]\nwitness_quorum = 0\n',
        "witness_interval = 0\n",
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ledger.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationFault, match="witness"):
        read_toml(file, LedgerSettings)

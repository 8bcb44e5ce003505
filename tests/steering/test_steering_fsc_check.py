"""`stelsel check fsc`: it computes as the standard says, finds what is wrong, and tells of it without harm."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from fsc_credulous import Credulous, target_in
from hypothesis import given
from hypothesis import strategies as st

from stelsel.base import jose
from stelsel.base.certificates import Certificate
from stelsel.base.errors import ConfigurationFault
from stelsel.base.settings import read_toml
from stelsel.steering.checks.fsc import documents, prepare, report, runner
from stelsel.steering.checks.fsc.hooks import ConfiguredHooks
from stelsel.steering.checks.fsc.identities import Identity, TestAuthority, make_group
from stelsel.steering.checks.fsc.model import Failed, Outcome, Result, Scenario, Transcript
from stelsel.steering.checks.fsc.scenarios import ALL
from stelsel.steering.checks.fsc.settings import CheckTarget
from stelsel.steering.checks.fsc.world import World

_NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("group")
    make_group(folder, target_hosts=("localhost",), tester_hosts=("localhost",))
    return folder


# -- the tester's own hashes and signatures ----------------------------------------------------------------------------


@given(_JSON)
def test_canonical_json_is_what_another_implementation_makes(value: Any) -> None:
    assert documents.jcs(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("algorithm", documents.ALGORITHMS)
def test_signatures_hold_for_another_implementation(group: Path, algorithm: str) -> None:
    names = {"RS": "first-rsa", "ES256": "first", "ES384": "first-p384", "ES512": "first-p521"}
    identity = Identity.load(group, names.get(algorithm) or names[algorithm[:2]])
    signed = identity.sign({"a": 1}, header={"alg": algorithm})
    assert jose.verify(signed, Certificate.read(identity.der)) == {"a": 1}
    assert documents.Jws.read(signed).holds(identity.key.public_key())
    other = Identity.load(group, "second")
    assert not documents.Jws.read(signed).holds(other.key.public_key())


def test_certificates_are_made_for_test_oins_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="test OINs"):
        TestAuthority().issue(tmp_path, "real", peer=("00000001003214345000", "Somebody"), hosts=["localhost"])


# -- what is tried -----------------------------------------------------------------------------------------------------


def test_every_scenario_of_the_published_suite_is_there_once_with_its_clause() -> None:
    suite = [one for one in ALL if not one.extra]
    counted = {
        name: sum(one.component == name for one in suite) for name in ("Manager", "Inway", "Outway", "Integration")
    }
    assert counted == {"Manager": 58, "Inway": 13, "Outway": 8, "Integration": 6}
    assert len({one.id for one in ALL}) == len(ALL)
    for one in ALL:
        assert re.match(r"(Core|Logging|OpenAPI|RFC) ?[\w.]*", one.clause), one.id
        assert one.title, one.id


def test_an_unknown_scenario_is_a_mistake_and_no_silent_success() -> None:
    with pytest.raises(ConfigurationFault):
        runner.chosen(["Manger-"])
    assert not report.passed([])


# Of the suite, the scenarios in which something must be refused; of ours, they say so themselves.
_REFUSALS = re.compile(
    r"Manager-SubmitContract-([7-9]|10)|Manager-(Accept|Reject|Revoke)Contract-[2-7]|Manager-Contracts-2|"
    r"Manager-GetToken-([2-589])|Inway-Incoming-Request-[236]|Inway-TransactionLog-3"
)


def _must_refuse(one: Scenario) -> bool:
    begins = one.title.startswith(("Refuse", "Give no token", "Give a delegator no token", "Let nobody"))
    return bool(_REFUSALS.fullmatch(one.id)) or (one.extra and begins)


def test_an_implementation_that_believes_everything_fails_every_scenario_that_must_be_refused(tmp_path: Path) -> None:
    async def run() -> list[Result]:
        target = target_in(tmp_path)
        # Its listeners do verify certificates; who gets in is the one thing that it does well.
        scenarios = [
            one
            for one in ALL
            if _must_refuse(one) and "Authentication" not in one.id and not one.id[6:].startswith("Outway")
        ]
        hooks = ConfiguredHooks(target)
        hooks.asked = True
        async with Credulous(target).running():
            return await runner.run(target, hooks, scenarios)

    results = asyncio.run(run())
    assert len(results) > 70
    assert [result.scenario.id for result in results if result.outcome is not Outcome.FAILED] == []


def test_an_implementation_that_looks_at_no_certificate_fails_where_it_must_not_let_in(tmp_path: Path) -> None:
    ids = ["Extra-Manager-Authentication", "Inway-Incoming-Request-4", "Extra-Inway-Authentication"]

    async def run() -> list[Result]:
        target = target_in(tmp_path)
        async with Credulous(target, door_open=True).running():
            return await runner.run(target, ConfiguredHooks(target), runner.chosen(ids))

    results = asyncio.run(run())
    assert len(results) == 5
    assert [result.scenario.id for result in results if result.outcome is not Outcome.FAILED] == []
    assert all("status 200" in result.detail for result in results)


# -- how it is told ----------------------------------------------------------------------------------------------------


def test_what_a_hostile_target_says_is_told_inert_and_without_signatures_of_tokens(tmp_path: Path) -> None:
    async def run() -> tuple[list[Result], str]:
        target = target_in(tmp_path)
        credulous = Credulous(target)
        async with credulous.running():
            folder = tmp_path / "tester"
            folder.mkdir()
            async with World(target, ConfiguredHooks(target), folder).opened() as world:
                token = await world.token("$1$3$hash")
            body = {"peer_id": "\x1b[31mred\u202e<script>", "peer_name": token}
            credulous.hostile = json.dumps(body, ensure_ascii=False).encode()
            return await runner.run(target, ConfiguredHooks(target), runner.chosen(["Manager-PeerInfo-1"])), token

    results, token = asyncio.run(run())
    assert results[0].outcome is Outcome.FAILED
    told = "\n".join(report.failures(results)) + json.dumps(results[0].to_json(), ensure_ascii=False)
    assert token.rpartition(".")[0] in told
    assert token not in told
    assert "(withheld)" in told
    assert "\x1b" not in told
    assert "\u202e" not in told
    assert "received: 200" in told
    assert "sent: GET https://127.0.0.1" in told


def test_a_transcript_is_bounded() -> None:
    transcript = Transcript()
    for number in range(1000):
        transcript.add("received", str(number), {"set-cookie": "secret"}, b"x" * 1_000_000)
    assert len(transcript.entries) <= 40
    assert all(len(entry.body) < 2000 and "secret" not in entry.what for entry in transcript.entries)


def test_a_scenario_that_could_not_be_run_does_not_pass(tmp_path: Path) -> None:
    async def run() -> list[Result]:
        target = target_in(tmp_path)
        scenarios = runner.chosen(["Outway-IncomingRequest-1", "Inway-TransactionLog-6", "Manager-Port-1"])
        async with Credulous(target).running():
            return await runner.run(target, ConfiguredHooks(target), scenarios)

    results = asyncio.run(run())
    assert [result.outcome for result in results] == [Outcome.FAILED, Outcome.NOT_RUN, Outcome.NOT_RUN]
    assert not report.passed(results)
    assert report.summary(results) == "0 of 3 scenarios pass"
    assert "names no outway" in results[2].detail


def test_a_scenario_that_hangs_or_cannot_read_an_answer_fails_and_the_next_one_runs(tmp_path: Path) -> None:
    async def hang(world: World) -> None:
        await asyncio.sleep(3600)

    async def misread(world: World) -> None:
        raise KeyError("content")

    async def fine(world: World) -> None:
        if world.lacks("inway"):
            raise Failed("there is an inway")

    async def run() -> list[Result]:
        target = target_in(tmp_path).model_copy(update={"scenario_seconds": 0.05})
        scenarios = [Scenario(f"Manager-{one.__name__}", "", "Core", one) for one in (hang, misread, fine)]
        return await runner.run(target, ConfiguredHooks(target), scenarios)

    results = asyncio.run(run())
    assert [result.outcome.value for result in results] == ["failed", "failed", "passed"]


# -- the file ----------------------------------------------------------------------------------------------------------


def test_a_prepared_folder_holds_a_file_and_certificates_that_can_be_used(tmp_path: Path) -> None:
    folder = tmp_path / "group"
    assert any("fsc-target.toml" in line for line in prepare.make(folder))
    target = read_toml(folder / "fsc-target.toml", CheckTarget)
    world = World(target, ConfiguredHooks(target), tmp_path)
    assert world.first.peer_id != world.second.peer_id != world.third.peer_id
    assert world.lacks("inway")
    for key in (folder / "certificates").glob("*.key"):
        assert key.stat().st_mode & 0o077 == 0, f"{key.name} can be read by others"
    with pytest.raises(ConfigurationFault):
        list(prepare.make(folder))


def test_a_mode_that_lacks_what_it_needs_is_refused_with_the_key(tmp_path: Path) -> None:
    folder = tmp_path / "group"
    list(prepare.make(folder))
    file = folder / "fsc-target.toml"
    file.write_text(file.read_text().replace('mode = "manual"', 'mode = "command"'))
    with pytest.raises(ConfigurationFault, match="needs a command"):
        read_toml(file, CheckTarget)

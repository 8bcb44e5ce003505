"""Why would this call fail? Each answer names the step that does not hold, with what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from exchange_world import REGISTER, Play, World, an_agreement

from stelsel.agreements.agreement import State
from stelsel.base.clock import SetClock, SystemClock
from stelsel.base.errors import Forbidden
from stelsel.exchange.explain import Step, explain


async def ask(world: World, where: str, **options: Any) -> dict[str, Step]:
    options.setdefault("clock", SystemClock())
    options.setdefault("certificate", world.municipality.certificate)
    steps = await explain(outway=world.outway, agreements=world.agreements, where=where, **options)
    return {step.name: step for step in steps}


def failing(steps: dict[str, Step]) -> list[str]:
    assert all(step.next_step for step in steps.values() if step.ok is False), "a failing step says what to do"
    return [name for name, step in steps.items() if step.ok is False]


def test_a_call_that_would_pass_has_no_failing_step_and_records_nothing(play: Play) -> None:
    async def scenario(world: World) -> None:
        for where in ("plain", f"{REGISTER}/plain", "$1$3$plain"):
            steps = await ask(world, where)
            assert failing(steps) == []
            assert steps["provider reachable"].ok
        assert world.consumer_ledger.records == world.provider_ledger.records == []
        assert world.service.seen == []

    play(scenario)


def test_each_fault_is_named(play: Play) -> None:
    async def scenario(world: World) -> None:
        assert failing(await ask(world, "nonsense")) == ["agreement"]
        assert failing(await ask(world, f"{REGISTER}/unknown")) == ["agreement"]
        assert failing(await ask(world, "personen", fields=("adres",))) == ["fields"]
        assert failing(await ask(world, "personen", fields=("naam",), search_parameters=("adres",))) == ["fields"]
        assert failing(await ask(world, "personen", fields=("naam",))) == []
        certificate = world.municipality.certificate
        assert failing(await ask(world, "plain", certificate=replace(certificate, key_thumbprint="0"))) == [
            "outway key"
        ]
        assert failing(await ask(world, "plain", certificate=replace(certificate, not_after=0))) == ["certificate"]
        soon = replace(certificate, not_after=SystemClock().now() + 86_400)
        assert "expires in" in (await ask(world, "plain", certificate=soon))["certificate"].detail
        agreement = world.agreements.agreement("$1$3$plain")
        assert agreement is not None
        world.agreements.keep_token(world.agreements.make_token(agreement, expires=1_000_000_000))
        assert failing(await ask(world, "plain")) == ["clock"]
        world.agreements.forget_token(agreement.grant_hash)
        await world.inway.stop(0)
        assert failing(await ask(world, "plain")) == ["provider reachable"]

    play(scenario)


def test_an_agreement_that_is_not_in_force_is_said_why(play: Play) -> None:
    async def scenario(world: World) -> None:
        for state in (State.REVOKED, State.REJECTED, State.EXPIRED):
            world.agreements.put(an_agreement("plain", world.municipality, state=state))
            assert failing(await ask(world, "plain")) == ["in force"]
        world.agreements.put(an_agreement("plain", world.municipality, state=State.PROPOSED))
        steps = await ask(world, "plain")
        assert failing(steps) == ["signatures"]
        assert "not every party" in steps["signatures"].detail
        world.agreements.put(an_agreement("plain", world.municipality))
        steps = await ask(world, "plain", clock=SetClock(0.0))
        assert "in force" in failing(steps)

    play(scenario)


def test_a_signature_that_can_no_longer_be_verified_is_said_apart_from_one_that_is_missing(play: Play) -> None:
    async def scenario(world: World) -> None:
        now = SystemClock().now()
        for state in (State.PROPOSED, State.VALID):
            ended = an_agreement("plain", world.municipality, state=state, signatures_hold_until=now - 60)
            world.agreements.put(ended)
            steps = await ask(world, "plain")
            assert failing(steps) == ["signatures"]
            assert "expired on" in steps["signatures"].detail
            assert "sign again" in steps["signatures"].next_step
        world.agreements.put(an_agreement("plain", world.municipality, signatures_hold_until=now + 86_400 * 3.5))
        steps = await ask(world, "plain")
        assert failing(steps) == []
        assert "in 3 days" in steps["signatures"].detail

    play(scenario)


def test_another_version_of_fsc_is_told_but_does_not_fail_the_call_by_itself(play: Play) -> None:
    async def scenario(world: World) -> None:
        async def says(version: str) -> Step:
            async def ask_version(peer_id: str) -> str:
                assert peer_id == REGISTER
                if not version:
                    raise Forbidden("not today")
                return version

            steps = await ask(world, "plain", ask_version=ask_version)
            assert failing(steps) == []
            return steps["version"]

        assert (await says("2.0.0")).ok is True
        other = await says("1.1.2\n\u202e")
        assert other.ok is None
        assert other.next_step
        assert "1.1.2" in other.detail
        assert other.detail.isprintable()
        assert "not today" in (await says("")).detail

    play(scenario)


def test_a_token_that_the_provider_does_not_give_is_said_why(play: Play) -> None:
    async def scenario(world: World) -> None:
        async def refuse(_: str) -> Any:
            raise Forbidden("the provider gives no access token: obligations are not met")

        world.agreements.token = refuse  # type: ignore[method-assign]
        steps = await ask(world, "plain")
        assert failing(steps) == ["token"]
        assert "obligations" in steps["token"].detail
        assert steps["provider reachable"].ok is None

    play(scenario)

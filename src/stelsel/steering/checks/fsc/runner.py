"""Runs scenarios, one after another, and keeps what came of each."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from stelsel.base.errors import ConfigurationFault
from stelsel.base.log import logger
from stelsel.steering.checks.fsc.hooks import Hooks
from stelsel.steering.checks.fsc.model import Failed, NotRun, Outcome, Result, Scenario, safe
from stelsel.steering.checks.fsc.scenarios import ALL
from stelsel.steering.checks.fsc.settings import CheckTarget
from stelsel.steering.checks.fsc.world import World, missing

_log = logger("steering")


def chosen(only: Sequence[str]) -> tuple[Scenario, ...]:
    """The scenarios whose id begins with one of `only`; all when none is given. Raises `ConfigurationFault`."""
    found = tuple(one for one in ALL if not only or any(one.id.startswith(start) for start in only))
    if not found:
        raise ConfigurationFault(
            "no scenario begins with that", next_step="see their ids with: stelsel check fsc --list"
        )
    return found


async def run(
    target: CheckTarget, hooks: Hooks, scenarios: Sequence[Scenario], told: Callable[[Result], None] = lambda _: None
) -> list[Result]:
    """Run these scenarios against the target. `told` hears each result at once. Raises `ConfigurationFault`."""
    results = []
    with tempfile.TemporaryDirectory(prefix="fsc-check-") as folder:
        async with World(target, hooks, Path(folder)).opened() as world:
            for one in scenarios:
                results.append(await _run(one, world))
                told(results[-1])
    return results


async def _run(one: Scenario, world: World) -> Result:
    world.begin()
    began = time.perf_counter()
    outcome, detail = Outcome.PASSED, ""
    try:
        missing(world, one.needs)
        async with asyncio.timeout(world.settings.scenario_seconds):
            await one.run(world)
    except NotRun as reason:
        outcome, detail = Outcome.NOT_RUN, str(reason)
    except Failed as failure:
        outcome, detail = Outcome.FAILED, str(failure)
    except TimeoutError:
        outcome, detail = Outcome.FAILED, f"it took longer than {world.settings.scenario_seconds:.0f} seconds"
    except Exception as mistake:  # noqa: BLE001 - what the target says may be anything; the other scenarios go on
        # The form of an answer was not what the scenario could read.
        outcome, detail = Outcome.FAILED, safe(f"the answer could not be read: {type(mistake).__name__} {mistake}")
        _log.debug("a scenario could not read an answer", scenario=one.id, exc_info=mistake)
    seconds = time.perf_counter() - began
    return Result(one, outcome, detail, seconds, tuple(world.transcript.entries))

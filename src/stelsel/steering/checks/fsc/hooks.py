"""What no address can do: letting the target accept a contract, and putting its log out of order."""

from __future__ import annotations

import asyncio
import sys
from typing import Protocol

from stelsel.base.text import inert
from stelsel.steering.checks.fsc.model import Failed
from stelsel.steering.checks.fsc.settings import CheckTarget

_COMMAND_SECONDS = 120


class Hooks(Protocol):
    """What is done to the target from the side of its operator."""

    can_break_log: bool
    asked: bool
    """Whether the target waits to be asked before it accepts a contract."""

    async def approve(self, content_hash: str) -> None:
        """Have the target accept this contract; that it did is for the caller to see."""

    async def break_log(self) -> None: ...

    async def mend_log(self) -> None: ...


class ConfiguredHooks:
    """As `fsc-target.toml` says it."""

    def __init__(self, target: CheckTarget) -> None:
        self._approval = target.approval
        self._commands = target.commands
        self.asked = target.approval.mode != "automatic"
        self.can_break_log = bool(target.commands.break_log and target.commands.mend_log)

    async def approve(self, content_hash: str) -> None:
        if self._approval.mode == "command":
            await _run(tuple(part.replace("{content_hash}", content_hash) for part in self._approval.command))
        elif self._approval.mode == "manual":
            sys.stderr.write(f"Accept this contract within {self._approval.seconds:.0f} seconds: {content_hash}\n")

    async def break_log(self) -> None:
        await _run(self._commands.break_log)

    async def mend_log(self) -> None:
        await _run(self._commands.mend_log)


async def _run(arguments: tuple[str, ...]) -> None:
    process = await asyncio.create_subprocess_exec(
        *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _COMMAND_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Failed(f"the command {inert(arguments[0])} did not end in {_COMMAND_SECONDS} seconds") from None
    if process.returncode != 0:
        said = inert(output.decode("utf-8", "replace").strip(), 300)
        raise Failed(f"the command {inert(arguments[0])} ended with {process.returncode}: {said}")

"""Tasks that go on for as long as a room is open."""

from __future__ import annotations

import asyncio


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel it, if there is one, and wait until it has ended."""
    if task is not None:
        task.cancel()
        await asyncio.wait((task,))

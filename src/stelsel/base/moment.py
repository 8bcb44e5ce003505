"""What someone waits for, without a future: who waits goes on within the call that says that it has come.

An asyncio future lets whoever waits go on in the next turn of the loop, by way of a handle and a context: that is
right for tasks, and most of the cost of waiting where a coroutine is moved on by its owner (see `exchange.call`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Protocol


class Steps(Protocol):
    """Moves a coroutine on, from one wait to the next."""

    def go_on(self) -> None:
        """Take the steps up to the next wait; what came of the last one, that itself tells them."""

    def go_on_soon(self) -> None:
        """The same in the next turn of the loop."""


class Moment:
    """It comes once, or fails once. Awaited by a coroutine that `Steps` move on, at most one."""

    __slots__ = ("come", "fault", "steps", "value")

    def __init__(self) -> None:
        self.steps: Steps | None = None
        """Which wait for it."""
        self.come = False
        self.value = 0
        self.fault: BaseException | None = None

    def __await__(self) -> Generator[Any, None, int]:
        while not self.come:
            yield self
        if self.fault is not None:
            raise self.fault
        return self.value

    def over(self) -> bool:
        """Whether nobody needs to be told any more."""
        return self.come

    def comes(self, value: int) -> None:
        """It is there, and this is what comes of it. The steps go on before this returns."""
        if self.come:
            return
        self.come = True
        self.value = value
        steps, self.steps = self.steps, None  # no ring, which only the garbage collector would undo
        if steps is None:
            return
        try:
            steps.go_on()
        except Exception as error:  # noqa: BLE001 - a mistake in these steps must not keep others from being told
            told = {"message": "steps that waited for a moment failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)

    def fails(self, fault: BaseException) -> None:
        """It will never be there. The steps go on in the next turn of the loop."""
        if self.come:
            return
        self.come = True
        self.fault = fault
        steps, self.steps = self.steps, None
        if steps is not None:
            steps.go_on_soon()


class FutureMoment(Moment):
    """One of which a future is told, for who runs in a task; it is over when the task went away, too."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[int]) -> None:
        super().__init__()
        self.future = future

    def over(self) -> bool:
        return self.future.done()

    def comes(self, value: int) -> None:
        if not self.future.done():
            self.future.set_result(value)

    def fails(self, fault: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(fault)

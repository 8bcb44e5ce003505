"""What someone waits for, without a future: who waits goes on within the call that says that it has come.

An asyncio future lets whoever waits go on in the next turn of the loop, by way of a handle and a context: that is
right for tasks, and most of the cost of waiting where a coroutine is moved on by its owner (see `exchange.call`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any


class Steps:
    """Moves a coroutine on, from one wait to the next."""

    def go_on(self, waited: Any = None) -> None:
        """Take the steps up to the next wait; what came of the last one, that itself tells them."""
        raise NotImplementedError

    def go_on_soon(self) -> None:
        """The same in the next turn of the loop."""
        raise NotImplementedError


class Moment:
    """It comes once, or fails once. Awaited by a coroutine that `Steps` move on, at most one."""

    def __init__(self) -> None:
        self.steps: Steps | None = None
        """Which wait for it."""
        self.come = False
        self.value = 0
        self.fault: BaseException | None = None

    def __await__(self) -> Generator[Any, None, int]:
        if not self.come:
            yield self
        if self.fault is not None:
            raise self.fault
        return self.value

    def over(self) -> bool:
        """Whether nobody needs to be told any more."""
        return self.come

    def comes(self, value: int) -> None:
        """It is there, and this is what comes of it. The steps go on before this returns."""
        if not self.come:
            self.come = True
            self.value = value
            steps, self.steps = self.steps, None  # no ring, which only the garbage collector would undo
            if steps is not None:
                steps.go_on()

    def fails(self, fault: BaseException) -> None:
        """It will never be there. The steps go on in the next turn of the loop."""
        if not self.come:
            self.come = True
            self.fault = fault
            steps, self.steps = self.steps, None
            if steps is not None:
                steps.go_on_soon()


class FutureMoment(Moment):
    """One of which a future is told, for who runs in a task; it is over when the task went away, too."""

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

"""How the interpreter is set for a process that answers requests for months."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from stelsel.base.errors import ConfigurationFault
from stelsel.base.log import logger

_log = logger("node")

_YOUNG = 50_000
"""Objects made before the youngest are looked through; a request makes some dozens, and leaves no cycles behind."""
_SWITCH = 0.0005
"""Seconds that a thread may keep the interpreter when another wants it: the disk's answer waits for no index."""

_elsewhere: set[int] = set()
"""The processors that this process might use before it stayed on one."""


def check_processors(processors: Sequence[int]) -> None:
    """Raises `ConfigurationFault` when this process may not run on one of these, or cannot choose."""
    if not processors:
        return
    if not hasattr(os, "sched_getaffinity"):
        raise ConfigurationFault("processors: this system does not let a process choose", next_step="leave it out")
    allowed = _elsewhere or os.sched_getaffinity(0)
    for number in processors:
        if number not in allowed:
            raise ConfigurationFault(
                f"processors: this node may not run on processor {number}",
                next_step=f"choose from {', '.join(map(str, sorted(allowed)))}",
            )


def settle(processor: int | None = None) -> None:
    """Call it when all that lives long was made: the garbage collector never looks at that again.

    Without it, a full collection over a hundred thousand lasting objects stops every request for tens of milliseconds.
    And where the system knows it, this thread asks to be let finish what it does, instead of being woken for every
    message at once: it then handles more of them in a row, each for an eighth less of the processor's time.

    From now on it stays on `processor`, with the threads that it begins later; threads that are there already do not.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 100)
    sys.setswitchinterval(_SWITCH)
    with suppress(AttributeError, OSError):  # elsewhere than on Linux, or where it may not
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    if processor is not None:
        _elsewhere.update(os.sched_getaffinity(0))
        try:
            os.sched_setaffinity(0, {processor})
        except OSError:  # taken away since the node began
            _log.warning("not on its processor", processor=processor)


def unsettle() -> None:
    """Call it before another program takes the place of this one: it may choose its processor itself."""
    if _elsewhere:
        os.sched_setaffinity(0, _elsewhere)

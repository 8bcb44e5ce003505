"""Structured logging to standard error. Nothing personal and nothing secret is ever given to a log line."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping, Sequence
from typing import Any, TextIO, cast

import structlog

from stelsel.base.text import inert


class _StandardError:
    """Standard error as it is when a line is written, not when logging was set up: it may be redirected meanwhile."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure(*, as_json: bool = False, level: str = "info") -> None:
    """Set up logging for this process, once."""
    _chosen[:] = [*(["--log-json"] if as_json else []), "--log-level", level]
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _make_inert,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _StandardError())),
        cache_logger_on_first_use=True,
    )


_chosen: list[str] = []


def arguments() -> list[str]:
    """How logging was set up, as arguments for a process that is to log in the same way."""
    return list(_chosen)


def configure_as(chosen: Sequence[str]) -> None:
    """Set up logging as in the process that gave these `arguments`."""
    if "--log-level" in chosen:
        configure(as_json="--log-json" in chosen, level=chosen[chosen.index("--log-level") + 1])


def logger(room: str) -> structlog.stdlib.BoundLogger:
    """The logger of a room."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(room=room))


def _make_inert(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if not isinstance(value, str):
            continue
        if key == "exception":
            # Many lines, each set in: what a caller put into a message of an error cannot pass for a line of the log.
            event[key] = "\n".join(f"  {inert(line, 2000)}" for line in value.split("\n"))
        else:
            event[key] = inert(value)
    return event


# The library's own defaults print the values of variables with a traceback, and those can be personal.
if not structlog.is_configured():
    configure()

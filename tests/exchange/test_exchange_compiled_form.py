"""What the compiled form asks of the source: nothing waits while it handles an exception."""

from __future__ import annotations

import ast
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest

from stelsel.agreements.services import Service
from stelsel.base.moment import Moment
from stelsel.exchange.facts import Facts, Refused
from stelsel.exchange.faults import TransactionLogWriteError
from stelsel.exchange.heads import RequestHead
from stelsel.exchange.steps import look_again
from stelsel.ledger.record import Record

_ROOT = Path(__file__).resolve().parents[2]
_HOOKS = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
COMPILED: list[str] = _HOOKS["mypyc"]["include"]
_WAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)


@pytest.mark.parametrize("file", COMPILED)
def test_nothing_that_is_compiled_waits_while_it_handles_an_exception(file: str) -> None:
    handlers = [
        handled
        for tried in ast.walk(ast.parse((_ROOT / file).read_text()))
        if isinstance(tried, ast.Try)
        for handled in (*(step for handler in tried.handlers for step in handler.body), *tried.finalbody)
    ]
    assert [each.lineno for handled in handlers for each in ast.walk(handled) if isinstance(each, _WAITS)] == []


class _Slow:
    """A ledger that records when it is told to, and agreements of which there are none any more."""

    def __init__(self) -> None:
        self.waiting: list[Moment] = []

    def append_then(self, record: Record, moment: Moment) -> None:
        assert not record.allowed
        self.waiting.append(moment)

    def agreement(self, grant_hash: str) -> None:
        return None


def test_refusals_that_wait_for_the_disk_together_do_not_hang_together() -> None:
    slow: Any = _Slow()
    service = Service.model_validate({"name": "things", "endpoint": "http://127.0.0.1:1"})
    chance, waiting, depths = random.Random(1), [], []
    for number in range(3000):
        head = RequestHead(b"GET", b"/", 1, (None, [], {}))
        facts = Facts("incoming", head, f"01900000-0000-7000-8000-{number:012x}")
        steps = look_again(slow, slow, facts, service, 0.0, TransactionLogWriteError)
        steps.send(None)
        waiting.append((slow.waiting.pop(), steps))
        if len(waiting) > 100:
            moment, steps = waiting.pop(chance.randrange(len(waiting)))
            moment.comes(0)
            with pytest.raises(Refused) as raised:
                steps.send(None)
            fault: BaseException | None = raised.value
            depth = 0
            while (fault := fault.__context__) is not None:
                depth += 1
            depths.append(depth)
    assert max(depths) == 0
    for moment, steps in waiting:
        moment.fails(TransactionLogWriteError("enough"))
        with pytest.raises(TransactionLogWriteError):
            steps.send(None)

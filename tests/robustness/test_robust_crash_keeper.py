"""Who supervises the processes of a crash trial: each has one life at a time, and every end is judged."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash.keeper import Keeper
from crash.nursery import Nursery

LIVES, ENDS = "crash_roles:lives", "crash_roles:ends"


class _Chain:
    """Starts what it is told to instead of nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.role = LIVES

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def words(self, text: str) -> None:
        """From now on a process ends at once, saying so."""
        (self.folder / "words").write_text(text)
        self.role = ENDS

    def start(self, nursery: Nursery, name: str) -> int:
        seen = "seen" if self.role == LIVES else "words"
        return nursery.start(name, self.role, self.log(name), port=0, seen=str(self.folder / seen))


@pytest.fixture
def chain(tmp_path: Path) -> _Chain:
    return _Chain(tmp_path)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery((LIVES, ENDS))
    yield made
    made.close()


@pytest.fixture
def keeper(chain: _Chain, nursery: Nursery) -> Iterator[Keeper]:
    made = Keeper(chain, nursery)  # type: ignore[arg-type]
    yield made
    made.kill("node")


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_process_that_ended_just_before_it_was_killed_is_started_once(
    chain: _Chain, nursery: Nursery, keeper: Keeper
) -> None:
    keeper.excuses = ["the database is away"]
    chain.words("the database is away")
    keeper.start("node")
    ended = keeper.pids["node"]
    _until(lambda: not _alive(ended))
    chain.role = LIVES
    assert not keeper.kill("node"), "there was nothing to kill"
    keeper.start("node")
    process = keeper.pids["node"]
    keeper.tend()
    assert keeper.pids == {"node": process}
    assert keeper.faults == []
    assert keeper.kill("node")
    assert not _alive(process), "nothing that was started goes on where nobody knows of it"


def test_a_name_that_lives_is_not_given_to_a_second_process(keeper: Keeper) -> None:
    keeper.start("node")
    with pytest.raises(RuntimeError, match="while it lives"):
        keeper.start("node")


def test_what_ends_with_an_excuse_is_started_again_and_without_one_is_a_fault(chain: _Chain, keeper: Keeper) -> None:
    keeper.excuses = ["the database is away"]
    chain.words("the database is away")
    keeper.start("node")
    _until(lambda: not _alive(keeper.pids["node"]))
    chain.words("my ledger does not add up")
    keeper.tend()
    assert (keeper.started_again, keeper.faults) == (1, [])
    _until(lambda: not _alive(keeper.pids["node"]))
    chain.role = LIVES
    keeper.tend()
    assert keeper.faults == ["node ended by itself (exit 1): SystemExit: my ledger does not add up"]
    assert _alive(keeper.pids["node"])


def test_an_excuse_of_an_earlier_life_does_not_count(chain: _Chain, keeper: Keeper) -> None:
    keeper.excuses = ["the database is away"]
    chain.log("node").write_text("the database is away\n")
    keeper.start("node")
    _until(lambda: (chain.folder / "seen").exists())
    os.kill(keeper.pids["node"], signal.SIGKILL)  # by somebody else, as when memory runs out
    _until(lambda: not _alive(keeper.pids["node"]))
    keeper.tend()
    assert keeper.faults == ["node ended by itself (signal 9): it said nothing"]

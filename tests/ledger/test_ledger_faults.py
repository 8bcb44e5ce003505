"""A full disk, one that hangs, a folder taken away, a dead database: refused with the right code, and over by itself.

Each is done for real where this machine lets us (a small filesystem, a frozen one, a killed server). Where it does not,
the same call fails for another reason of the system: a limit on the size of files, or a sync that does not return.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import psycopg
import pytest
from structlog.testing import capture_logs

from stelsel.base.certificates import KeyPair
from stelsel.base.clock import SystemClock
from stelsel.demo.postgres import ThrowawayPostgres
from stelsel.exchange.faults import TransactionLogWriteError
from stelsel.exchange.ports import write_down
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.query import Entry, Query
from stelsel.ledger.record import Record
from stelsel.ledger.segments import SegmentJournal
from stelsel.ledger.service import Ledger
from stelsel.ledger.settings import LedgerSettings

DEADLINE = 1.0
SLACK = 1.0  # for a machine that has more to do
_LONGEST = 20.0


class Trouble(Protocol):
    """Something that stops a ledger from recording."""

    folder: Path
    journal: str

    def begin(self) -> None: ...

    def end(self) -> None: ...


class _Folder:
    journal = "segments"

    def __init__(self, folder: Path) -> None:
        self.folder = folder


class FullFilesystem(_Folder):
    """A small filesystem of its own, filled to the last byte."""

    def begin(self) -> None:
        with (self.folder.parent / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            for size in (1 << 16, 1 << 12, 1):
                with suppress(OSError):
                    while filler.write(b"x" * size):
                        pass

    def end(self) -> None:
        (self.folder.parent / "filler").unlink()


class FullFiles(_Folder):
    """No file of this process may grow: EFBIG, where we cannot have a filesystem of our own."""

    def begin(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        largest = max(path.stat().st_size for path in (self.folder / "segments").iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (min(largest, _end_of_segments(self.folder)) + 10, self._limits[1]))

    def end(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)


def _end_of_segments(folder: Path) -> int:
    """Where the last record ends: what a segment has reserved behind it does not count."""
    last = max((folder / "segments").glob("*.segment"))
    return len(last.read_bytes().rstrip(b"\0"))


class FolderAway(_Folder):
    """The folder of the segments is moved away, as an unmounted disk is."""

    def begin(self) -> None:
        (self.folder / "segments").rename(self.folder / "away")

    def end(self) -> None:
        (self.folder / "away").rename(self.folder / "segments")


class FrozenFilesystem(_Folder):
    """The filesystem takes no writes and gives no errors: every write and sync on it waits."""

    def begin(self) -> None:
        subprocess.run(["fsfreeze", "--freeze", str(self.folder.parent)], check=True)
        self._guard = threading.Timer(_LONGEST, self._thaw)  # nobody can kill a process that waits in there
        self._guard.start()

    def end(self) -> None:
        self._guard.cancel()
        self._thaw()

    def _thaw(self) -> None:
        subprocess.run(["fsfreeze", "--unfreeze", str(self.folder.parent)], check=False, stderr=subprocess.DEVNULL)


class HangingJournal(_Folder):
    """An append that does not come back, where we cannot freeze a filesystem."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(folder)
        self._free = threading.Event()
        self._free.set()
        append = SegmentJournal.append

        def slow(journal: SegmentJournal, batch: list[tuple[bytes, bytes, str]]) -> int:
            self._free.wait(_LONGEST)
            return append(journal, batch)

        patch.setattr(SegmentJournal, "append", slow)
        patch.setattr(SegmentJournal, "begin", lambda journal, batch: None)

    def begin(self) -> None:
        self._free.clear()

    def end(self) -> None:
        self._free.set()


class _Walk:
    """Moves on what the steps of a request would: it waits for moments, not for futures."""

    def __init__(self, steps: Coroutine[Any, Any, None]) -> None:
        self._steps = steps
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def of(cls, steps: Coroutine[Any, Any, None]) -> None:
        walk = cls(steps)
        walk.go_on()
        await walk.done

    def go_on(self) -> None:
        try:
            self._steps.send(None).steps = self
        except StopIteration:
            self.done.set_result(None)
        except Exception as error:  # noqa: BLE001 - told to who awaits it
            self.done.set_exception(error)

    def go_on_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.go_on)


class _Database:
    def __init__(self, folder: Path, server: ThrowawayPostgres, address: str) -> None:
        self.folder = folder
        self.journal = address
        self._server = server


class DatabaseKilled(_Database):
    """The server and all its sessions are killed."""

    def begin(self) -> None:
        self._server.kill()

    def end(self) -> None:
        self._server.start()


class DatabaseFrozen(_Database):
    """The server stands still, and its connections with it."""

    def begin(self) -> None:
        self._server.freeze()

    def end(self) -> None:
        self._server.thaw()


class DatabaseLocked(_Database):
    """Another session holds what every append needs."""

    def begin(self) -> None:
        self._other = psycopg.connect(self.journal)
        self._other.execute("LOCK TABLE stelsel_ledger_head IN EXCLUSIVE MODE")

    def end(self) -> None:
        self._other.close()


class DatabaseFull(_Database):
    """The disk of the server is full; the server ends, and comes back when there is room."""

    def begin(self) -> None:
        self._filler = self._server.folder / "filler"
        with self._filler.open("wb", buffering=0) as filler, suppress(OSError):
            while filler.write(b"x" * 4096):
                pass

    def end(self) -> None:
        self._filler.unlink()
        if self._server.process is None or self._server.process.poll() is not None:
            self._server.stop()
            self._server.start()


@contextmanager
def small_filesystem(folder: Path, *options: str, device: bool = False) -> Iterator[Path | None]:
    """A filesystem of its own at `folder`; None where this machine does not let us."""
    folder.mkdir()
    source = folder.with_suffix(".image") if device else Path("none")
    if device:
        with source.open("wb") as image:
            image.truncate(32 << 20)
    make = not device or _succeeds("mkfs.ext4", "-q", "-F", str(source))
    if not make or os.geteuid() != 0 or not _succeeds("mount", *options, str(source), str(folder)):
        yield None
        return
    try:
        yield folder
    finally:
        if not _succeeds("umount", str(folder)):
            _succeeds("umount", "--lazy", str(folder))


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(
    params=[
        "full disk",
        "full files",
        "folder away",
        "frozen disk",
        "hanging journal",
        "database killed",
        "database frozen",
        "database locked",
        "database full",
    ]
)
def trouble(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trouble]:
    if request.param == "full disk":
        with small_filesystem(tmp_path / "small", "-t", "tmpfs", "-o", "size=2m") as small:
            yield FullFilesystem(small / "ledger") if small else FullFiles(tmp_path / "ledger")
    elif request.param == "full files":
        yield FullFiles(tmp_path / "ledger")
    elif request.param == "folder away":
        yield FolderAway(tmp_path / "ledger")
    elif request.param == "frozen disk":
        with small_filesystem(tmp_path / "small", "-o", "loop", device=True) as small:
            yield FrozenFilesystem(small / "ledger") if small else HangingJournal(tmp_path / "ledger", monkeypatch)
    elif request.param == "hanging journal":
        yield HangingJournal(tmp_path / "ledger", monkeypatch)
    elif request.param == "database full":
        with (
            TemporaryDirectory(prefix="small-") as parent,  # short: a unix socket has a short name
            small_filesystem(Path(parent, "small"), "-t", "tmpfs", "-o", "size=80m,mode=755") as small,
        ):
            if small is None:
                yield DatabaseKilled(
                    tmp_path / "ledger", request.getfixturevalue("server"), request.getfixturevalue("new_database")()
                )
                return
            request.getfixturevalue("postgres_server")  # says so when there is none
            Path(parent).chmod(0o711)  # the server is another user, and must come through
            settings = {"min_wal_size": "32MB", "max_wal_size": "32MB", "wal_keep_size": "0", "shared_buffers": "2MB"}
            with ThrowawayPostgres(small, **settings) as server:
                yield DatabaseFull(tmp_path / "ledger", server, server.url())
    else:
        kind = {"killed": DatabaseKilled, "frozen": DatabaseFrozen, "locked": DatabaseLocked}[request.param.split()[1]]
        yield kind(tmp_path / "ledger", request.getfixturevalue("server"), request.getfixturevalue("new_database")())


class Caller:
    """Records one exchange after another, and remembers what came of each."""

    def __init__(self, ledger: Ledger, record: Callable[..., Record]) -> None:
        self._ledger = ledger
        self._record = record
        self._numbers = iter(range(1_000_000))
        self.kept: list[str] = []
        self.refused: list[str] = []

    def _next(self) -> Record:
        number = next(self._numbers)
        return self._record(number, subject=f"r{number % 3}", reason="x" * 500)

    async def append(self) -> bool:
        """Whether it was recorded."""
        one = self._next()
        try:
            await self._ledger.append(one)
        except LedgerUnavailable:
            self.refused.append(one.transaction_id)
            return False
        self.kept.append(one.transaction_id)
        return True

    async def until_refused(self) -> None:
        """A full disk may have room for some more in what it gave away before."""
        for _ in range(20_000):
            if not await self.append():
                return
        pytest.fail("nothing is refused")

    async def is_refused(self, size: int) -> None:
        """In time, with FSC's code for it, and with a next step for the operator."""
        begin = time.monotonic()
        records = [self._next() for _ in range(size)]
        with pytest.raises(TransactionLogWriteError) as refusal:
            await _Walk.of(write_down(self._ledger, records, TransactionLogWriteError))
        assert time.monotonic() - begin < DEADLINE + SLACK
        assert (refusal.value.status, refusal.value.code) == (500, "TRANSACTION_LOG_WRITE_ERROR")
        assert isinstance(refusal.value.__cause__, LedgerUnavailable)
        assert refusal.value.__cause__.next_step
        self.refused.extend(one.transaction_id for one in records)

    async def until_recorded(self) -> None:
        """It records again, without anyone doing anything to the node."""
        due = time.monotonic() + _LONGEST
        while not await self.append():
            assert time.monotonic() < due, "it does not go on by itself"
            await asyncio.sleep(0.05)

    def check(self, found: list[Entry]) -> None:
        """Nothing acknowledged is lost, nothing is there twice, numbers have no gaps by what was refused."""
        times = Counter(entry.record.transaction_id for entry in found)
        assert set(times.values()) == {1}
        assert times.keys() >= set(self.kept)
        assert times.keys() <= {*self.kept, *self.refused}
        for subject in ("r0", "r1", "r2"):
            given = [entry.record.subject_sequence for entry in found if entry.record.subject == subject]
            assert given == list(range(1, len(given) + 1))


def test_what_cannot_be_recorded_is_refused_in_time_with_an_alarm_and_ends_by_itself(
    trouble: Trouble, provider: KeyPair, record: Callable[..., Record]
) -> None:
    settings = LedgerSettings(deadline=DEADLINE, journal=trouble.journal, index_pause=0.02)

    def new_ledger() -> Ledger:
        return Ledger(folder=trouble.folder, keypair=provider, clock=SystemClock(), settings=settings)

    async def trouble_comes_and_goes(ledger: Ledger, caller: Caller) -> None:
        await asyncio.to_thread(trouble.begin)
        try:
            await caller.until_refused()
            for size in (1, 20):
                await caller.is_refused(size)
            assert not ledger.writable
        finally:
            await asyncio.to_thread(trouble.end)
        await caller.until_recorded()
        for _ in range(30):
            assert await caller.append()
        assert ledger.writable

    async def scenario() -> None:
        ledger = new_ledger()
        caller = Caller(ledger, record)
        await ledger.start()
        try:
            for _ in range(30):
                assert await caller.append()
            await ledger.find(Query())
            with capture_logs() as logs:
                await trouble_comes_and_goes(ledger, caller)
            told = Counter(entry["event"] for entry in logs)
            assert told["ledger refuses"] == told["ledger records again"] <= 1
            assert told["ledger refuses"] == 1
        finally:
            await ledger.stop()
        again = new_ledger()
        await again.start()
        try:
            caller.check([entry async for entry in everything(again)])
        finally:
            await again.stop()

    asyncio.run(scenario())


async def everything(ledger: Ledger) -> AsyncIterator[Entry]:
    """All that is in the ledger, in order."""
    last = -1
    while page := await ledger.find(Query(limit=1000, descending=False, after_index=last)):
        for entry in page:
            yield entry
        last = page[-1].index

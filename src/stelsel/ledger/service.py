"""The ledger of one peer: the one door through which other rooms record, search and prove."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from stelsel.base.certificates import KeyPair
from stelsel.base.clock import Clock
from stelsel.base.errors import BadRequest, ConfigurationFault, NotFound
from stelsel.base.moment import Moment
from stelsel.ledger import audit, evidence, published, receipts
from stelsel.ledger.batch import Item, Parcel
from stelsel.ledger.checkpoint import LedgerKey, SignedCheckpoint, endorse, origin_of
from stelsel.ledger.commitment import Nonces, sealed
from stelsel.ledger.cosignature import Cosigned
from stelsel.ledger.endorsement import Endorsement
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.glance import counted_of
from stelsel.ledger.group_commit import GroupCommit
from stelsel.ledger.index import Building, Index, Reader
from stelsel.ledger.journal import Journal, Position
from stelsel.ledger.journals import open_journal
from stelsel.ledger.kept import Checkpoints
from stelsel.ledger.merkle import Tiles, consistency_proof, inclusion_proof, root
from stelsel.ledger.note import ED25519, VerifierKey
from stelsel.ledger.query import MAXIMUM_LIMIT, Entry, LogQuery, Query
from stelsel.ledger.record import Record
from stelsel.ledger.settings import SEGMENTS, LedgerSettings

T = TypeVar("T")

_LINES = 500
_FORGETTING = 600.0
"""Seconds that the index may take to forget what was erased, before whoever asked for it is told that it lasts."""


class Ledger:
    """Records of one peer in `folder`. Runs in one event loop, between `start` and `stop`."""

    def __init__(self, *, folder: Path, keypair: KeyPair, clock: Clock, settings: LedgerSettings | None = None) -> None:
        self._folder = folder
        self._keypair = keypair
        self._clock = clock
        self._settings = settings or LedgerSettings()
        self._record_bytes = self._settings.record_bytes
        self._nonces = Nonces()
        self._lock: int | None = None
        self._opened: _Opened | None = None
        keypair.on_renewal(self._endorse_again)
        self._commit: GroupCommit | None = None

    async def start(self) -> None:
        """Open the files, mend what a crash left, and take up where we were.

        Raises `ConfigurationFault` when the folder cannot be used or another node uses it, `LedgerCorrupt` when
        what was acknowledged before is not there.
        """
        self._opened = await asyncio.to_thread(self._open)
        settings = self._settings
        self._commit = GroupCommit(
            self._opened.journal,
            batch_records=settings.batch_records,
            waiting_records=settings.waiting_records,
            deadline=settings.deadline,
            io_uring=settings.io_uring,
        )
        self._commit.start()
        self._opened.index.start(self._opened.journal)

    async def stop(self) -> None:
        """Write what was accepted, then let go of the files."""
        commit, self._commit = self._commit, None
        ended = commit is None or await commit.stop()
        opened, self._opened = self._opened, None
        if opened is not None:
            await asyncio.to_thread(opened.index.stop)
            if ended:
                await asyncio.to_thread(opened.journal.close)
        if ended:  # else a disk still holds a write, and nobody else may write in its place while this process is there
            self._unlock()

    @property
    def size(self) -> int:
        """How many records are durable."""
        return self._open_now().journal.size

    @property
    def indexed(self) -> int:
        """How many of them the search index holds; it catches up behind them."""
        return self._open_now().index.size

    @property
    def building(self) -> Building:
        """Who builds the search index, and how far it is behind."""
        return self._open_now().index.building

    @property
    def writable(self) -> bool:
        """Whether the disk took the last record that was offered."""
        self._open_now()
        return self._commit is not None and not self._commit.refusing

    @property
    def public_key(self) -> bytes:
        """The ledger's Ed25519 public key (32 bytes)."""
        return self._open_now().key.public

    @property
    def endorsement(self) -> Endorsement:
        """The peer's word for the ledger's key, see `checkpoint`."""
        return self._open_now().endorsement

    def append(self, record: Record) -> asyncio.Future[int]:
        """Record it; gives its index, and only when it is durable.

        Raises `LedgerUnavailable`, within the deadline, when it cannot be; then nothing may be passed on. A request
        that was so refused may still turn out to be recorded (see `journal`), never the other way round.
        Raises `BadRequest` when the record has no canonical JSON or is too large.
        """
        return self._running().append(self._item(record))

    def append_then(self, record: Record, moment: Moment) -> None:
        """The same: `moment` comes, with the index, or fails. What is known now is raised."""
        self._running().append_then(self._item(record), moment)

    def _item(self, record: Record) -> Item:
        data = record.canonical()
        if len(data) > self._record_bytes:
            raise BadRequest(f"the record is larger than {self._record_bytes} bytes")
        return self._nonces.take(), data, record.subject

    def _running(self) -> GroupCommit:
        commit = self._commit
        if commit is None:
            raise _closed()
        return commit

    @property
    def record_bytes(self) -> int:
        """Bytes in one record, at most."""
        return self._record_bytes

    def offer(self, parcel: Parcel) -> asyncio.Future[int]:
        """As `append`, of records in frames: all of them or none; the index of the first. What is known now is raised.

        The caller sees to it that they are records (`batch.checked`), none larger than the settings allow.
        """
        return self._running().offer(parcel)

    async def find(self, query: Query) -> list[Entry]:
        """The records that meet the query, with everything that was acknowledged before this call."""
        if not 1 <= query.limit <= MAXIMUM_LIMIT:
            raise BadRequest(f"the limit must be between 1 and {MAXIMUM_LIMIT}")
        found = await self._ask(lambda reader: reader.find(query))
        return [entry for entry in found if _meets(entry.record, query)]

    async def transactions(self, query: LogQuery) -> list[Entry]:
        """The requests that a transaction log tells a peer about (FSC Logging 1.1.0, 3.2.1.1)."""
        if not 1 <= query.limit <= MAXIMUM_LIMIT:
            raise BadRequest(f"the limit must be between 1 and {MAXIMUM_LIMIT}")
        return await self._ask(lambda reader: reader.transactions(query))

    async def entry(self, index: int) -> Entry:
        """The record at this place. Raises `NotFound`."""
        for entry in await self._ask(lambda reader: [_known(reader, index)]):
            return entry
        raise _unknown()

    async def checkpoint(self) -> SignedCheckpoint:
        """Signed over everything that is durable now."""
        return await self._read(lambda reader: self._sign(reader))

    async def receipt(self, index: int) -> dict[str, Any]:
        """The receipt of a record; `receipts.write` makes the file. Raises `NotFound`."""
        opened = self._open_now()

        def make(reader: Reader) -> dict[str, Any]:
            position = _known(reader, index)
            line = opened.journal.line(position)
            if not line.record:
                raise _unknown()
            tree = reader.tree()
            shown = opened.checkpoints.cosigned
            if shown is None or not index < shown.checkpoint.size <= tree.size or not _continues(tree, shown):
                shown = Cosigned(self._sign(reader), opened.endorsement, ())
            proof = inclusion_proof(index, shown.checkpoint.size, tree.node)
            return receipts.make(
                index, line.record, line.nonce, proof, shown.checkpoint, shown.endorsement, shown.witnesses
            )

        return await self._read(make)

    async def consistency(self, first: int, second: int) -> list[bytes]:
        """The proof that the tree of `first` records is the beginning of that of `second` (see `merkle`)."""

        def prove(reader: Reader) -> list[bytes]:
            tree = reader.tree()
            if not 0 < first <= second <= tree.size:
                raise NotFound("the ledger never had trees of those sizes")
            return consistency_proof(first, second, tree.node)

        return await self._read(prove)

    @property
    def cosigned(self) -> Cosigned | None:
        """The last checkpoint that enough witnesses cosigned."""
        return self._open_now().checkpoints.cosigned

    async def keep_cosigned(self, cosigned: Cosigned) -> None:
        """Keep a checkpoint that enough witnesses cosigned; durable when this returns."""
        await asyncio.to_thread(self._open_now().checkpoints.keep_cosigned, cosigned)

    async def keep_witnessed(self, text: str) -> None:
        """Keep a checkpoint of ours by which a witness refuses another, for `audit` to compare."""
        await asyncio.to_thread(self._open_now().checkpoints.keep_witnessed, text)

    async def tile(self, level: int, number: int, width: int) -> bytes:
        """The first `width` hashes of a tile of the tree (C2SP tlog-tiles). Raises `NotFound`."""
        return await self._read(published.tile(level, number, width))

    async def entries(self, number: int, width: int) -> bytes:
        """A bundle of entries of the tree (C2SP tlog-tiles): commitments only. Raises `NotFound`."""
        return await self._read(published.entries(self._open_now().journal, number, width))

    async def audit(self, pause: float = 0.0) -> AsyncIterator[audit.Progress | audit.Report]:
        """Audit the whole ledger as it is now (see `audit`); what comes last is the report. `pause`: see there."""
        opened = self._open_now()
        size, stored_root = await self._read(lambda reader: (reader.tree().size, _root(reader)))

        def stored(tiles: list[audit.Tile]) -> list[bytes]:
            with opened.index.reading() as reader:
                tree = reader.tree()
                return [tree.stored(*tile) for tile in tiles]

        steps = audit.examine(
            size=size,
            stored_root=stored_root,
            lines=opened.journal.lines,
            stored=stored,
            kept=opened.checkpoints.kept(),
            key=VerifierKey(opened.origin, ED25519, opened.key.public),
            pause=pause,
        )
        while (step := await asyncio.to_thread(next, steps, None)) is not None:
            yield step

    async def tree(self, patience: float) -> tuple[int, bytes | None]:
        """How many records there are, and the root of the tree over them.

        None when the index does not hold them all within `patience` seconds.
        """
        opened = self._open_now()
        try:
            return await asyncio.to_thread(
                opened.read, lambda reader: ((tree := reader.tree()).size, root(tree.size, tree.node)), patience
            )
        except LedgerUnavailable:
            return opened.journal.size, None

    async def root_at(self, size: int) -> bytes:
        """The root of the tree when it held `size` records. Raises `NotFound` when it never did."""

        def read(reader: Reader) -> bytes:
            tree = reader.tree()
            if not 0 <= size <= tree.size:
                raise NotFound("the ledger does not hold that many records")
            return root(size, tree.node)

        return await self._read(read)

    async def counted(self, size: int) -> AsyncIterator[bytes]:
        """The evidence (see `evidence`) for the first `size` records, in pieces of many lines."""
        opened = self._open_now()
        if not 0 <= size <= opened.journal.size:
            raise NotFound("the ledger does not hold that many records")
        lines = self._evidence(size)
        while piece := await asyncio.to_thread(lambda: b"".join(islice(lines, _LINES))):
            yield piece

    async def last_number(self, subject: str) -> int:
        """How many records there are, or were, about this subject reference: the number of the latest; 0: none."""
        return await asyncio.to_thread(self._open_now().journal.last_number, subject)

    async def due(self, before: float) -> int:
        """How many records were made before this moment (seconds since the epoch) and are not erased."""
        return (await self._read(lambda reader: reader.due(int(before * 1000))))[0]

    async def prune(self, before: float) -> tuple[int, int]:
        """Erase for good the records made before this moment; gives (records, files written anew).

        Proofs of all others, and receipts of these that were handed out, hold. Raises `LedgerUnavailable`.
        """
        opened = self._open_now()
        before_ms = int(before * 1000)

        def erase(reader: Reader) -> tuple[int, int]:
            count, start, stop = reader.due(before_ms)
            return (start, stop) if count else (0, 0)

        start, stop = await self._read(erase)
        if start == stop:
            return 0, 0
        pruned = await asyncio.to_thread(opened.journal.prune, before_ms, start, stop)
        await asyncio.to_thread(opened.index.erased, start, stop, _FORGETTING)
        return pruned.records, pruned.segments

    # Inside

    def _evidence(self, size: int) -> Iterator[bytes]:
        for line in self._open_now().journal.lines(0, size) if size else ():
            if line.record:
                yield evidence.line(counted_of(line.record), sealed(line.nonce, line.record))
            else:
                yield evidence.line(line.counted, line.seal)

    def _sign(self, reader: Reader) -> SignedCheckpoint:
        opened = self._open_now()
        tree = reader.tree()
        time = max(int(self._clock.now()), opened.endorsed_at)
        return opened.checkpoints.sign(tree.size, tree.node, time)

    async def _ask(self, question: Callable[[Reader], list[Position]]) -> list[Entry]:
        opened = self._open_now()

        def ask(reader: Reader) -> list[Entry]:
            lines = opened.journal.lines_at(question(reader))
            # what is erased at this moment is no longer shown, though the index still knows of it
            return [
                Entry(line.position.index, Record.from_json(json.loads(line.record))) for line in lines if line.record
            ]

        return await self._read(ask)

    async def _read(self, function: Callable[[Reader], T]) -> T:
        opened = self._open_now()
        return await asyncio.to_thread(partial(opened.read, function, self._settings.find_deadline))

    def _endorse_again(self) -> None:
        """The peer has a new certificate, and checkpoints outlive the old one."""
        opened, now = self._opened, self._clock.now()
        if opened is not None:
            opened.endorsement = endorse(self._keypair, opened.key.public, now)
            opened.endorsed_at = int(now)

    def _open_now(self) -> _Opened:
        if self._opened is None:
            raise _closed()
        return self._opened

    def _open(self) -> _Opened:
        folder, settings = self._folder, self._settings
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._unlock()
            raise ConfigurationFault(
                f"{folder}: another node keeps its ledger here", next_step="stop that node first"
            ) from error
        except OSError as error:
            raise ConfigurationFault(
                f"{folder}: the ledger's folder cannot be used ({error.strerror})",
                next_step="make the folder writable for this user, and give it room",
            ) from error
        try:
            apart = folder / "segments" if settings.index_apart and settings.journal == SEGMENTS else None
            index = Index(folder / "index.sqlite", pause=settings.index_pause, segments=apart)
            try:
                key = LedgerKey.load(folder / "ledger.key")
                journal = open_journal(
                    settings,
                    folder=folder,
                    index=index,
                    peer_id=self._keypair.certificate.peer_id,
                    public_key=key.public,
                )
                checkpoints = Checkpoints(folder, key, origin_of(self._keypair.certificate.peer_id))
                try:
                    checkpoints.check(journal.size)
                except BaseException:
                    journal.close()
                    raise
            except BaseException:
                index.stop()
                raise
        except BaseException:
            self._unlock()
            raise
        now = self._clock.now()
        endorsement = endorse(self._keypair, key.public, now)
        return _Opened(journal, index, key, endorsement, int(now), self._keypair.certificate.peer_id, checkpoints)

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


class _Opened:
    """What exists only while the ledger is open."""

    def __init__(
        self,
        journal: Journal,
        index: Index,
        key: LedgerKey,
        endorsement: Endorsement,
        endorsed_at: int,
        peer_id: str,
        checkpoints: Checkpoints,
    ) -> None:
        self.journal = journal
        self.index = index
        self.key = key
        self.endorsement = endorsement
        self.endorsed_at = endorsed_at
        self.origin = origin_of(peer_id)
        self.checkpoints = checkpoints

    def read(self, function: Callable[[Reader], T], deadline: float) -> T:
        """Ask the index when it holds all that is durable now, on whichever host it was recorded."""
        self.index.wait_for(self.journal.refresh(), deadline)
        with self.index.reading() as reader:
            return function(reader)


def _continues(tree: Tiles, cosigned: Cosigned) -> bool:
    """Whether the tree continues what was cosigned: else another history was put back, and no proof would hold."""
    return root(cosigned.checkpoint.size, tree.node) == cosigned.checkpoint.root


def _root(reader: Reader) -> bytes:
    tree = reader.tree()
    return root(tree.size, tree.node)


def _known(reader: Reader, index: int) -> Position:
    position = reader.position(index)
    if position is None:
        raise _unknown()
    return position


def _meets(record: Record, query: Query) -> bool:
    """Whether it is not only the keys that fall together: a resident is never shown what is about another."""
    return (
        query.subject is None or record.subject == query.subject or (query.or_nobody and not record.subject)
    ) and query.trace_id in (None, record.trace_id)


def _unknown() -> NotFound:
    return NotFound("the ledger holds no record at that place, or not any more")


def _closed() -> LedgerUnavailable:
    return LedgerUnavailable("the ledger is not open", next_step="start the node")

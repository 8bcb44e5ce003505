"""What a ledger keeps of the checkpoints that it showed: never to contradict itself, and to be audited by.

`checkpoints.jsonl` holds a line for each size of which a checkpoint was signed, each that was cosigned, and each by
which a witness says to have seen another history: `{"kind": ..., "checkpoint": ...}`. It only grows, up to
`MOST_KEPT`; then half of the older ones are let go. `cosigned.json` holds the last checkpoint that enough witnesses
cosigned, with what ties each cosignature to its peer.
"""

from __future__ import annotations

import json
import os
import threading
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stelsel.base.canonical import canonical
from stelsel.base.log import logger
from stelsel.ledger.checkpoint import LedgerKey, SignedCheckpoint, read_checkpoint
from stelsel.ledger.cosignature import Cosigned
from stelsel.ledger.endorsement import Endorsement
from stelsel.ledger.faults import LedgerCorrupt, LedgerUnavailable, ProofInvalid
from stelsel.ledger.merkle import Node, root
from stelsel.ledger.segment_files import sync_folder

_log = logger("ledger")

SIGNED, COSIGNED, WITNESSED = "signed", "cosigned", "witnessed"
"""Where a kept checkpoint comes from: shown, cosigned by witnesses, or told by a witness that refused another."""
MOST_KEPT = 10_000
_RECENT = 256
_LONGEST_LINE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint that was kept; `checkpoint` None: the line cannot be read."""

    number: int
    """The line, from 1."""
    kind: str
    checkpoint: SignedCheckpoint | None


class Checkpoints:
    """Signs checkpoints and keeps them. Asked from any thread."""

    def __init__(self, folder: Path, key: LedgerKey, origin: str) -> None:
        """Read what was kept in `folder`."""
        self._file = folder / "checkpoints.jsonl"
        self._cosigned_file = folder / "cosigned.json"
        self._key = key
        self._origin = origin
        self._lock = threading.Lock()
        self._count = 0
        self._signed: list[tuple[int, int]] = []
        """(size, time at which it was first signed) of the newest, by size."""
        self._largest: SignedCheckpoint | None = None
        for kept in self.kept():
            self._count += 1
            if kept.kind == SIGNED and kept.checkpoint is not None:
                self._remember(kept.checkpoint)
        self._cosigned = self._read_cosigned()

    def check(self, size: int) -> None:
        """Raises `LedgerCorrupt` when the ledger holds fewer records than it signed for."""
        if self._largest is not None and size < self._largest.size:
            _log.error("ledger damaged", records=size, signed=self._largest.size)
            raise LedgerCorrupt(
                f"the ledger holds {size} records, but it signed a checkpoint of {self._largest.size}",
                next_step="put the journal back; only if it is lost for good, move checkpoints.jsonl out of the "
                "ledger's folder: every peer that holds a checkpoint can show that records are gone",
            )

    def sign(self, size: int, node: Node, now: int) -> SignedCheckpoint:
        """The checkpoint of the tree of `size` records, signed at `now` (seconds). Kept when the size is new.

        Raises `LedgerCorrupt` rather than sign what contradicts the largest that was signed before.
        """
        top = root(size, node)
        with self._lock:
            largest = self._largest
            if largest is not None and size > largest.size and root(largest.size, node) != largest.root:
                raise _contradiction(largest)
            if largest is not None and size == largest.size and top != largest.root:
                raise _contradiction(largest)
            # A view that lags is never dated after a larger one: that would look as if records had gone.
            later = bisect_right(self._signed, (size, 1 << 62))
            time = min([now, *(self._signed[at][1] for at in range(later, len(self._signed)))])
            signed = self._key.sign(self._origin, size, top, time)
            if largest is None or size > largest.size:
                try:
                    self._add(SIGNED, signed.text)
                except OSError as error:  # nothing is shown that was not kept
                    raise LedgerUnavailable(
                        f"the checkpoint cannot be kept, so it is not given: {error.strerror or error}",
                        next_step="make the ledger's folder writable and give it room",
                    ) from error
                self._remember(signed)
            return signed

    @property
    def cosigned(self) -> Cosigned | None:
        """The last that enough witnesses cosigned."""
        return self._cosigned

    def keep_cosigned(self, cosigned: Cosigned) -> None:
        """Keep it in the place of the last; durable when this returns."""
        with self._lock:
            document = {
                "checkpoint": cosigned.checkpoint.text,
                "endorsement": cosigned.endorsement,
                "witnesses": list(cosigned.witnesses),
            }
            _write_whole(self._cosigned_file, canonical(document) + b"\n")
            self._add(COSIGNED, cosigned.checkpoint.text, durable=True)
            self._cosigned = cosigned

    def keep_witnessed(self, text: str) -> None:
        """Keep a checkpoint that a witness has and that this ledger cannot continue; once."""
        with self._lock:
            if all(kept.checkpoint is None or kept.checkpoint.text != text for kept in self.kept()):
                self._add(WITNESSED, text, durable=True)

    def kept(self) -> Iterator[Kept]:
        """All that is kept, the oldest first."""
        try:
            file = self._file.open("rb")
        except FileNotFoundError:
            return
        with file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
                yield _read(number, line)

    # Inside

    def _remember(self, checkpoint: SignedCheckpoint) -> None:
        if self._largest is None or checkpoint.size > self._largest.size:
            self._largest = checkpoint
            self._signed.append((checkpoint.size, checkpoint.time))
            del self._signed[:-_RECENT]

    def _add(self, kind: str, text: str, *, durable: bool = False) -> None:
        line = canonical({"kind": kind, "checkpoint": text}) + b"\n"
        file = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            end = os.fstat(file).st_size
            if end and os.pread(file, 1, end - 1) != b"\n":  # what a crash left of a line
                line = b"\n" + line
            _write_out(file, line)
            if durable:
                os.fsync(file)
        finally:
            os.close(file)
        self._count += 1
        if self._count > MOST_KEPT:
            self._thin_out()

    def _thin_out(self) -> None:
        """Let go of every second of the older half; what witnesses said stays as long as there is room."""
        lines = self._file.read_bytes().splitlines(keepends=True)
        middle = len(lines) // 2
        older = [line for at, line in enumerate(lines[:middle]) if at % 2 == 0 or WITNESSED.encode() in line]
        lines = (older + lines[middle:])[-MOST_KEPT:]
        _write_whole(self._file, b"".join(lines))
        self._count = len(lines)

    def _read_cosigned(self) -> Cosigned | None:
        try:
            document = json.loads(self._cosigned_file.read_bytes())
            checkpoint = read_checkpoint(document["checkpoint"])
            endorsement: Endorsement = document["endorsement"]
            return Cosigned(checkpoint, endorsement, tuple(document["witnesses"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, ProofInvalid):
            _log.warning("the cosigned checkpoint cannot be read; the witnesses are asked anew")
            return None


def _contradiction(largest: SignedCheckpoint) -> LedgerCorrupt:
    _log.error("ledger damaged", signed=largest.size)
    return LedgerCorrupt(
        f"the tree does not continue the checkpoint of {largest.size} records that was signed before",
        next_step="run: stelsel log audit; nothing was signed. Only if another history was put here on purpose, move "
        "checkpoints.jsonl out of the ledger's folder: who holds a checkpoint of before can show the difference",
    )


def _read(number: int, line: bytes) -> Kept:
    try:
        document = json.loads(line)
        return Kept(number, str(document["kind"]), read_checkpoint(document["checkpoint"]))
    except (ValueError, TypeError, KeyError, ProofInvalid):
        return Kept(number, "", None)


def _write_out(file: int, data: bytes) -> None:
    """All of it: a full disk may take a part before it refuses."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _write_whole(path: Path, data: bytes) -> None:
    """The file holds this or what it held before, whatever happens; this, and on disk, when it returns."""
    draft = path.with_name(path.name + ".new")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_out(file, data)
        os.fsync(file)
    finally:
        os.close(file)
    draft.rename(path)
    sync_folder(path.parent)

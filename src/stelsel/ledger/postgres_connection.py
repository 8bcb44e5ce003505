"""Connections to the ledger's database: bounded in time, and only to a server that keeps what it acknowledges."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.adapt import Dumper
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow, tuple_row

from stelsel.base.errors import ConfigurationFault
from stelsel.base.log import logger
from stelsel.ledger.faults import LedgerCorrupt, LedgerUnavailable
from stelsel.ledger.postgres_schema import TABLES

_log = logger("ledger")

T = TypeVar("T")

_READERS = 4
_CONNECT_SECONDS = 2  # the least that libpq takes
_NEXT_STEP = "look at the ledger's database; recording goes on by itself when it is back"
_LOOPBACK = frozenset({"", "localhost", "127.0.0.1", "::1"})

_REASONS = {
    "53100": "its disk is full",
    "53200": "it is out of memory",
    "53300": "it has no connection left",
    "55P03": "another session holds its lock",
    "57014": "it took too long",
    "57P01": "it is shutting down",
    "57P02": "it crashed",
    "57P03": "it is starting up",
    "25006": "it is read-only",
    "25P03": "it took too long",
    "42501": "this node's role lacks a right",
    "42P01": "its tables are not there",
}
"""By SQLSTATE. A peer may read this, so the server's own words, with names in them, go to our log only."""


class Session(psycopg.Connection[TupleRow]):
    """A connection of which every wait ends at `due` (seconds of `time.monotonic`), whatever the server does."""

    due = float("inf")

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """See `psycopg.Connection.wait`."""
        left = max(0.0, self.due - time.monotonic())
        try:
            return super().wait(gen, interval, left if timeout is None else min(left, timeout))
        except BaseException:
            if time.monotonic() >= self.due:  # nobody will hear what comes after all
                self.pgconn.finish()
                with suppress(Exception):
                    gen.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the server still answers on it, as far as we know."""
        return not self.closed and self.info.status == psycopg.pq.ConnStatus.OK


class ByteArray:
    """A bytea[] parameter; written at once in the binary form, since it is on the path of every request."""

    def __init__(self, items: Sequence[bytes]) -> None:
        self.data = _array(17, items)


class NumberArray:
    """A bigint[] parameter."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self.data = _array(20, [struct.pack(">q", number) for number in numbers])


class _ByteArrayDumper(Dumper):
    format = psycopg.pq.Format.BINARY
    oid = 1001  # bytea[]

    def dump(self, obj: ByteArray | NumberArray) -> bytes:
        return obj.data


class _NumberArrayDumper(_ByteArrayDumper):
    oid = 1016  # bigint[]


def _array(element: int, items: Sequence[bytes]) -> bytes:
    """An array in PostgreSQL's binary form (array_recv): one dimension, no nulls, counted from 1."""
    pack = struct.Struct(">i").pack
    parts = [struct.pack(">iiIii", 1, 0, element, len(items), 1)]
    for item in items:
        parts += (pack(len(item)), item)
    return b"".join(parts)


class Connections:
    """Makes connections to one database, and keeps a few for reading."""

    def __init__(self, address: str, password_file: Path | None, deadline: float) -> None:
        """`deadline` in seconds: of the ledger, so what waits for the server must end before it."""
        self._address = address
        self._password_file = password_file
        self._deadline = deadline
        self._places = BoundedSemaphore(_READERS)
        self._lock = Lock()
        self._idle: list[Session] = []
        self._closed = False
        self._complaint = ""
        self._parameters = _parameters(address)

    def __repr__(self) -> str:
        return "Connections(...)"

    def connect(self) -> Session:
        """A new connection to a server that may be written to and that syncs. Raises psycopg's errors, or a fault."""
        parameters = dict(self._parameters)
        if self._password_file is not None:
            parameters["password"] = _password(self._password_file)
        session = Session.connect(**parameters, autocommit=True, row_factory=tuple_row)
        session.due = time.monotonic() + self._deadline
        session.adapters.register_dumper(ByteArray, _ByteArrayDumper)
        session.adapters.register_dumper(NumberArray, _NumberArrayDumper)
        try:
            self._prepare(session)
        except BaseException:
            discard(session)
            raise
        self._complaint = ""
        return session

    @contextmanager
    def reading(self, seconds: float) -> Iterator[Session]:
        """A connection for one short question, which must be answered in time; it is kept when nothing went wrong."""
        if not self._places.acquire(timeout=seconds):
            raise unavailable("it took too long")
        try:
            with self._lock:
                session = self._idle.pop() if self._idle else None
            session = session or self.connect()
            session.due = time.monotonic() + seconds
            try:
                yield session
            except BaseException:
                discard(session)
                raise
            with self._lock:
                if not self._closed:
                    self._idle.append(session)
                    return
            discard(session)
        finally:
            self._places.release()

    def fault(self, error: psycopg.Error) -> LedgerUnavailable:
        """The fault for an error of the driver. The server's own words go to the log, once while they stay the same."""
        fault = _translate(error)
        if fault.detail != self._complaint:
            self._complaint = fault.detail
            words = str(error).strip().partition("\n")[0]
            _log.warning("ledger database", reason=fault.detail, state=error.sqlstate or "none", words=words)
        return fault

    def forget(self) -> None:
        """Close the connections that wait to be used again: they may be as dead as the one that just failed."""
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            discard(session)

    def close(self) -> None:
        """Close all; those in use when they come back."""
        self._closed = True
        self.forget()

    def _prepare(self, session: Session) -> None:
        """Bound what the server does for us, and hold its settings against what the ledger promises."""
        wait = int(self._deadline * 1000)
        row = session.execute(
            "SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false),"
            " set_config('idle_in_transaction_session_timeout', %s, false),"
            " current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),"
            " pg_is_in_recovery(), (SELECT bool_and(relpersistence = 'p') FROM pg_class"
            "   WHERE oid IN (SELECT to_regclass(name) FROM unnest(%s::text[]) AS names (name)))",
            # A host that stops between two statements holds up all others, hence the short last one.
            (f"{wait * 6 // 10}ms", f"{wait * 7 // 10}ms", f"{max(wait // 5, 100)}ms", list(TABLES)),
        ).fetchone()
        if row is None:
            raise unavailable("it gives no answer")
        fsync, full_pages, commit, standby, logged = row[3:]
        if standby:
            raise unavailable("it is a standby", next_step="write the address of the primary, or of both")
        for name, value, good in (
            ("fsync", fsync, ("on",)),
            ("full_page_writes", full_pages, ("on",)),
            ("synchronous_commit", commit, ("on", "remote_apply")),
        ):
            if value not in good:
                raise NotDurable(
                    f"the ledger's database runs with {name} = {value}, so it may forget what it acknowledged",
                    next_step=f"set {name} = on for the server, the database and the role",
                )
        if logged is False:
            raise NotDurable(
                "a table of the ledger is UNLOGGED, so the database may forget what it acknowledged",
                next_step="ALTER TABLE ... SET LOGGED, for each table whose name begins with stelsel_ledger_",
            )


class NotDurable(ConfigurationFault, LedgerUnavailable):
    """The server does not keep what it acknowledges: nothing is recorded in it, at the start or ever after."""

    status, kind, title = LedgerUnavailable.status, LedgerUnavailable.kind, LedgerUnavailable.title


def discard(session: Session) -> None:
    """Close it without waiting for anyone."""
    session.due = 0.0
    with suppress(Exception):
        session.close()


def unavailable(reason: str, *, next_step: str = _NEXT_STEP) -> LedgerUnavailable:
    """The fault for what a database cannot do now."""
    return LedgerUnavailable(f"the ledger's database cannot be used: {reason}", next_step=next_step)


def worth_another(error: psycopg.Error) -> bool:
    """Whether a new connection may do better: this one broke, or the server is going down or coming up."""
    return isinstance(error, psycopg.OperationalError) and (error.sqlstate is None or error.sqlstate.startswith("57P"))


def gap(index: int) -> LedgerCorrupt:
    """The fault for a record that must be there and is not."""
    _log.error("ledger damaged", index=index, reason="a record is not there")
    return LedgerCorrupt(
        f"the ledger's database lacks record {index}",
        next_step="stop all nodes of this ledger and put back the backup of the database",
    )


def lost(size: int, known: int) -> LedgerCorrupt:
    """The fault for a database that holds `size` records and was known to hold `known`."""
    _log.error("ledger damaged", records=size, known=known)
    return LedgerCorrupt(
        f"the ledger's database holds {size} records, but it held {known} before",
        next_step="put back the database that holds them; only if they are lost for good, remove index.sqlite and "
        "restart every host of this ledger",
    )


def other_history(index: int) -> LedgerCorrupt:
    """The fault for a database that went on from before what was acknowledged."""
    _log.error("ledger damaged", index=index, reason="another record stands in the place of one that was acknowledged")
    return LedgerCorrupt(
        f"the ledger's database holds another record {index} than was acknowledged",
        next_step="put back the database that holds it: this one lost records and went on without them",
    )


def _translate(error: psycopg.Error) -> LedgerUnavailable:
    if isinstance(error, psycopg.errors.UniqueViolation):
        return LedgerCorrupt(
            "the ledger's database holds records that its head does not know of",
            next_step="stop all nodes of this ledger; find out who wrote to its tables, or put back the backup",
        )
    if error.sqlstate is None:
        return unavailable("it cannot be reached, or does not let this node in")
    return unavailable(_REASONS.get(error.sqlstate, f"it refuses ({error.sqlstate})"))


def _parameters(address: str) -> dict[str, Any]:
    """Connection parameters. What the address says counts; what it leaves open is closed."""
    try:
        parameters: dict[str, Any] = conninfo_to_dict(address)
    except psycopg.Error:  # its message would repeat the address
        raise ConfigurationFault(
            "ledger.journal: the address of the database cannot be read",
            next_step="write it as postgresql://user@host/database",
        ) from None
    hosts = str(parameters.get("host", "")).split(",")
    if not all(host in _LOOPBACK or host.startswith("/") for host in hosts):
        parameters.setdefault("sslmode", "verify-full")  # libpq's own default would talk to anyone, in the clear too
    parameters.setdefault("target_session_attrs", "read-write")
    parameters.setdefault("connect_timeout", _CONNECT_SECONDS)
    parameters.setdefault("tcp_user_timeout", 3000)
    parameters.setdefault("keepalives_idle", 5)
    parameters.setdefault("keepalives_interval", 2)
    parameters.setdefault("keepalives_count", 3)
    parameters.setdefault("application_name", "stelsel ledger")
    return parameters


def _password(file: Path) -> str:
    try:
        return file.read_text("utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationFault(
            f"{file}: the password of the ledger's database cannot be read",
            next_step="make the file readable for this user alone, with the password on its first line",
        ) from error

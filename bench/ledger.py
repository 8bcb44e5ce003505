"""How many records a second the ledger makes durable, in files of its own and in PostgreSQL. Prints JSON.

    python bench/ledger.py [--seconds 3] [--folder FOLDER]

Appenders each wait for their own record before they offer the next, as requests do. `cpu_us` is the processor time
of the whole process a record, with the index that is built behind the journal. The PostgreSQL server is one of our own
on this machine, reached over a unix socket; `server_cpu_us` is its processor time a record.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from stelsel.base.certificates import KeyPair
from stelsel.base.clock import SystemClock
from stelsel.base.ids import new_span_id, new_trace_id, uuid7
from stelsel.demo.authority import Authority
from stelsel.demo.postgres import ThrowawayPostgres, programs
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger
from stelsel.ledger.settings import LedgerSettings

_TICKS = os.sysconf("SC_CLK_TCK")


def record(resident: int) -> Record:
    """A record of the usual size, about this resident."""
    return Record(
        transaction_id=uuid7(),
        trace_id=new_trace_id(),
        span_id=new_span_id(),
        parent_span_id=new_span_id(),
        time=int(time.time() * 1000),
        direction="incoming",
        event="request",
        grant_hash="$1$3$" + "A" * 86,
        consumer="00000099000000003000",
        provider="00000099000000002000",
        service="personen",
        allowed=True,
        reason="allowed",
        fields=("naam.volledigeNaam", "verblijfplaats.straat", "verblijfplaats.huisnummer"),
        search_parameters=("burgerservicenummer",),
        processing_activity="https://example.nl/activities/parking@1",
        subject=f"6f1f1a1c5a0b4e0c9f5b1e3d{resident:08x}",
    )


async def measure(
    folder: Path, keypair: KeyPair, appenders: int, seconds: float, journal: str, server_seconds: Callable[[], float]
) -> dict[str, float]:
    """`journal`: as in the settings; `server_seconds`: the processor time that a server took until now."""
    settings = LedgerSettings(journal=journal)
    ledger = Ledger(folder=folder, keypair=keypair, clock=SystemClock(), settings=settings)
    await ledger.start()
    records = [record(number) for number in range(2000)]
    counts = [0] * appenders
    waits: list[float] = []
    end = time.perf_counter() + seconds

    async def appender(number: int) -> None:
        while (begin := time.perf_counter()) < end:
            await ledger.append(records[(number + counts[number]) % len(records)])
            counts[number] += 1
            waits.append(time.perf_counter() - begin)

    index_clock = clock_of("ledger-index")
    index_before = time.clock_gettime(index_clock)
    before, server_before = resource.getrusage(resource.RUSAGE_SELF), server_seconds()
    begin = time.perf_counter()
    await asyncio.gather(*(appender(number) for number in range(appenders)))
    took = time.perf_counter() - begin
    after, server_after = resource.getrusage(resource.RUSAGE_SELF), server_seconds()
    total = sum(counts)
    waits.sort()
    lag = time.perf_counter()
    await ledger.checkpoint()
    lag = time.perf_counter() - lag
    index_cpu = time.clock_gettime(index_clock) - index_before
    await ledger.stop()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "appenders": appenders,
        "appends_per_s": round(total / took),
        "p50_ms": round(waits[len(waits) // 2] * 1000, 2),
        "p99_ms": round(waits[len(waits) * 99 // 100] * 1000, 2),
        "cpu_us": round(cpu / total * 1e6, 1),
        "index_cpu_us": round(index_cpu / total * 1e6, 1),
        "server_cpu_us": round((server_after - server_before) / total * 1e6, 1),
        "index_lag_s": round(lag, 2),
        "rss_mb": round(after.ru_maxrss / 1024, 1),
    }


def in_files(folder: Path, keypair: KeyPair, seconds: float) -> list[dict[str, float]]:
    """With segment files in this folder."""
    return [
        uvloop.run(measure(folder / f"ledger-{appenders}", keypair, appenders, seconds, "segments", lambda: 0.0))
        for appenders in (64, 256, 1024)
    ]


def in_postgres(folder: Path, keypair: KeyPair, seconds: float) -> list[dict[str, float]]:
    """With a PostgreSQL server of our own, its data on the same disk; a new database each time."""
    import psycopg

    results = []
    with ThrowawayPostgres(folder, shared_buffers="128MB") as server:
        for appenders in (64, 256, 1024):
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE ledger_{appenders}")  # type: ignore[call-overload]
            address = server.url(f"ledger_{appenders}")
            measured = measure(
                folder / f"cache-{appenders}", keypair, appenders, seconds, address, lambda: _seconds_of(server)
            )
            results.append(uvloop.run(measured))
    return results


def _seconds_of(server: ThrowawayPostgres) -> float:
    """The processor time of a server, with the sessions that it ended and those that it has."""
    main_process = server.process.pid if server.process is not None else 0
    ticks = sum(map(int, _times(main_process)))
    for task in Path(f"/proc/{main_process}/task").glob("*/children"):
        ticks += sum(sum(map(int, _times(int(child))[:2])) for child in task.read_text().split())
    return ticks / _TICKS


def _times(process: int) -> list[str]:
    """Ticks: own in user and system mode, those of ended children in user and system mode (proc(5))."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:15]
    except FileNotFoundError:
        return []


def clock_of(name: str) -> int:
    """The processor clock of the thread with this name."""
    (thread,) = (each for each in threading.enumerate() if each.name == name)
    assert thread.ident is not None
    return time.pthread_getcpuclockid(thread.ident)


async def rebuild(folder: Path, keypair: KeyPair) -> dict[str, float]:
    """Make the index anew from the journal in this folder."""
    for path in folder.glob("index.sqlite*"):
        path.unlink()
    ledger = Ledger(folder=folder, keypair=keypair, clock=SystemClock(), settings=LedgerSettings(find_deadline=300))
    await ledger.start()
    index_clock = clock_of("ledger-index")
    begin = time.perf_counter()
    await ledger.checkpoint()
    took, cpu, size = time.perf_counter() - begin, time.clock_gettime(index_clock), ledger.size
    await ledger.stop()
    return {
        "records": size,
        "records_per_s": round(size / took),
        "cpu_us": round(cpu / size * 1e6, 1),
        "index_bytes": round(sum(path.stat().st_size for path in folder.glob("index.sqlite*")) / size),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        keypair = KeyPair.load(*Authority().issue(folder / "peer", "00000099000000002000", "Bench"))
        figures: dict[str, object] = {"ledger": in_files(folder, keypair, arguments.seconds)}
        figures["index_rebuilt"] = uvloop.run(rebuild(folder / "ledger-256", keypair))
        if programs() is None:
            print("PostgreSQL is left out: python tools/provide.py postgresql", file=sys.stderr)
        else:
            folder.chmod(0o711)  # the server is another user, and must come through
            figures["ledger_in_postgresql"] = in_postgres(folder, keypair, arguments.seconds)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

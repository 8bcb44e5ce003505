"""How many records a second the ledger makes durable. Prints JSON.

    python bench/ledger.py [--seconds 3] [--folder FOLDER]

Appenders each wait for their own record before they offer the next, as requests do. `cpu_us` is the processor time
of the whole process a record, with the index that is built behind the journal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import tempfile
import time
from pathlib import Path

import uvloop

from stelsel.base.certificates import KeyPair
from stelsel.base.clock import SystemClock
from stelsel.base.ids import new_span_id, new_trace_id, uuid7
from stelsel.demo.authority import Authority
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger


def record() -> Record:
    """A record of the usual size."""
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
        subject="6f1f1a1c5a0b4e0c9f5b1e3d7c2a9b48",
    )


async def measure(folder: Path, keypair: KeyPair, appenders: int, seconds: float) -> dict[str, float]:
    ledger = Ledger(folder=folder, keypair=keypair, clock=SystemClock())
    await ledger.start()
    records = [record() for _ in range(2000)]
    counts = [0] * appenders
    waits: list[float] = []
    end = time.perf_counter() + seconds

    async def appender(number: int) -> None:
        while (begin := time.perf_counter()) < end:
            await ledger.append(records[(number + counts[number]) % len(records)])
            counts[number] += 1
            waits.append(time.perf_counter() - begin)

    before = resource.getrusage(resource.RUSAGE_SELF)
    begin = time.perf_counter()
    await asyncio.gather(*(appender(number) for number in range(appenders)))
    took = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_SELF)
    total = sum(counts)
    waits.sort()
    lag = time.perf_counter()
    await ledger.checkpoint()
    lag = time.perf_counter() - lag
    await ledger.stop()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "appenders": appenders,
        "appends_per_s": round(total / took),
        "p50_ms": round(waits[len(waits) // 2] * 1000, 2),
        "p99_ms": round(waits[len(waits) * 99 // 100] * 1000, 2),
        "cpu_us": round(cpu / total * 1e6, 1),
        "index_lag_s": round(lag, 2),
        "rss_mb": round(after.ru_maxrss / 1024, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        keypair = KeyPair.load(*Authority().issue(folder / "peer", "00000099000000002000", "Bench"))
        results = [
            uvloop.run(measure(folder / f"ledger-{appenders}", keypair, appenders, arguments.seconds))
            for appenders in (64, 256, 1024)
        ]
    print(json.dumps({"ledger": results}, indent=2))


if __name__ == "__main__":
    main()

"""Two million requests through the full chain: memory, file descriptors and waiting time may not grow.

    python bench/soak.py [--requests 2000000] [--connections 64] [--sample 100000]

Writes bench/out/soak.json and prints it. After each sample the load's connections are closed and made anew, so that
what they leave behind would show. Growth of memory and descriptors is measured between the first quarter (after the
first sample, which warms up) and the last: the middle value of each. Waiting time and processor time say more of what
else the machine does than of age, so there the old gateways are held against fresh ones at the end, by turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import exchange
from chain import PATH, Chain, chain

_MOST_KILOBYTES = 8 * 1024  # that a gateway may grow from the first quarter to the last
_MOST_DESCRIPTORS = 8
_MOST_SLOWER = 1.25  # times as slow as fresh gateways at the same moment
_MOST_PROCESSOR = 1.15  # times as much processor time a request as fresh gateways at the same moment
_TURNS = 5
_TURN_SECONDS = 4.0


def measure(requests: int, connections: int, size: int) -> dict[str, Any]:
    """Load the chain until so many requests are answered, sampling every `size` requests."""
    samples: list[dict[str, float]] = []
    with chain() as running:
        rate, done, began = 0.0, 0, time.monotonic()
        exchange.run_load(running.ports["outway"], PATH, connections, 1)
        while done < requests:
            seconds = min(size, requests - done) / rate if rate else 2.0
            load = _load(running, connections, max(1.0, seconds))
            rate, done = load["requests_per_s"], done + int(load["requests"])
            samples.append(_sample(running, load, done))
            print(json.dumps(samples[-1]), file=sys.stderr, flush=True)
        took = time.monotonic() - began
        disk = running.disk_bytes()
        aged = _against_fresh(running, connections)
    return _verdict(samples, aged) | {
        "requests": done,
        "requests_per_s": round(done / took),
        "connections": connections,
        "disk_bytes_per_request": round(disk / done),
        "processors": os.cpu_count(),
        "samples": samples,
    }


def _load(running: Chain, connections: int, seconds: float) -> dict[str, float]:
    """What `run_load` says, and the processor time of both gateways for a request."""
    before = running.processor_seconds()
    load = exchange.run_load(running.ports["outway"], PATH, connections, seconds)
    return load | {"cpu_us_per_request": (running.processor_seconds() - before) / load["requests"] * 1e6}


def _sample(running: Chain, load: dict[str, float], done: int) -> dict[str, float]:
    return {
        "requests": done,
        "provider_kilobytes": running.resident_kilobytes("provider"),
        "consumer_kilobytes": running.resident_kilobytes("consumer"),
        "provider_descriptors": running.descriptors("provider"),
        "consumer_descriptors": running.descriptors("consumer"),
        "p50_ms": round(load["p50_ms"], 2),
        "p99_ms": round(load["p99_ms"], 2),
        "cpu_us_per_request": round(load["cpu_us_per_request"], 1),
        "requests_per_s": round(load["requests_per_s"]),
    }


def _against_fresh(old: Chain, connections: int) -> dict[str, float]:
    """How slow and how dear the old gateways are, beside fresh ones, by turns: the middle of what each turn says."""
    turns: dict[str, list[float]] = {"p50_ms": [], "p99_ms": [], "cpu_us_per_request": []}
    with chain() as fresh:
        exchange.run_load(fresh.ports["outway"], PATH, connections, _TURN_SECONDS)
        for _ in range(_TURNS):
            one, other = (_load(running, connections, _TURN_SECONDS) for running in (old, fresh))
            for name, ratios in turns.items():
                ratios.append(one[name] / other[name])
    return {name: round(statistics.median(ratios), 2) for name, ratios in turns.items()}


def _verdict(samples: list[dict[str, float]], aged: dict[str, float]) -> dict[str, Any]:
    steady = samples[1:] if len(samples) > 4 else samples
    quarter = max(1, len(steady) // 4)

    def first(name: str) -> float:
        return statistics.median(sample[name] for sample in steady[:quarter])

    def last(name: str) -> float:
        return statistics.median(sample[name] for sample in steady[-quarter:])

    growth = {
        f"{role}_{what}": round(last(f"{role}_{what}") - first(f"{role}_{what}"))
        for role in ("provider", "consumer")
        for what in ("kilobytes", "descriptors")
    }
    passed = {
        "memory": all(growth[f"{role}_kilobytes"] <= _MOST_KILOBYTES for role in ("provider", "consumer")),
        "descriptors": all(growth[f"{role}_descriptors"] <= _MOST_DESCRIPTORS for role in ("provider", "consumer")),
        "latency": aged["p99_ms"] <= _MOST_SLOWER and aged["p50_ms"] <= _MOST_SLOWER,
        "processor": aged["cpu_us_per_request"] <= _MOST_PROCESSOR,
    }
    return {"passed": all(passed.values()), "held": passed, "growth": growth} | {
        f"times_fresh_{name}": ratio for name, ratio in aged.items()
    }


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2_000_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--sample", type=int, default=100_000)
    options = parser.parse_args()
    result = measure(options.requests, options.connections, options.sample)
    out = Path(__file__).parent / "out"
    out.mkdir(exist_ok=True)
    (out / "soak.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""Fuzz the readers of HTTP/1.1 for a while: whatever bytes come, what must hold (tests/exchange/wire_properties.py).

    python tools/fuzz_wire.py [--seconds 60] [--keep FOLDER]

Guided by coverage where atheris is installed (the group `fuzz`); otherwise by mistakes put by chance into the corpus.
Begins with the corpus of tests/exchange/corpus and what earlier runs found there. `--keep`: put what was found
interesting there. Ends with 1 when something does not hold, and says for which bytes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from random import Random

_TESTS = Path(__file__).resolve().parents[1] / "tests" / "exchange"
_LONGEST = 1500
_INSTRUMENTED = ["stelsel.exchange.wire", "stelsel.exchange.heads", "stelsel.exchange.headers"]
sys.path.insert(0, str(_TESTS))

try:
    import atheris
except ImportError:
    atheris = None


def _properties() -> object:
    if atheris is None:
        import wire_properties
    else:
        with atheris.instrument_imports(include=_INSTRUMENTED):
            import wire_properties
    return wire_properties


def one(data: bytes) -> None:
    """Try these bytes as requests and as an answer."""
    seed = zlib.crc32(data)
    held = _HOLD
    held.hold_for_requests(data, seed)  # type: ignore[attr-defined]
    held.hold_for_answers(data, seed, b"HEAD" if seed % 4 == 0 else b"GET")  # type: ignore[attr-defined]


_HOLD: object = None


def seeds() -> list[bytes]:
    """The corpus, and what was found before."""
    from exchange_corpus import FOLDER, cases

    texts = [case.data() for case in (*cases(), *cases("answers"))]
    found = [path.read_bytes() for path in sorted((FOLDER / "fuzz").glob("[!R]*"))]
    return [data for data in (*texts, *found) if len(data) <= _LONGEST]


def _by_chance(seconds: float) -> int:
    """Without atheris: mistakes by chance in the corpus, and pieces of one put into another."""
    random = Random(time.time_ns())  # noqa: S311  nothing secret
    known, end, count = seeds(), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = bytearray(random.choice(known))
        for _ in range(random.choice((1, 1, 2, 4))):
            at = random.randint(0, len(data))
            other = random.choice(known)
            start = random.randint(0, len(other))
            piece = random.choice((bytes([random.randrange(256)]), b"\r\n", b"", other[start : start + 20]))
            data[at : at + random.choice((0, 0, 1, 2, 8))] = piece
        try:
            one(bytes(data))
        except Exception:
            print(f"This does not hold for {bytes(data)!r}", file=sys.stderr)
            raise
        count += 1
    print(f"{count} inputs in {seconds:.0f} s, by chance (atheris is not here): nothing found")
    return 0


def main() -> int:
    """Fuzz in a process of its own, for libFuzzer ends the process it is in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--inside", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    global _HOLD
    if options.inside is not None:
        _HOLD = _properties()
        atheris.Setup([sys.argv[0], *options.inside], one)
        atheris.Fuzz()
        return 0
    if atheris is None:
        _HOLD = _properties()
        return _by_chance(options.seconds)
    with tempfile.TemporaryDirectory(prefix="stelsel-fuzz-") as name:
        folder, crash = Path(name) / "found", f"{name}/does-not-hold-"
        folder.mkdir()
        for number, data in enumerate(seeds()):
            (folder / f"seed-{number}").write_bytes(data)
        length = f"-max_len={_LONGEST}"
        fuzz = [
            f"-max_total_time={options.seconds}",
            length,
            "-print_final_stats=1",
            "-report_slow_units=600",
            f"-artifact_prefix={crash}",
        ]
        failed = _run([*fuzz, str(folder)])
        for path in Path(name).glob("does-not-hold-[!s]*"):
            print(f"This does not hold for {path.read_bytes()!r}", file=sys.stderr)
        if options.keep is not None and not failed:
            options.keep.mkdir(parents=True, exist_ok=True)
            # libFuzzer keeps what covers more, and of two that cover the same the shorter.
            for path in folder.iterdir():
                if not path.name.startswith("seed-"):
                    (options.keep / path.name).write_bytes(path.read_bytes())
    return failed


def _run(arguments: list[str]) -> int:
    return subprocess.run([sys.executable, __file__, "--inside", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

"""Run all measurements and write `bench/out/*.json` and a report that people can read.

    python bench/run.py [NAME ...]

Absolute figures say something about this machine today; ratios are taken within one run.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

_HERE = Path(__file__).parent
_OUT = _HERE / "out"
_MEASUREMENTS = {
    "decisions": "one decision function, bare and as AuthZEN",
    "ledger": "records made durable",
    "fsc": "the manager: contracts, tokens, and pages of long lists",
    "exchange": "the full chain against bare nginx-to-nginx mutual TLS",
    "abuse": "ordinary traffic while others misbehave",
}
_COMPILED = _HERE.parent / "build" / "compiled" / "bin" / "python"
"""Made by tools/compile.py. Measured when it is there."""
_WHEN_NAMED = {"soak": "two million requests: no growth of memory, descriptors or waiting time (twenty minutes)"}


def main(names: list[str]) -> int:
    """Measure; gives 1 when a measurement failed."""
    _OUT.mkdir(exist_ok=True)
    lines = [
        "# Measured",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, Python {platform.python_version()}",
    ]
    failed = False
    python = str(_COMPILED) if _COMPILED.exists() else sys.executable
    for name in names or list(_MEASUREMENTS):
        title = (_MEASUREMENTS | _WHEN_NAMED)[name]
        print(f"Measuring {name}: {title}", flush=True)
        run = subprocess.run([python, str(_HERE / f"{name}.py")], capture_output=True, text=True, check=False)
        if run.returncode != 0:
            failed = True
            print(run.stderr, file=sys.stderr)
            continue
        figures = json.loads(run.stdout[run.stdout.index("{") :])
        (_OUT / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
        lines += ["", f"## {name}: {title}", "", "| figure | value |", "|---|---|"]
        lines += [f"| {key} | {value} |" for key, value in _flat(figures)]
    (_OUT / "report.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return int(failed)


def _flat(figures: object, prefix: str = "") -> list[tuple[str, object]]:
    if isinstance(figures, dict):
        return [pair for key, value in figures.items() for pair in _flat(value, f"{prefix}{key} ")]
    if isinstance(figures, list):
        return [pair for number, value in enumerate(figures) for pair in _flat(value, f"{prefix}{number} ")]
    return [(prefix.strip(), figures)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

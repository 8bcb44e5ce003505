"""`python -m stelsel.demo.population_register --database people.sqlite --listen 127.0.0.1:7290`"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stelsel.demo.population_register.api import make_app
from stelsel.demo.population_register.store import Register
from stelsel.demo.process import run


def main() -> int:
    """Serve a register that was built before, until told to stop."""
    parser = argparse.ArgumentParser(prog="population_register", description="the register's service personen")
    parser.add_argument("--database", type=Path, required=True, help="the register, as built: people.sqlite")
    parser.add_argument("--listen", default="127.0.0.1:7290", help="loopback address, host:port")
    arguments = parser.parse_args()
    return run(lambda: make_app(Register(arguments.database)), arguments.listen)


if __name__ == "__main__":
    sys.exit(main())

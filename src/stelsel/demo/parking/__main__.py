"""`python -m stelsel.demo.parking --listen 127.0.0.1:7390 --outway http://127.0.0.1:7380 --municipality 0363`"""

from __future__ import annotations

import argparse
import sys

from stelsel.demo.parking.app import make_app, new_client
from stelsel.demo.process import run


def main() -> int:
    """Serve the application until told to stop."""
    parser = argparse.ArgumentParser(prog="parking", description="the municipality's small application")
    parser.add_argument("--listen", default="127.0.0.1:7390", help="loopback address, host:port")
    parser.add_argument("--outway", default="http://127.0.0.1:7380", help="the municipality's outway")
    parser.add_argument("--municipality", default="0363", help="code of four digits")
    arguments = parser.parse_args()
    client = new_client()
    return run(
        lambda: make_app(client, arguments.outway, arguments.municipality), arguments.listen, close=client.aclose
    )


if __name__ == "__main__":
    sys.exit(main())

"""The commands. A mistake is one line and a next step; `--json` prints what a program can read.

`main` is the one place where a `Fault` becomes a line on the terminal and an exit code.
"""

from stelsel.cli.app import main

__all__ = ["main"]

"""`python -m stelsel`, the same as the command `stelsel`."""

from stelsel.cli import main

main()

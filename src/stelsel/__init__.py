"""Stelsel: a system of agreements as software.

An organisation installs this package and runs a *node*; nodes form a *group*. All that passes between them
passes under a signed agreement that the machines enforce, log, show to the resident concerned, and measure.

The rooms, from the ground up: `base`, `agreements`, `ledger`, `privacy`, `exchange`, `identity`, `opendata`,
`steering`, `portal`, and `demo`. A room holds a pure core (what is decided) and a thin shell (`store.py`,
`service.py`, `api.py`: what is kept, done and spoken). `node.py` puts one node together; `cli.py` has the
commands.
"""

__version__ = "0.1.0"

"""The command line as a whole."""

from __future__ import annotations

import sys

from cyclopts import App
from cyclopts.exceptions import CycloptsError

from stelsel import __version__
from stelsel.base.errors import Fault
from stelsel.cli import output

app = App(
    name="stelsel",
    version=__version__,
    help="A system of agreements as software: run a node, make agreements, use them, and prove what happened.\n\n"
    "Try it: `stelsel demo` starts a small country on this machine.",
    help_format="markdown",
    version_flags=["--version"],
)
agreement = App(name="agreement", help="Propose agreements, read them, accept, reject and revoke them.")
app.command(agreement)


def main() -> None:
    """Run a command; leave with 0 when it did what it says, 1 when not, 2 when it was not understood."""
    from stelsel.cli import agreements, evidence, nodes, steering  # noqa: F401  (they register their commands)

    try:
        app(exit_on_error=False, print_error=True)
    except CycloptsError:
        sys.exit(2)
    except Fault as fault:
        output.complain(fault)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)

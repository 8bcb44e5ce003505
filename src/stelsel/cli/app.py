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

# Named by where they are, so that a command loads what it needs itself and no more.
for _where in ("nodes:run", "nodes:init", "nodes:demo"):
    app.command(f"stelsel.cli.{_where}")
for _where in ("upkeep:status", "upkeep:reload", "upkeep:restart"):
    app.command(f"stelsel.cli.{_where}")
for _where in ("agreements:peers", "agreements:services"):
    app.command(f"stelsel.cli.{_where}")
for _where in ("evidence:ask", "evidence:explain", "proofs:verify"):
    app.command(f"stelsel.cli.{_where}")
for _where in ("steering:publish", "steering:activate"):
    app.command(f"stelsel.cli.{_where}")
app.command("stelsel.cli.checks:app", name="check")
app.command("stelsel.cli.log:app", name="log")
for _where in ("propose", "show", "accept", "reject", "revoke", "resend", "sign_again", "catch_up"):
    agreement.command(f"stelsel.cli.agreements:{_where}")
agreement.command("stelsel.cli.agreements:list_", name="list")
for _where in ("diff", "renew", "simulate"):
    agreement.command(f"stelsel.cli.managing:{_where}")
for _where in ("managing:radar", "managing:doctor"):
    app.command(f"stelsel.cli.{_where}")


def main() -> None:
    """Run a command; leave with 0 when it did what it says, 1 when not, 2 when it was not understood."""
    if len(sys.argv) < 2 or any(word in {"-h", "--help"} for word in sys.argv):
        _load(app)  # so that help can tell what each command does
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


def _load(commands: App) -> None:
    for name in commands:
        if not name.startswith("-") and isinstance(commands[name], App):
            _load(commands[name])

"""The command `log` and those under it: what the ledger holds, and whether counterparties' logs tell the same."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import App, Parameter

from stelsel.base.errors import BadRequest
from stelsel.cli import output
from stelsel.cli.evidence import log
from stelsel.cli.options import DEFAULT_NODE, AsJson, NodeFile, control_of

app = App(name="log", help="Show what the ledger holds; `log reconcile`, `log audit`: compare it.")
app.default(log)
app.command("stelsel.cli.audit:audit")

_AGO = re.compile(r"([0-9]{1,5})([dh])")
_UNITS = {"d": 86_400, "h": 3600}
_KINDS = {
    "missing-there": "they lack it, though they must have it",
    "missing-here": "we lack it, though we must have it",
    "different": "both have it, but not alike",
    "not-arrived-there": "sent by us; it did not arrive, or they lost it",
    "not-arrived-here": "sent by them; it did not arrive, or we lost it",
}


@app.command
def reconcile(
    *,
    peer: Annotated[str | None, Parameter(help="Only this peer (OIN); default: all counterparties.")] = None,
    since: Annotated[
        str | None,
        Parameter(
            help="From this moment (2026-11-20, 2026-11-20T10:00:00Z) or so long ago (7d, 12h). "
            "Default: from where it was left."
        ),
    ] = None,
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """Compare our log with those of counterparties, and show which transactions only one side has.

    Leaves with 1 when two logs contradict each other. That a request may not have arrived is shown, and no error.

    Example: stelsel log reconcile --since 7d
    """
    body: dict[str, Any] = {} if peer is None else {"peer_id": peer}
    if since is not None:
        body["since"] = _moment(since, time.time())
    found = control_of(node).post("/commands/reconcile", body)
    if json:
        output.as_json(found)
    else:
        _show(found)
    if any(each["contradictions"] for each in found["peers"]):
        raise SystemExit(1)


@app.command
def prune(
    *,
    before: Annotated[str, Parameter(help="Records made before this moment (2021-01-01), or so long ago (1826d).")],
    dry_run: Annotated[bool, Parameter(help="Only count them.", negative=())] = False,
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """Erase records that are older, for good. Proofs of all others hold, and so do receipts that were handed out.

    The node does so by itself every day, by `ledger.keep_days`.

    Example: stelsel log prune --before 2021-01-01 --dry-run
    """
    moment = _moment(before, time.time(), "--before")
    done = control_of(node).post("/commands/prune", {"before": moment, "dry_run": dry_run})
    if json:
        output.as_json(done)
    elif dry_run:
        output.say(f"{done['records']} record(s) would be erased. Nothing was.")
    else:
        output.say(f"{done['records']} record(s) erased; {done['segments']} file(s) written anew.")


@app.command
def status(*, node: NodeFile = DEFAULT_NODE, json: AsJson = False) -> None:
    """Show how long records are kept, and what was erased: moments and counts.

    Example: stelsel log status
    """
    found = control_of(node).post("/commands/retention", {})
    if json:
        output.as_json(found)
        return
    days = found["keep_days"]
    output.say(f"Records are erased after {days} days." if days else "Records are never erased by themselves.")
    if found["prunes"]:
        rows = (
            (
                _date(one["time"]),
                _date(one["before"]),
                one["records"] if one["finished"] else "begun",
                one["segments"],
                "yes" if one["asked"] else "no",
            )
            for one in found["prunes"]
        )
        output.table(("When", "Made before", "Records erased", "Files", "Asked for"), rows)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _show(found: dict[str, Any]) -> None:
    columns = ("Peer", "From", "Until", "Ours", "Theirs", "Contradictions", "Perhaps not arrived", "Trouble")
    output.table(
        columns,
        (
            (
                each["peer_id"],
                each["from"],
                each["until"],
                each["ours"],
                each["theirs"],
                each["contradictions"],
                each["possibly_not_arrived"],
                each["trouble"],
            )
            for each in found["peers"]
        ),
    )
    if found["found"]:
        rows = (
            (
                each["time"],
                each["transaction_id"],
                each["consumer"],
                each["provider"],
                each["service"],
                _KINDS[each["kind"]] + (f" ({each['detail']})" if each["detail"] else ""),
            )
            for each in found["found"]
        )
        output.table(("When", "Transaction", "Consumer", "Provider", "Service", "What"), rows)


def _moment(text: str, now: float, option: str = "--since") -> float:
    """Seconds since the epoch. Raises `BadRequest`."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return max(0.0, now - int(ago[1]) * _UNITS[ago[2]])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(
            f"{option} is not a moment that can be read", next_step="write 2026-11-20, 2026-11-20T10:00:00Z, 7d or 12h"
        ) from error
    return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())

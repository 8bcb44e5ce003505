"""Commands that use agreements and show what happened: ask, explain, log."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

import httpx
from cyclopts import Parameter

from stelsel.base.clock import moment
from stelsel.base.errors import BadRequest, ConfigurationFault, Unavailable
from stelsel.cli import output
from stelsel.cli.options import DEFAULT_NODE, AsJson, NodeFile, control_of, settings_of
from stelsel.ledger import receipts
from stelsel.ledger import tlog_proof as proofs


def ask(
    service: Annotated[str, Parameter(help="An alias of the outway, or <provider's OIN>/<service>.")],
    path: Annotated[str, Parameter(help="Path of the call, as the service knows it.")] = "/",
    *,
    data: Annotated[str | None, Parameter(help="JSON body; makes it a POST. @file reads it from a file.")] = None,
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """Make one call to a service, through this node's outway and under its agreement.

    Example: stelsel ask personen /personen --data @question.json
    """
    outway = settings_of(node).outway
    if outway is None:
        raise ConfigurationFault(f"{node}: has no [outway]", next_step="add an [outway] section to call services")
    url = f"http://{outway.listen}/{service.strip('/')}/{path.lstrip('/')}"
    headers = {"accept": "application/json"}
    try:
        if data is None:
            answer = httpx.get(url, headers=headers, timeout=60)
        else:
            body = Path(data[1:]).read_bytes() if data.startswith("@") else data.encode()
            answer = httpx.post(url, content=body, headers=headers | {"content-type": "application/json"}, timeout=60)
    except httpx.TransportError as error:
        raise Unavailable("the outway does not answer", next_step=f"start the node: stelsel run {node}") from error
    except OSError as error:
        raise BadRequest(f"{data}: cannot be read") from error
    transaction = answer.headers.get("fsc-transaction-id", "")
    if json:
        output.as_json({"status": answer.status_code, "transaction_id": transaction, "body": _body(answer)})
    else:
        output.say(f"[dim]{answer.status_code}  transaction {output.plain(transaction) or 'none'}[/dim]")
        output.as_json(_body(answer))
    if answer.status_code >= 400:
        raise SystemExit(1)


def explain(
    service: Annotated[str, Parameter(help="An alias of the outway, <provider's OIN>/<service>, or a grant hash.")],
    *,
    field: Annotated[tuple[str, ...], Parameter(help="A field that the call would ask; may be repeated.")] = (),
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """Say why a call would fail, or that it would not: agreement, terms, key, token, certificate, clock, provider.

    Example: stelsel explain personen --field naam.geslachtsnaam
    """
    steps = control_of(node).post("/commands/explain", {"service": service, "fields": list(field)})
    if json:
        output.as_json(steps)
    else:
        marks = {True: "yes", False: "NO", None: "?"}
        output.table(
            ("Check", "In order", "What was found", "Next step"),
            ((step["name"], marks[step["ok"]], step["detail"], step["next_step"]) for step in steps),
        )
    if any(step["ok"] is False for step in steps):
        raise SystemExit(1)


def log(
    *,
    transaction: Annotated[str | None, Parameter(help="Only this transaction id.")] = None,
    trace: Annotated[str | None, Parameter(help="Only this trace id.")] = None,
    peer: Annotated[str | None, Parameter(help="Only exchanges with this peer (OIN).")] = None,
    service: Annotated[str | None, Parameter(help="Only this service.")] = None,
    limit: Annotated[int, Parameter(help="At most so many records.")] = 25,
    receipt: Annotated[int | None, Parameter(help="Print the receipt of the record with this number.")] = None,
    tlog_proof: Annotated[
        bool, Parameter(negative=(), help="With --receipt: in the form of C2SP tlog-proof instead of JSON.")
    ] = False,
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """Show what the ledger holds, newest first; or print the receipt that proves one record.

    Example: stelsel log --service personen --limit 5
    """
    control = control_of(node)
    if receipt is not None:
        proof = control.get(f"/receipts/{receipt}")
        sys.stdout.write((proofs.write(proof) if tlog_proof else receipts.write(proof)).decode())
        return
    query: dict[str, Any] = {
        "transaction_id": transaction,
        "trace_id": trace,
        "peer": peer,
        "service": service,
        "limit": limit,
    }
    rows = control.post("/log", {name: value for name, value in query.items() if value is not None})
    if json:
        output.as_json(rows)
        return
    columns = ("Nr", "When", "Direction", "Consumer", "Provider", "Service", "Allowed", "Reason", "Transaction")
    output.table(columns, (_log_row(row) for row in rows))


def _body(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except json_module.JSONDecodeError:
        return answer.text


def _log_row(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row["index"],
        moment(row["time"] / 1000),
        row["direction"],
        row.get("consumer", ""),
        row.get("provider", ""),
        row.get("service", ""),
        "yes" if row.get("allowed") else "no",
        row.get("reason", ""),
        row["transaction_id"],
    )

"""Commands for a running node: how it stands, take new files into use, restart without losing a request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from stelsel.base.clock import moment
from stelsel.base.errors import Fault, Unavailable
from stelsel.cli import output
from stelsel.cli.options import DEFAULT_NODE, AsJson, NodeFile, control_of

if TYPE_CHECKING:
    from stelsel.control.client import Control

_PATIENCE = 120.0
_PAUSE = 0.1


def status(*, node: NodeFile = DEFAULT_NODE, json: AsJson = False) -> None:
    """Show how a running node stands: since when, with which certificate, its ledger, its search index, its workers.

    The search index is built behind the records, by a process of its own or in the node's: how many records it is
    behind, and when nobody builds it, is told here. What is wrong, and what to do: `stelsel doctor`.

    Example: stelsel status --node gemeente/node.toml
    """
    about = control_of(node).get("/about")
    if json:
        output.as_json(about)
        return
    process, until = about["process"], moment(about["certificate_until"])
    output.say(
        output.plain(f"{about['name']} ({about['peer_id']}), group {about['group']}, Stelsel {about['version']}")
    )
    output.say(f"Process {process['pid']}, since {moment(process['started'])}; certificate until {until}")
    output.say(f"Records in the ledger: {about['ledger']['size']}; requests being carried: {process['in_flight']}")
    output.say(output.plain(_index(about["ledger"]["index"])))
    if not about["workers"]:
        output.say("No workers: the node's own process carries all traffic.")
        return
    output.table(
        ("Worker", "Process", "Serves", "In flight", "Connections", "Records", "Seconds", "Replaced"),
        (
            (
                worker["worker"],
                worker["pid"] or "none",
                "yes" if worker["serving"] else "NO",
                worker["in_flight"],
                worker["connections"],
                worker["recorded"],
                worker["seconds"],
                worker["restarts"],
            )
            for worker in about["workers"]
        ),
    )


def _index(index: dict[str, Any]) -> str:
    """How the search index stands, in words."""
    if index["pid"] is None:
        who = "NOBODY builds it at this moment"
    else:
        who = f"process {index['pid']} builds it" if index["apart"] else "the node's own process builds it"
    said = [who, f"{index['behind']} records behind" if index["behind"] else "it holds all records"]
    if index["restarts"]:
        said.append(f"started again {index['restarts']} time{'s' * (index['restarts'] > 1)}")
    if index["trouble"]:
        said.append(f"the last round went WRONG ({index['trouble']})")
    return f"Search index: {'; '.join(said)}"


def reload(
    *,
    keep_workers: Annotated[
        bool, Parameter(help="Do not replace the workers; certificates reach them all the same.", negative=())
    ] = False,
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """Take certificate, key, trust anchors and revocation lists into use as the files are now; replace the workers.

    A node does the first by itself when the files change. Connections live on; those of a worker that is replaced are
    ended politely. When a file cannot be used, all stays as it was, and the command says why.

    Example: stelsel reload
    """
    told = control_of(node).post("/commands/reload", {"keep_workers": keep_workers})
    if json:
        output.as_json(told)
        return
    names = {"certificate": "the certificate", "trust_anchors": "trust anchors", "revocation_lists": "revocation lists"}
    new = [words for name, words in names.items() if told[name]]
    output.say(f"New and in use: {', '.join(new)}." if new else "The files are as they were.")
    output.say(f"The certificate is valid until {moment(told['certificate_until'])}.")
    if told["workers"]:
        output.say(f"Workers replaced: {told['workers']}.")


def restart(*, node: NodeFile = DEFAULT_NODE, json: AsJson = False) -> None:
    """Restart a running node in place, with the file and the program as they are now, without losing a request.

    Requests under way finish; who connects meanwhile waits until the node is back. A node that could not start again
    is not stopped.

    Example: stelsel restart
    """
    control = control_of(node)
    before = control.post("/commands/restart")
    begin = time.monotonic()
    about = _wait(control, before["started"])
    seconds = round(time.monotonic() - begin, 1)
    if json:
        output.as_json({"process": about["process"], "version": about["version"], "seconds": seconds})
        return
    output.say(f"Restarted in {seconds} seconds: process {about['process']['pid']}, Stelsel {about['version']}.")


def _wait(control: Control, started: float) -> dict[str, Any]:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        time.sleep(_PAUSE)
        if not control.answers():
            continue  # it is between two lives
        try:
            about: dict[str, Any] = control.get("/about")
        except Fault:
            continue
        if about["process"]["started"] != started:
            return about
    raise Unavailable("the node did not come back", next_step="the last lines of its log say why")

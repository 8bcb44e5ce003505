"""The command line's side of the operator's socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from stelsel.base.errors import Fault, Unavailable

Json = dict[str, Any]


class Control:
    """The command line's side of the socket of the node whose data is in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "control.sock"
        # A connection a command: none is left open when nobody closes this, none is stale after a restart.
        transport = httpx.HTTPTransport(uds=str(self._socket), limits=httpx.Limits(max_keepalive_connections=0))
        self._client = httpx.Client(transport=transport, base_url="http://node", timeout=120)

    def get(self, path: str, **query: str) -> Any:
        """The JSON answer to a GET. Raises `Fault` with what the node said."""
        return self._ask("GET", path, params=query)

    def post(self, path: str, body: Json | None = None) -> Any:
        """The JSON answer to a POST of `body`. Raises `Fault` with what the node said."""
        return self._ask("POST", path, json=body or {})

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        transport = httpx.HTTPTransport(uds=str(self._socket))
        try:
            with httpx.Client(transport=transport, base_url="http://node", timeout=_PATIENCE) as client:
                answer = client.request(method, path, **options)
        except httpx.TransportError as error:
            raise Unavailable(
                f"the node does not answer on {self._socket}", next_step="start it with: stelsel run node.toml"
            ) from error
        document = answer.json()
        if answer.status_code >= 400:
            extra = {name: value for name, value in document.items() if name not in _STANDARD_MEMBERS}
            fault = Fault(document.get("detail") or document.get("title", ""), **extra)
            fault.next_step = document.get("next_step", "")
            raise fault
        return document


_PATIENCE = 120  # seconds: publishing counts millions of people before it answers
_STANDARD_MEMBERS = {"type", "title", "status", "detail", "next_step"}

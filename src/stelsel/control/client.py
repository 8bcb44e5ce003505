"""The command line's side of the operator's socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from stelsel.base.errors import Fault, Unavailable

Json = dict[str, Any]


class Control:
    """The command line's side of the socket of the node whose data is in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "control.sock"

    def get(self, path: str, **query: str) -> Any:
        """The JSON answer to a GET. Raises `Fault` with what the node said."""
        return self._ask("GET", path, params=query)

    def post(self, path: str, body: Json | None = None) -> Any:
        """The JSON answer to a POST of `body`. Raises `Fault` with what the node said."""
        return self._ask("POST", path, json=body or {})

    def answers(self) -> bool:
        """Whether a node listens on the socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self._socket))
            except OSError:
                return False
            return True

    def stream(self, path: str, body: Json | None = None) -> Iterator[Json]:
        """The lines of JSON with which a POST of `body` is answered, as they come. Raises `Fault`."""
        transport = httpx.HTTPTransport(uds=str(self._socket))
        try:
            with (
                httpx.Client(transport=transport, base_url="http://node", timeout=_PATIENCE) as client,
                client.stream("POST", path, json=body or {}) as answer,
            ):
                if answer.status_code >= 400:
                    raise _fault(json.loads(answer.read()))
                for line in answer.iter_lines():
                    yield json.loads(line)
        except httpx.TransportError as error:
            raise self._silent() from error

    def _silent(self) -> Unavailable:
        return Unavailable(
            f"the node does not answer on {self._socket}", next_step="start it with: stelsel run node.toml"
        )

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        # A connection a command: none is left open when nobody closes this, none is stale after a restart.
        transport = httpx.HTTPTransport(uds=str(self._socket))
        try:
            with httpx.Client(transport=transport, base_url="http://node", timeout=_PATIENCE) as client:
                answer = client.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._silent() from error
        document = answer.json()
        if answer.status_code >= 400:
            raise _fault(document)
        return document


def _fault(document: Json) -> Fault:
    extra = {name: value for name, value in document.items() if name not in _STANDARD_MEMBERS}
    fault = Fault(document.get("detail") or document.get("title", ""), **extra)
    fault.next_step = document.get("next_step", "")
    return fault


_PATIENCE = 120  # seconds: publishing counts millions of people before it answers
_STANDARD_MEMBERS = {"type", "title", "status", "detail", "next_step"}

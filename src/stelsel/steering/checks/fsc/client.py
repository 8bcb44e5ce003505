"""Requests to the target, over mutual TLS, written down as they go out and as their answers come in."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from stelsel.steering.checks.fsc.identities import Identity
from stelsel.steering.checks.fsc.model import Answer, Failed, Transcript

SECONDS = 10.0
"""Time for one request."""

_OF_THE_CLIENT = frozenset({"host", "accept", "accept-encoding", "connection", "user-agent"})


class Unreachable(Failed):
    """There was no HTTP answer at all: refused, cut off, or no handshake."""


class Client:
    """HTTP clients, one for each identity. Their messages are in `transcript`."""

    usual_identity: Identity

    def __init__(self, anchors: Path) -> None:
        self.transcript = Transcript()
        self._anchors_file = anchors
        self._clients: dict[str, httpx.AsyncClient] = {}

    async def close(self) -> None:
        """Close all clients."""
        for client in self._clients.values():
            await client.aclose()

    def client(self, identity: Identity | None = None) -> httpx.AsyncClient:
        """A client with mutual TLS as this identity (default: the first peer)."""
        who = identity or self.usual_identity
        client = self._clients.get(who.name)
        if client is None:
            client = self._clients[who.name] = self.new_client(who.client_context(self._anchors_file))
        return client

    def new_client(self, context: ssl.SSLContext | None = None) -> httpx.AsyncClient:
        """A client that shares nothing with others; the caller closes it."""
        return httpx.AsyncClient(
            verify=context or ssl.create_default_context(), trust_env=False, timeout=SECONDS, follow_redirects=False
        )

    async def call(
        self,
        method: str,
        url: str,
        *,
        identity: Identity | None = None,
        client: httpx.AsyncClient | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Answer:
        """One request to the target. Raises `Unreachable` when there is no answer."""
        using = client or self.client(identity)
        request = using.build_request(method, url, headers=dict(headers or {}), **options)
        shown = {name: value for name, value in request.headers.items() if name not in _OF_THE_CLIENT}
        self.transcript.add("sent", f"{method} {request.url}", shown, request.read())
        try:
            response = await using.send(request)
        except (httpx.HTTPError, OSError, ssl.SSLError) as error:
            self.transcript.add("received", f"no answer: {type(error).__name__} {error}")
            raise Unreachable(f"no answer to {method} {url}: {type(error).__name__}") from None
        answer = Answer(response.status_code, dict(response.headers), response.content)
        self.transcript.add("received", f"{answer.status}", answer.headers, answer.body)
        return answer

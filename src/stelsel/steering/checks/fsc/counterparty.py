"""The other peers, scripted: each with a manager of its own; the first with an inway; and the service behind ours.

They take what comes in, answer as the standard asks unless a scenario says otherwise, and remember all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from stelsel.base.web import listen, serving
from stelsel.steering.checks.fsc.documents import base64url, content_hash
from stelsel.steering.checks.fsc.identities import Identity
from stelsel.steering.checks.fsc.model import Transcript

FSC_VERSION = "2.0.0"


@dataclass(frozen=True)
class Seen:
    """A request that one of the tester's listeners received; header names in lower case."""

    method: str
    path: str
    """With the query, as it was sent."""
    headers: Mapping[str, str]
    body: bytes
    certificate: bytes | None
    """The client's certificate (DER), proven in the handshake."""

    @property
    def certificate_peer_id(self) -> str:
        """Peer id in the client's certificate; empty without one."""
        if self.certificate is None:
            return ""
        subject = x509.load_der_x509_certificate(self.certificate).subject
        return "".join(str(one.value) for one in subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER))


@dataclass(frozen=True)
class Reply:
    """What a listener of the tester answers."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Any, status: int = 200, **headers: str) -> Reply:
        return cls(status, json.dumps(value).encode(), {"content-type": "application/json", **headers})


Responder = Callable[[Seen], Awaitable[Reply]]


class Listener:
    """An HTTP server of the tester on one address, that remembers what it saw."""

    def __init__(self, name: str, transcript: Transcript, respond: Responder) -> None:
        self.seen: list[Seen] = []
        self.respond = respond
        self._name = name
        self._transcript = transcript

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if message["type"] != "http.request" or not message.get("more_body"):
                break
        path = scope["raw_path"].decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        seen = Seen(
            method=scope["method"],
            path=f"{path}?{query}" if query else path,
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            body=body,
            certificate=scope.get("state", {}).get("client_certificate"),
        )
        self._transcript.add("received", f"{self._name}: {seen.method} {seen.path}", seen.headers, seen.body)
        self.seen.append(seen)
        reply = await self.respond(seen)
        self._transcript.add("sent", f"{self._name} answered {reply.status}", reply.headers, reply.body)
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in reply.headers.items()]
        headers.append((b"content-length", str(len(reply.body)).encode()))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    @contextlib.asynccontextmanager
    async def open(self, address: str, bind: str | None, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
        """Listen on the port of `address` for as long as the context lasts."""
        parts = urlsplit(address)
        host = bind or socket.gethostbyname(parts.hostname or "localhost")
        listener = listen(f"{host}:{parts.port}")
        with contextlib.closing(listener):
            async with serving(self, listener, tls):
                yield


@dataclass
class Peer:
    """A peer that the tester plays: its identities, its manager, and what it knows."""

    name: str
    identity: Identity
    address: str
    """Of its manager."""
    inway_address: str
    transcript: Transcript
    shown: list[Identity] = field(default_factory=list)
    """Beside `identity`, what its key set shows."""
    grants: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Grant hash to `data`, of contracts for which it gives access tokens."""
    token_changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Grant hash to claims that replace those in a token (None leaves one out)."""
    refuse_tokens: bool = False
    tokens: dict[str, str] = field(default_factory=dict)
    """Access tokens that it gave, by grant hash: the last."""
    group_id: str = ""
    manager: Listener = field(init=False)

    def __post_init__(self) -> None:
        self.manager = Listener(f"manager of the {self.name} peer", self.transcript, self._respond)

    @property
    def peer_id(self) -> str:
        return self.identity.peer_id

    def signatures(self, hash_of_content: str, kind: str) -> list[tuple[Seen, str]]:
        """What was PUT here as `kind` on the contract with this hash: the requests with the signature in each."""
        found = []
        for seen in self.manager.seen:
            path = unquote(seen.path)
            if seen.method == "PUT" and path.endswith(f"/contracts/{hash_of_content}/{kind}"):
                with contextlib.suppress(ValueError):
                    found.append((seen, str(json.loads(seen.body).get("signature"))))
        return found

    async def _respond(self, seen: Seen) -> Reply:
        path = urlsplit(seen.path).path
        if path.endswith("/.well-known/jwks.json"):
            return Reply.of({"keys": [one.jwk() for one in (self.identity, *self.shown)]})
        if path.endswith("/announce"):
            return Reply()
        if seen.method == "GET":
            return self._listed(path)
        if path.endswith("/token"):
            return self._token(seen)
        return self._receive(seen, unquote(path))

    def _listed(self, path: str) -> Reply:
        last = path.rpartition("/")[2]
        if last == "peer":
            about = {"peer_id": self.peer_id, "peer_name": self.identity.peer_name, "fsc_version": FSC_VERSION}
            return Reply.of(about | {"enabled_extensions": {}})
        if last in {"peers", "services", "contracts"}:
            return Reply.of({last: [], "pagination": {"next_cursor": ""}})
        if last == "logs":
            return Reply.of({"records": [], "pagination": {"next_cursor": ""}})
        return Reply(404)

    def _receive(self, seen: Seen, path: str) -> Reply:
        """A contract or a signature; the tester sees for itself whether the hash in the path is right."""
        try:
            content = json.loads(seen.body)["content"]
            computed = content_hash(content)
        except (ValueError, KeyError, TypeError):
            return Reply(400)
        if "/contracts/" in path and f"/contracts/{computed}/" not in path:
            code = "ERROR_CODE_URL_PATH_CONTENT_HASH_MISMATCH"
            error = {"message": "hash mismatch", "domain": "ERROR_DOMAIN_MANAGER", "code": code}
            return Reply.of(error, 422, **{"fsc-error-code": code})
        return Reply(201)

    def _token(self, seen: Seen) -> Reply:
        """FSC Core 4.4.1.6, from the other side."""
        form = dict(parse_qsl(seen.body.decode("utf-8", "replace")))
        scope = form.get("scope", "")
        data = self.grants.get(scope)
        if form.get("grant_type") != "client_credentials":
            return Reply.of({"error": "unsupported_grant_type"}, 400)
        if seen.certificate is None or form.get("client_id") != seen.certificate_peer_id:
            return Reply.of({"error": "invalid_client"}, 400)
        if data is None or self.refuse_tokens or data["outway"]["peer_id"] != seen.certificate_peer_id:
            return Reply.of({"error": "invalid_grant", "error_description": "no such grant"}, 400)
        claims = self.claims(scope, data, seen.certificate) | self.token_changes.get(scope, {})
        claims = {name: value for name, value in claims.items() if value is not None}
        self.tokens[scope] = self.identity.sign(claims, header={"typ": "JWT"})
        return Reply.of({"access_token": self.tokens[scope], "token_type": "bearer"})

    def claims(self, grant_hash: str, data: Mapping[str, Any], certificate: bytes) -> dict[str, Any]:
        """The claims of an access token (FSC Core 4.3.1) for the holder of `certificate` (DER)."""
        now, service = int(time.time()), data["service"]
        claims: dict[str, Any] = {
            "gth": grant_hash,
            "gid": self.group_id,
            "sub": data["outway"]["peer_id"],
            "iss": self.peer_id,
            "svc": service["name"],
            "aud": self.inway_address,
            "exp": now + 120,
            "nbf": now - 5,
            "cnf": {"x5t#S256": thumbprint_of(certificate)},
            "add": {},
        }
        if "delegator" in data:
            claims["act"] = {"sub": data["delegator"]["peer_id"]}
        if "delegator" in service:
            claims["pdi"] = service["delegator"]["peer_id"]
        if "properties" in data:
            claims["prp"] = data["properties"]
        return claims


def thumbprint_of(der: bytes) -> str:
    """`x5t#S256` of a certificate (RFC 7515, 4.1.8)."""
    return base64url(hashlib.sha256(der).digest())


async def echo(seen: Seen) -> Reply:
    """The service: it says what it received."""
    await asyncio.sleep(0)
    return Reply.of({"method": seen.method, "path": seen.path, "length": len(seen.body)})

"""An implementation of FSC that believes everything: it takes what comes, accepts it, and lets everyone in."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from stelsel.demo.ports import free_ports
from stelsel.steering.checks.fsc.contracts import Proposal
from stelsel.steering.checks.fsc.counterparty import Listener, Reply, Seen, thumbprint_of
from stelsel.steering.checks.fsc.documents import content_hash
from stelsel.steering.checks.fsc.identities import PEERS, Identity, make_group
from stelsel.steering.checks.fsc.model import Transcript
from stelsel.steering.checks.fsc.settings import ApprovalSettings, CheckTarget, TargetSettings, TesterSettings

GROUP = "credulous"


def target_in(folder: Path) -> CheckTarget:
    """A target's file for the credulous implementation, with its group."""
    make_group(folder, target_hosts=("127.0.0.1",), tester_hosts=("127.0.0.1",))
    manager, inway, first, second, third, tester_inway, echo = free_ports(7)
    return CheckTarget(
        group_id=GROUP,
        trust_anchors=folder / "trust-anchors.pem",
        target=TargetSettings(
            peer_id=PEERS["target"][0],
            manager=f"https://127.0.0.1:{manager}",
            inway=f"https://127.0.0.1:{inway}",
            signing="target",
        ),
        tester=TesterSettings(
            certificates=folder,
            first=f"https://127.0.0.1:{first}",
            second=f"https://127.0.0.1:{second}",
            third=f"https://127.0.0.1:{third}",
            inway=f"https://127.0.0.1:{tester_inway}",
            echo=f"http://127.0.0.1:{echo}",
        ),
        approval=ApprovalSettings(mode="automatic", seconds=0.5),
        scenario_seconds=10,
    )


class Credulous:
    """One peer that believes everything."""

    def __init__(self, target: CheckTarget, *, door_open: bool = False) -> None:
        """`door_open`: it does not even look at certificates."""
        self._target = target
        self._door_open = door_open
        self._identity = Identity.load(target.tester.certificates, "target")
        self._contracts: dict[str, dict[str, Any]] = {}
        self._peers: dict[str, dict[str, str]] = {}
        self.hostile = b""
        """What it answers to `GET /peer`, when it is not empty."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tls = self._identity.server_context(self._target.trust_anchors)
        if self._door_open:
            tls.verify_mode = ssl.CERT_NONE
        manager = Listener("manager", Transcript(), self._manager)
        inway = Listener("inway", Transcript(), self._inway)
        async with (
            manager.open(self._target.target.manager, None, tls),
            inway.open(str(self._target.target.inway), None, tls),
        ):
            yield

    async def _manager(self, seen: Seen) -> Reply:
        path = urlsplit(seen.path).path.removeprefix("/v1")
        if path == "/.well-known/jwks.json":
            return Reply.of({"keys": [self._identity.jwk()]})
        if path == "/token":
            return self._token(seen)
        if seen.method in {"POST", "PUT"}:
            return self._believe(seen, path)
        if path == "/peer":
            return Reply(200, self.hostile) if self.hostile else Reply.of({"peer_id": self._identity.peer_id})
        name = path.strip("/")
        items: list[Any] = {
            "contracts": list(self._contracts.values())[::-1],
            "peers": list(self._peers.values()),
            "services": [
                {"data": {"name": data["service"]["name"]}}
                for contract in self._contracts.values()
                for data in [grant["data"] for grant in contract["content"]["grants"]]
                if "directory" in data
            ],
            "logs": [],
        }.get(name, [])
        return Reply.of({"records" if name == "logs" else name: items, "pagination": {"next_cursor": ""}})

    def _believe(self, seen: Seen, path: str) -> Reply:
        told = json.loads(seen.body or b"{}")
        content, signature = told.get("content"), told.get("signature")
        if not isinstance(content, dict) or not isinstance(signature, str):
            return Reply(200 if path == "/announce" else 201)
        hashed = content_hash(content)
        new = {"content": content, "signatures": {"accept": {}, "reject": {}, "revoke": {}}}
        found = self._contracts.setdefault(hashed, new)
        kind = path.rpartition("/")[2]
        found["signatures"].get(kind, found["signatures"]["accept"])[seen.certificate_peer_id] = signature
        payload = {"contract_content_hash": hashed, "type": "accept", "signed_at": int(time.time())}
        found["signatures"]["accept"].setdefault(self._identity.peer_id, self._identity.sign(payload))
        return Reply(201)

    def _token(self, seen: Seen) -> Reply:
        form = dict(parse_qsl(seen.body.decode()))
        scope, now = form.get("scope", ""), int(time.time())
        claims: dict[str, Any] = {
            "gth": scope,
            "gid": GROUP,
            "sub": seen.certificate_peer_id,
            "iss": self._identity.peer_id,
            "svc": "fsc-check",
            "aud": self._target.target.inway,
            "exp": now + 60,
            "nbf": now - 5,
            "cnf": {"x5t#S256": thumbprint_of(seen.certificate or b"")},
        }
        for contract in self._contracts.values():
            made = Proposal.of(contract["content"])
            if scope in made.grant_hashes and "properties" in made.grant:
                claims["prp"] = made.grant["properties"]
        return Reply.of({"access_token": self._identity.sign(claims), "token_type": "bearer"})

    async def _inway(self, seen: Seen) -> Reply:
        passed = {name: value for name, value in seen.headers.items() if name not in {"host", "content-length"}}
        async with httpx.AsyncClient(trust_env=False) as client:
            address = self._target.tester.echo + seen.path
            try:
                answer = await client.request(seen.method, address, headers=passed, content=seen.body)
            except httpx.HTTPError:
                return Reply(200)
        return Reply(answer.status_code, answer.content, {"content-type": answer.headers.get("content-type", "")})

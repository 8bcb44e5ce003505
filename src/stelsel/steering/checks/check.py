"""What a check is, what it is aimed at, and where it may not go."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from stelsel.base.canonical import canonical
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.log import logger
from stelsel.steering.findings import Outcome, Reason, Verdict
from stelsel.steering.obligations import Words

_log = logger("steering")


@dataclass(frozen=True, slots=True)
class Target:
    """The peer that is checked, and with what the steward knocks."""

    peer_id: str
    manager_address: str
    """https://host:port."""
    web_address: str
    """http(s)://host[:port], or empty when the peer says that it has no website."""
    keypair: KeyPair
    anchors: TrustAnchors
    local_addresses: bool = False
    """Whether addresses that are not public may be probed."""
    timeout: float = 5.0
    """Seconds for one connection; a whole check may take a handful of these."""


class Unreachable(Exception):
    """The endpoint could not be measured; this is never the same as not meeting the norm."""


class Facts(Protocol):
    """What a probe established; each check has its own."""

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen (transcript), what was made of it (facts) and what the norm says of that (verdict)."""

    transcript: tuple[str, ...]
    facts: dict[str, Any]
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """Transcript and facts: the part that is hashed."""
        return {"transcript": list(self.transcript), "facts": self.facts}

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the canonical JSON of transcript and facts."""
        return hashlib.sha256(canonical(self.to_json())).hexdigest()


class Transcript:
    """What a probe did and saw, line by line, within limits."""

    def __init__(self, limit: int = 200) -> None:
        self._limit = limit
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        """Add a line; the caller has made foreign text in it inert."""
        if len(self.lines) < self._limit:
            self.lines.append(line[:500])


@dataclass(frozen=True)
class Check:
    """A versioned pair of a probe (facts) and a norm (what must be so)."""

    name: str
    version: int
    """Goes up when the norm or the probe changes what it finds; obligations name the version they mean."""
    description: Words
    probe: Callable[[Target, Transcript], Awaitable[Any]]
    """Gathers the facts. Raises `Unreachable`."""
    judge: Callable[[Any, float], Verdict]
    """Pure: facts and now (seconds) give the verdict."""

    @property
    def reference(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"

    async def run(self, target: Target, now: float, limit: float = 30.0) -> Evidence:
        """Probe and judge, within `limit` seconds. Never raises for what the other side does: that is `error`."""
        transcript = Transcript()
        try:
            async with asyncio.timeout(limit):
                facts = await self.probe(target, transcript)
        except (Unreachable, TimeoutError, OSError) as error:
            why = str(error) if isinstance(error, Unreachable) else type(error).__name__
            transcript.note(f"not measured: {why}")
            reason = Reason(f"Niet te meten: {why}.", f"Could not be measured: {why}.")
            return Evidence(tuple(transcript.lines), {}, Verdict(Outcome.ERROR, (reason,)))
        except Exception as error:  # noqa: BLE001  whatever one peer serves, the checks of the others go on
            _log.error("a check made a mistake", check=self.reference, peer=target.peer_id, exc_info=error)
            transcript.note("not measured: the check itself made a mistake")
            reason = Reason("De toets zelf ging fout.", "The check itself made a mistake.")
            return Evidence(tuple(transcript.lines), {}, Verdict(Outcome.ERROR, (reason,)))
        return Evidence(tuple(transcript.lines), facts.to_json(), self.judge(facts, now))


def endpoint(address: str, schemes: tuple[str, ...]) -> tuple[SplitResult, int]:
    """(parts, port) of an address that a peer gave. Raises `Unreachable` when it is not one."""
    try:
        parts = urlsplit(address)
        port = parts.port or {"http": 80}.get(parts.scheme, 443)
    except ValueError as error:
        raise Unreachable("the address that the peer gives is not one") from error
    plain = address.isascii() and address.isprintable() and " " not in address and len(address) <= 255
    if not plain or parts.scheme not in schemes or not parts.hostname or parts.username is not None:
        raise Unreachable("the address that the peer gives is not one")
    return parts, port


async def resolve(host: str, port: int, *, local_addresses: bool) -> str:
    """One IP address of `host` that may be probed. Connect to this, so that a second look-up cannot lead elsewhere.

    Raises `Unreachable` when there is none, or when any of its addresses is not public while only public ones may be.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable("the host name has no address") from error
    addresses = sorted({str(entry[4][0]) for entry in found}, key=lambda address: (":" in address, address))
    if not addresses:
        raise Unreachable("the host name has no address")
    if not local_addresses and not all(ipaddress.ip_address(a.partition("%")[0]).is_global for a in addresses):
        raise Unreachable("the address is not public, and the steward probes public addresses only")
    return addresses[0]

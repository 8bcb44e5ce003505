"""Which agreement does an application mean? Pure: a table made anew whenever agreements change.

An application says it with the header `Fsc-Grant-Hash`, or with the beginning of the path: `/{alias}/...` or
`/{provider peer id}/{service}/...`. That beginning is for the outway and is taken off; the rest of the path is the
service's and is not altered (FSC Core 4.6.1.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from stelsel.agreements.agreement import Agreement
from stelsel.base.certificates import Certificate
from stelsel.exchange.faults import UnknownRoute

_ABSOLUTE = re.compile(rb"https?://[^/?]*", re.IGNORECASE)
_NEXT_STEP = (
    "begin the path with /{alias}/ of the settings or /{provider peer id}/{service}/, or send the header "
    "Fsc-Grant-Hash; see the agreements with: stelsel agreement list"
)


class Route:
    """Where a request goes: whose service, under which agreement (None: there is none), and the path it sees."""

    __slots__ = ("agreement", "provider", "service", "target")

    def __init__(self, provider: str, service: str, agreement: Agreement | None, target: bytes) -> None:
        self.provider = provider
        self.service = service
        self.agreement = agreement
        self.target = target


class RoutingTable:
    """All connection agreements in which this peer is the consumer, by provider and service."""

    def __init__(self, agreements: Iterable[Agreement], certificate: Certificate, aliases: Mapping[str, str]) -> None:
        self._aliases = {alias.encode(): _pair(target) for alias, target in aliases.items()}
        self._services: dict[tuple[str, str], list[Agreement]] = {}
        for agreement in agreements:
            if agreement.consumer == certificate.peer_id:
                self._services.setdefault((agreement.provider, agreement.service), []).append(agreement)
        for candidates in self._services.values():
            # Those that this outway can use come first, then the newest.
            candidates.sort(key=lambda agreement: (usable(agreement, certificate), agreement.created_at), reverse=True)

    def by_path(self, target: bytes, now: float) -> Route:
        """The route that the path says. Raises `UnknownRoute`."""
        target = origin_form(target)
        path, question, query = target.partition(b"?")
        first, rest = _split(path)
        pair = self._aliases.get(first)
        if pair is None:
            second, rest = _split(rest)
            pair = _peer_and_service(first, second)
        if pair is None:
            raise UnknownRoute("the path does not say which service is meant", next_step=_NEXT_STEP)
        return Route(pair[0], pair[1], self._find(pair, now), (rest or b"/") + question + query)

    def _find(self, pair: tuple[str, str], now: float) -> Agreement | None:
        candidates = self._services.get(pair, ())
        for agreement in candidates:
            if agreement.holds(now):
                return agreement
        return candidates[0] if candidates else None  # it will be refused, with the reason why


def usable(agreement: Agreement, certificate: Certificate) -> bool:
    """Whether the agreement is made out to an outway with this certificate (FSC Core 4.4.1.6)."""
    if agreement.outway_key_thumbprint is not None:
        return agreement.outway_key_thumbprint == certificate.key_thumbprint
    domain = agreement.outway_domain_name
    return domain is not None and certificate.names(domain)


def origin_form(target: bytes) -> bytes:
    """The target without scheme and host, which some clients send (RFC 9112, section 3.2.2)."""
    if target.startswith(b"/"):
        return target
    match = _ABSOLUTE.match(target)
    if match is None:
        return target
    rest = target[match.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


def _split(path: bytes) -> tuple[bytes, bytes]:
    """(first segment, rest) of a path; the rest begins with a slash or is empty."""
    end = path.find(b"/", 1)
    return (path[1:], b"") if end < 0 else (path[1:end], path[end:])


def _peer_and_service(first: bytes, second: bytes) -> tuple[str, str] | None:
    if len(first) != 20 or not first.isdigit() or not re.fullmatch(rb"[a-zA-Z0-9._-]{1,100}", second):
        return None
    return first.decode("ascii"), second.decode("ascii")


def _pair(target: str) -> tuple[str, str]:
    provider, _, service = target.partition("/")
    return provider, service

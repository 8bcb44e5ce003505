"""The outway: the door through which this peer's own applications reach services of others (FSC Core 4.6, Logging 3.4).

One straight line: agreement, decision, durable record, token, a second look at the agreement, mutual TLS to the inway
in the token, answer back. What was not agreed does not even leave the house.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from functools import lru_cache

from stelsel.agreements.fsc_errors import MethodUnsupported
from stelsel.agreements.group import Group
from stelsel.agreements.services import Service
from stelsel.agreements.tokens import Token, TokenClaims
from stelsel.base.certificates import KeyPair, TrustAnchors, identify
from stelsel.base.clock import Clock
from stelsel.base.errors import BadGateway, BadRequest, Fault, Unauthenticated
from stelsel.exchange.call import Call, FirstLook
from stelsel.exchange.carrier import PROTOCOL, PROTOCOLS, Carrier
from stelsel.exchange.facts import Facts, check, limits_data
from stelsel.exchange.faults import OutwayLogWriteError, UnknownGrantHash, WrongPeer
from stelsel.exchange.gateway import ClientConnection, Gateway
from stelsel.exchange.headers import ANSWERS_OF_INWAYS, REQUESTS, UUID7, passing
from stelsel.exchange.heads import ResponseHead
from stelsel.exchange.identifiers import new_transaction_id
from stelsel.exchange.ports import AgreementsPort, LedgerPort, write_down
from stelsel.exchange.routing import Route, RoutingTable, origin_form
from stelsel.exchange.settings import OutwaySettings
from stelsel.exchange.steps import look_again, read_question, still_holds
from stelsel.exchange.tls import TlsConnection
from stelsel.exchange.upstream import Pool, UpstreamConnection
from stelsel.exchange.wire import WireLimits, request_head
from stelsel.privacy.decision import decide
from stelsel.privacy.subjects import SubjectReferences

AUDIENCE = re.compile(r"https://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:]{2,45}\])(?::([0-9]{1,5}))?/?")
_LAST_PORT = 65_535
_TOKEN_REFUSED = frozenset((b"ERROR_CODE_ACCESS_TOKEN_EXPIRED", b"ERROR_CODE_ACCESS_TOKEN_INVALID"))


class Outway(Gateway):
    """One outway. `listen` on a socket with `start`; `stop` drains it."""

    name = "outway"

    def __init__(
        self,
        *,
        agreements: AgreementsPort,
        ledger: LedgerPort,
        references: SubjectReferences,
        keypair: KeyPair,
        anchors: TrustAnchors,
        group: Group,
        clock: Clock,
        settings: OutwaySettings,
    ) -> None:
        super().__init__(settings)
        self._agreements = agreements
        self._ledger = ledger
        self._references = references
        self._keypair = keypair
        self._group = group
        self._clock = clock
        self._settings = settings
        self._tls = keypair.client_context(anchors, PROTOCOLS)
        self._pools: dict[tuple[str, str], Pool] = {}
        self._retired: list[Pool] = []
        self._generation = anchors.revocations.generation if anchors.revocations is not None else 0
        self._hosts: dict[str, bytes] = {}
        self._table: RoutingTable | None = None
        agreements.on_change(self._forget_table)
        self._pair = keypair.current

    async def start(self, listener: socket.socket) -> None:
        """Listen, plain HTTP: only the organisation's own applications may reach this address."""
        await self.listen(listener, None)

    async def stop(self, drain_seconds: float = 5.0) -> None:
        await super().stop(drain_seconds)
        for pool in (*self._pools.values(), *self._retired):
            pool.close()

    def tidy(self, now: float) -> None:
        self._look_for_renewal()
        lists = self._tls.anchors.revocations
        if lists is not None and lists.generation != self._generation:
            # An inway's certificate may have been revoked: requests from now on go over new connections.
            self._generation = lists.generation
            self._retired += self._pools.values()
            self._pools = {}
        for pool in self._pools.values():
            pool.tidy(now)
        for known in [known for known, pool in self._pools.items() if pool.unused(now)]:
            del self._pools[known]
            if all(audience != known[0] for audience, _ in self._pools):
                del self._hosts[known[0]]
        for pool in self._retired:
            pool.tidy(float("inf"))
        self._retired = [pool for pool in self._retired if pool.size]

    def admit(self, connection: ClientConnection, transport: asyncio.Transport) -> bool:
        del connection, transport
        return True

    def gone(self, connection: ClientConnection) -> None:
        del connection

    async def carry(self, call: Call) -> None:
        now = self._clock.now()
        if call.head.method == b"CONNECT":
            raise MethodUnsupported(
                "the outway does not carry CONNECT: it must see the request to keep the agreement",
                next_step="send the request itself, to http:// and the address of the outway",
            )
        # Logging 3.4.1.1: the outway creates the transaction id; a client's own is taken when it is a good one.
        given = call.head.values.get(b"fsc-transaction-id", b"")
        call.transaction_id = given.decode("ascii") if UUID7.fullmatch(given) else new_transaction_id()
        facts = Facts("outgoing", call.head, call.transaction_id)
        facts.consumer = self._keypair.certificate.peer_id
        route = self._route(call, now)
        facts.provider = route.provider
        facts.service = route.service
        try:
            service: Service | Fault = await self._judge(call, facts, route, now)
        except Fault as fault:
            service = fault  # nothing compiled waits while it handles a fault, see `steps`
        if isinstance(service, Fault):
            await write_down(self._ledger, facts.refusal(now, service), OutwayLogWriteError)
            raise service
        await write_down(self._ledger, facts.allowed(now), OutwayLogWriteError)
        if not still_holds(self._agreements, facts, self._clock.now()):
            await self._look_again(facts, service)
        await self._forward(call, facts, route, service)

    def _route(self, call: Call, now: float) -> Route:
        grant_hash = call.head.values.get(b"fsc-grant-hash")
        if grant_hash is not None:
            agreement = self._agreements.agreement(grant_hash.decode("latin-1"))
            if agreement is None or agreement.consumer != self._keypair.certificate.peer_id:
                raise UnknownGrantHash(
                    "this organisation has no agreement with the hash in Fsc-Grant-Hash",
                    next_step="see the agreements with: stelsel agreement list",
                )
            return Route(agreement.provider, agreement.service, agreement, origin_form(call.head.target))
        return self._routes().by_path(call.head.target, now)

    def _routes(self) -> RoutingTable:
        if self._table is None:
            self._table = RoutingTable(self._agreements.agreements(), self._keypair.certificate, self._settings.aliases)
        return self._table

    def _forget_table(self) -> None:
        self._table = None

    def _look_for_renewal(self) -> None:
        """Tokens are bound to our certificate, so when that is new, requests go over connections made with it."""
        if self._keypair.current is self._pair:
            return
        self._pair = self._keypair.current
        self._tls = self._keypair.client_context(self._tls.anchors, PROTOCOLS)
        self._retired += self._pools.values()
        self._pools = {}
        self._table = None

    async def _judge(self, call: Call, facts: Facts, route: Route, now: float) -> Service:
        """Whether this may leave the house; gives the service as known from here. Raises a `Fault` if not."""
        agreement = facts.agreement = route.agreement
        limited = False
        if agreement is not None:
            facts.grant_hash = agreement.grant_hash
            facts.consumer_delegator = agreement.consumer_delegator
            facts.provider_delegator = agreement.provider_delegator
            limited = limits_data(agreement)
        # The outway does not know how the provider declared the service; that the terms limit it says enough.
        service = _service(route.service, limited)
        if agreement is not None and limited:
            await read_question(
                call,
                facts,
                service,
                route.target,
                references=self._references,
                limit=self.limits.maximum_read,
                in_force=agreement.holds(now),
            )
        check(decide(service, agreement, facts.request, now))
        return service

    async def _look_again(self, facts: Facts, service: Service) -> None:
        await look_again(self._agreements, self._ledger, facts, service, self._clock.now(), OutwayLogWriteError)

    async def _forward(self, call: Call, facts: Facts, route: Route, service: Service) -> None:
        dress = _Dress(facts.transaction_line)
        token = self._agreements.token_at_hand(facts.grant_hash)
        if token is None:
            token = await self._agreements.token(facts.grant_hash)
            await self._look_again(facts, service)  # getting the token may have taken long
        self._check_token(token, route)
        whole = call.body_ended
        refused = await self._send(call, facts, route, token, dress, first_look=_token_taken if whole else None)
        if not refused:
            return
        # The inway refused the token, so nothing reached the service: sending again with a new one is safe.
        self._agreements.forget_token(facts.grant_hash)
        token = await self._agreements.token(facts.grant_hash)
        await self._look_again(facts, service)
        self._check_token(token, route)
        await self._send(call, facts, route, token, dress, first_look=None)

    def _check_token(self, token: Token, route: Route) -> None:
        """FSC Core 4.6.1.2: the group of the token must be ours, and it must come from the peer in the grant."""
        claims = token.claims
        if claims.group_id != self._group.id or claims.provider != route.provider:
            raise BadGateway(
                "the provider gave an access token for another group or of another peer",
                next_step="ask the provider to look at its manager",
            )

    async def _send(
        self, call: Call, facts: Facts, route: Route, token: Token, dress: _Dress, *, first_look: FirstLook | None
    ) -> bool:
        """Send it on; whether the inway refused the token."""
        self._look_for_renewal()
        pool = self._pool(token.claims.audience, route.provider)
        head = call.head
        forwarded = request_head(
            head.method,
            route.target,
            self._hosts[token.claims.audience],
            b"".join(
                (
                    passing(head, REQUESTS),
                    b"Fsc-Authorization: ",
                    token.compact.encode("ascii"),
                    b"\r\n",
                    facts.transaction_line,
                    facts.traceparent,
                    call.framing(),
                )
            ),
        )
        return not await call.relay(pool, forwarded, dress, first_look=first_look)

    async def reach(self, claims: TokenClaims) -> None:
        """Make sure that there is a trusted connection to the inway in a token. Raises a `Fault` that says why not."""
        pool = self._pool(claims.audience, claims.provider)
        pool.give_back(await pool.acquire(fresh=True))

    def route(self, where: str, now: float) -> Route:
        """Where `where` leads: a grant hash, an alias, or `provider peer id/service`. Raises a `Fault`."""
        if where.startswith("$"):
            agreement = self._agreements.agreement(where)
            if agreement is None or agreement.consumer != self._keypair.certificate.peer_id:
                raise UnknownGrantHash(
                    "this organisation has no agreement with this hash",
                    next_step="see the agreements with: stelsel agreement list",
                )
            return Route(agreement.provider, agreement.service, agreement, b"/")
        return self._routes().by_path(f"/{where.strip('/')}/".encode("utf-8", "replace"), now)

    def _pool(self, audience: str, peer_id: str) -> Pool:
        pool = self._pools.get((audience, peer_id))
        if pool is None:
            match = AUDIENCE.fullmatch(audience)
            if match is None or int(match[2] or 443) > _LAST_PORT:
                raise BadGateway("the access token does not say at which address the inway is")
            host, port = match[1].strip("[]"), int(match[2] or 443)
            self._hosts[audience] = f"{match[1]}:{port}".encode()
            pool = self._pools[audience, peer_id] = Pool(
                InwayConnector(
                    host, port, peer_id, self._tls, WireLimits(body=self.limits.maximum_body), self._settings.lanes
                ),
                maximum=self.limits.maximum_upstream,
                idle_seconds=self._settings.upstream_idle_seconds,
                connect_seconds=self.limits.connect_seconds,
            )
        return pool


class InwayConnector:
    """Makes connections to one inway: host name and peer id are checked, on every connection.

    When the inway knows lanes, a connection is a lane, on a connection that was checked.
    """

    def __init__(
        self, host: str, port: int, peer_id: str, tls: ssl.SSLContext, limits: WireLimits, most_lanes: int
    ) -> None:
        self._host = host
        self._port = port
        self._peer_id = peer_id
        self._tls = tls
        self._limits = limits
        self._most_lanes = most_lanes
        self._carriers: list[Carrier] = []
        self._knows_lanes = True
        """As far as is known: what the latest handshake said."""
        self._made = 0
        """Connections with lanes that were made so far."""
        self._turn = asyncio.Lock()

    async def __call__(self, pool: Pool, fresh: bool) -> UpstreamConnection:
        connection = UpstreamConnection(pool, self._limits)
        if not fresh and self._on_lane(connection):
            return connection
        if self._worth_waiting:
            made = self._made
            async with self._turn:  # whoever waited here finds room on what another made meanwhile
                if self._worth_waiting:
                    if (fresh and made == self._made) or not self._on_lane(connection):
                        await self._connect(connection)
                    return connection
        await self._connect(connection)
        return connection

    @property
    def _worth_waiting(self) -> bool:
        """Whether a connection that another is making may serve us too."""
        return self._knows_lanes and self._most_lanes > 1

    def _on_lane(self, connection: UpstreamConnection) -> bool:
        """Give it a lane, if there is room for one; the latest first, so that the others fall out of use."""
        for carrier in reversed(self._carriers):
            if carrier.size < self._most_lanes and not carrier.full and not carrier.closing:
                carrier.open(connection)
                connection.uses = 1  # what is under it was there before, so it may prove to be stale
                return True
        return False

    async def _connect(self, connection: UpstreamConnection) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        carriers: list[Carrier] = []

        def inside(agreed: str | None) -> asyncio.Protocol:
            self._knows_lanes = agreed == PROTOCOL
            if not self._knows_lanes:
                return connection
            carriers.append(Carrier(None, self._carrier_ended))
            return carriers[0]

        def over(_: TlsConnection, error: OSError | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        _, tls = await loop.create_connection(
            lambda: TlsConnection(inside, self._tls, server_hostname=self._host, on_handshake=over),
            self._host,
            self._port,
        )
        try:
            await done
        except ssl.SSLError as error:
            raise BadGateway(
                "no trusted connection could be made to the inway",
                next_step="the certificate of the inway, or of this outway, does not hold: see stelsel explain",
            ) from error
        except asyncio.CancelledError:
            tls.abort()
            raise
        self._check_peer(tls)
        if carriers and not carriers[0].closing:
            self._carriers.append(carriers[0])
            self._made += 1
            carriers[0].open(connection)

    def _check_peer(self, tls: TlsConnection) -> None:
        try:
            certificate = identify(tls.get_extra_info("ssl_object"))
        except (BadRequest, Unauthenticated) as error:
            tls.abort()
            raise WrongPeer(f"the certificate of the inway does not hold: {error.detail}") from error
        if certificate.peer_id != self._peer_id:
            tls.abort()
            raise WrongPeer(
                f"the inway at {self._host}:{self._port} belongs to peer {certificate.peer_id}, not {self._peer_id}",
                next_step="ask the provider which address its inway has",
            )

    def _carrier_ended(self, carrier: Carrier) -> None:
        if carrier in self._carriers:
            self._carriers.remove(carrier)


class _Dress:
    """The header lines of an answer on its way to the application; errors of inway and service pass as they are."""

    __slots__ = ("_own",)

    def __init__(self, own: bytes) -> None:
        self._own = own

    def __call__(self, head: ResponseHead) -> bytes:
        return passing(head, ANSWERS_OF_INWAYS) + self._own


def _token_taken(head: ResponseHead) -> bool:
    return not (head.status == 401 and head.values.get(b"fsc-error-code") in _TOKEN_REFUSED)


@lru_cache(maxsize=1024)
def _service(name: str, personal: bool) -> Service:
    """A service of which only this is known; remembered, for making one costs more than deciding."""
    return Service.model_validate({"name": name, "endpoint": "http://outway", "personal": personal})

"""The inway: the door of this peer, through which others reach its services (FSC Core 4.7, Logging 3.3).

One straight line: certificate, token, transaction id, agreement in force now, decision, durable record, a second look
at the agreement, service, guard on the answer, durable record of whom it is about, back.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

from stelsel.agreements.fsc_errors import ServiceNotFound, ServiceUnreachable, TokenInvalid, TokenMissing
from stelsel.agreements.group import Group
from stelsel.agreements.services import Service
from stelsel.base.certificates import Certificate, KeyPair, TrustAnchors, identify
from stelsel.base.clock import Clock
from stelsel.base.errors import BadGateway, BadRequest, Fault, Unauthenticated
from stelsel.base.log import logger
from stelsel.exchange.call import Answer, Call
from stelsel.exchange.carrier import PROTOCOLS
from stelsel.exchange.facts import MAXIMUM_SUBJECTS, Facts, check, limits_data
from stelsel.exchange.faults import (
    GatewayTimeout,
    InvalidLogRecordId,
    InwayMethodUnsupported,
    MissingLogRecordId,
    OversuppliedAnswer,
    TransactionLogWriteError,
)
from stelsel.exchange.gateway import ClientConnection, Gateway
from stelsel.exchange.headers import ANSWERS, REQUESTS, REQUESTS_ABOUT_PEOPLE, UUID7, passing
from stelsel.exchange.heads import ResponseHead
from stelsel.exchange.identifiers import new_transaction_id
from stelsel.exchange.ports import AgreementsPort, LedgerPort, write_down
from stelsel.exchange.routing import origin_form
from stelsel.exchange.settings import InwaySettings
from stelsel.exchange.steps import look_again, read_question, still_holds
from stelsel.exchange.upstream import Pool, UpstreamConnection
from stelsel.exchange.wire import WireLimits, request_head
from stelsel.privacy import guard
from stelsel.privacy.decision import Reason, decide
from stelsel.privacy.subjects import SubjectReferences

_log = logger("exchange")

SUBJECTS_HEADER = b"stelsel-data-subjects"
"""In the answer of a service about people: the numbers of those it is about, comma-separated. Never passed on."""


class Inway(Gateway):
    """One inway. `listen` on a socket with `start`; `stop` drains it."""

    name = "inway"

    def __init__(
        self,
        *,
        agreements: AgreementsPort,
        ledger: LedgerPort,
        references: SubjectReferences,
        services: tuple[Service, ...],
        keypair: KeyPair,
        anchors: TrustAnchors,
        group: Group,
        clock: Clock,
        settings: InwaySettings,
    ) -> None:
        super().__init__(settings)
        self._agreements = agreements
        self._ledger = ledger
        self._references = references
        self._services = {service.name: service for service in services}
        self._keypair = keypair
        self._anchors = anchors
        self._group = group
        self._clock = clock
        self._settings = settings
        self._connected: Counter[str] = Counter()
        """Connections by peer id."""
        self._pools: dict[str, Pool] = {}
        self._hosts = {service.name: _host(service.endpoint) for service in services}

    async def start(self, listener: socket.socket) -> None:
        """Listen, with mutual TLS: only certificates under the group's trust anchors get through (4.7.1.1)."""
        await self.listen(listener, self._keypair.server_context(self._anchors, PROTOCOLS))
        for service in self._services.values():
            self._pools[service.name] = Pool(
                _connector(service.endpoint, WireLimits(body=self.limits.maximum_body)),
                maximum=self.limits.maximum_upstream,
                idle_seconds=self._settings.upstream_idle_seconds,
                connect_seconds=self.limits.connect_seconds,
            )

    async def stop(self, drain_seconds: float = 5.0) -> None:
        await super().stop(drain_seconds)
        for pool in self._pools.values():
            pool.close()

    def tidy(self, now: float) -> None:
        for pool in self._pools.values():
            pool.tidy(now)

    def admit(self, connection: ClientConnection, transport: asyncio.Transport) -> bool:
        """Read the client's certificate, once a connection; its chain was verified by TLS."""
        try:
            client = identify(transport.get_extra_info("ssl_object"))
        except (BadRequest, Unauthenticated) as fault:
            _log.warning("a client with a certificate of the group is not let in", detail=fault.detail)
            return False
        if self._connected[client.peer_id] >= self._settings.maximum_connections_per_peer:
            _log.warning("a peer has as many connections as it may", peer=client.peer_id)
            return False
        connection.identity = client
        self._connected[client.peer_id] += 1
        return True

    def gone(self, connection: ClientConnection) -> None:
        peer_id = connection.identity.peer_id
        self._connected[peer_id] -= 1
        if not self._connected[peer_id]:
            del self._connected[peer_id]

    async def carry(self, call: Call) -> None:
        client: Certificate = call.connection.identity
        now = self._clock.now()
        if now >= client.not_after:
            return  # it expired while connected: no answer, as at the handshake
        self._anchors.check_revoked(client)
        if call.head.method == b"CONNECT":
            raise InwayMethodUnsupported("CONNECT is not carried", next_step="send the request itself")
        facts = self._first_facts(call, client)
        try:
            service: Service | Fault = await self._judge(call, facts, client, now)
        except Fault as fault:
            service = fault  # nothing compiled waits while it handles a fault, see `steps`
        if isinstance(service, Fault):
            await write_down(self._ledger, facts.refusal(now, service), TransactionLogWriteError)
            raise service
        await write_down(self._ledger, facts.allowed(now), TransactionLogWriteError)
        now = self._clock.now()
        if not still_holds(self._agreements, facts, now):
            await look_again(self._agreements, self._ledger, facts, service, now, TransactionLogWriteError)
        await self._forward(call, facts, service)

    def _first_facts(self, call: Call, client: Certificate) -> Facts:
        given = call.head.values.get(b"fsc-transaction-id", b"")
        transaction_id = given.decode("ascii") if UUID7.fullmatch(given) else new_transaction_id()
        call.transaction_id = transaction_id
        facts = Facts("incoming", call.head, transaction_id)
        facts.consumer = client.peer_id
        facts.provider = self._keypair.certificate.peer_id
        return facts

    async def _judge(self, call: Call, facts: Facts, client: Certificate, now: float) -> Service:
        """The service that this request may have. Raises a `Fault` if none."""
        values = call.head.values
        token = values.get(b"fsc-authorization")
        if not token:
            raise TokenMissing("the header Fsc-Authorization holds no access token")
        claims = self._agreements.verify_token(token.decode("latin-1"), client.thumbprint)
        if claims.consumer != client.peer_id:
            raise TokenInvalid("the access token is meant for another peer")
        facts.grant_hash = claims.grant_hash
        facts.service = claims.service
        facts.consumer_delegator = claims.consumer_delegator
        facts.provider_delegator = claims.provider_delegator
        given = values.get(b"fsc-transaction-id")
        if given is None:
            raise MissingLogRecordId("the header Fsc-Transaction-Id is missing")
        if not UUID7.fullmatch(given):
            raise InvalidLogRecordId("the header Fsc-Transaction-Id holds no UUIDv7")
        service = self._services.get(claims.service)
        if service is None:
            raise ServiceNotFound("this inway does not offer the service in the access token")
        # The token may live longer than its agreement: only what is in force now authorises.
        agreement = self._agreements.agreement(claims.grant_hash)
        if agreement is not None and (agreement.consumer, agreement.provider) != (facts.consumer, facts.provider):
            agreement = None
        facts.agreement = agreement
        in_force = agreement is not None and agreement.holds(now)
        if agreement is not None and (service.personal or (in_force and limits_data(agreement))):
            await read_question(
                call,
                facts,
                service,
                origin_form(call.head.target),
                references=self._references if service.personal else None,
                limit=self.limits.maximum_read,
                in_force=in_force,
            )
        check(decide(service, agreement, facts.request, now))
        return service

    async def _forward(self, call: Call, facts: Facts, service: Service) -> None:
        head = call.head
        forwarded = request_head(
            head.method,
            origin_form(head.target),  # never another host than the one of the service
            self._hosts[service.name],
            b"".join(
                (
                    passing(head, REQUESTS_ABOUT_PEOPLE if service.personal else REQUESTS),
                    b"Fsc-Authorization: ",
                    head.values[b"fsc-authorization"],  # FSC Core 4.7.1.3: the service gets it too
                    b"\r\n",
                    facts.transaction_line,
                    facts.traceparent,
                    call.framing(),
                )
            ),
        )
        pool = self._pools[service.name]
        answer: Answer | None = None
        unreadable = ""
        try:
            if service.personal:
                answer = await call.fetch(pool, forwarded, self.limits.maximum_answer)
            else:
                await call.relay(pool, forwarded, _Dress(facts.transaction_line))
                return
        except GatewayTimeout:
            raise
        except OversuppliedAnswer as fault:
            unreadable = fault.detail
        except BadGateway as fault:
            raise ServiceUnreachable(
                f"the service gave no usable answer: {fault.detail}",
                next_step="the provider must see whether the service runs and answers as HTTP/1.1",
            ) from fault
        if answer is None:
            await self._hold_back(facts, Reason.UNREADABLE_ANSWER, (), unreadable)
        await self._release(call, facts, service, answer)

    async def _release(self, call: Call, facts: Facts, service: Service, answer: Answer) -> None:
        """Let an answer about people go: guarded, and recorded about whom it is."""
        head = answer.head
        told: list[str] = []
        if 200 <= head.status < 300:
            told = await self._guard(facts, service, answer)
        else:
            told = await self._guard_error(facts, service, answer)
        numbers = dict.fromkeys(told)
        if len(numbers) > MAXIMUM_SUBJECTS:
            await self._hold_back(
                facts, Reason.TOO_MANY_RESIDENTS, (), f"the answer is about more than {MAXIMUM_SUBJECTS} residents"
            )
        about = self._about(numbers)
        if about is None:
            await self._hold_back(
                facts, Reason.UNREADABLE_ANSWER, (), "the service named someone by something that is no valid number"
            )
        new = tuple(reference for reference in about if reference not in facts.subjects)
        await write_down(self._ledger, facts.answered_about(self._clock.now(), new), TransactionLogWriteError)
        call.answer(head.status, head.reason, _Dress(facts.transaction_line)(head), answer.body)

    def _about(self, numbers: Iterable[str]) -> list[str] | None:
        """The references of those who have these numbers, each once; None when one of them is no valid number."""
        try:
            return list(dict.fromkeys(self._references.of(number) for number in numbers))
        except BadRequest:
            return None

    async def _guard(self, facts: Facts, service: Service, answer: Answer) -> list[str]:
        """The numbers of those whom the answer is about. Holds the answer back when it says too much or too little."""
        if not answer.body:
            return _told(answer.head)
        unreadable: str | None = None
        try:
            _check_coding(answer.head)
            over = guard.oversupplied(service, answer.body, facts.request.fields)
            count = guard.record_count(service, answer.body)
            named = guard.answer_subjects(service, answer.body)
        except BadGateway as fault:
            unreadable = fault.detail
        if unreadable is not None:
            await self._hold_back(facts, Reason.UNREADABLE_ANSWER, (), unreadable)
        if over:
            await self._hold_back(facts, Reason.OVERSUPPLIED, over, "the service answered more than was asked")
        told = _told(answer.head)
        if not facts.subjects and not told and count > len(named):
            await self._hold_back(
                facts,
                Reason.UNREADABLE_ANSWER,
                (),
                "the service did not say whom its answer is about (header Stelsel-Data-Subjects)",
            )
        return [*told, *named]

    async def _guard_error(self, facts: Facts, service: Service, answer: Answer) -> list[str]:
        """The same of an answer that is no success.

        An error of the service passes unaltered (4.7.2.2), so it may hold anything but what a service about people is
        asked for: records. Those belong in a success, where what they say is checked.
        """
        head = answer.head
        unreadable: str | None = None
        records = False
        if answer.body:
            kind = head.values.get(b"content-type", b"").decode("latin-1")
            try:
                _check_coding(head)
                records = guard.error_holds_records(service, kind, answer.body, facts.request.fields)
            except BadGateway as fault:
                unreadable = fault.detail
        if unreadable is not None:
            await self._hold_back(facts, Reason.UNREADABLE_ANSWER, (), unreadable)
        if records:
            await self._hold_back(facts, Reason.OVERSUPPLIED, (), "the service put records into an error")
        return _told(head)

    async def _hold_back(self, facts: Facts, reason: Reason, paths: tuple[str, ...], detail: str) -> NoReturn:
        await write_down(self._ledger, (facts.stopped(self._clock.now(), reason, paths),), TransactionLogWriteError)
        extra = {"fields": list(paths)} if paths else {}
        raise OversuppliedAnswer(
            detail, next_step="the provider must mend the service; nothing was released", reason=reason.value, **extra
        )


class _Dress:
    """The header lines of an answer on its way back: the service speaks for itself, not for us."""

    __slots__ = ("_own",)

    def __init__(self, own: bytes) -> None:
        self._own = own

    def __call__(self, head: ResponseHead) -> bytes:
        return passing(head, ANSWERS) + self._own


def _told(head: ResponseHead) -> list[str]:
    value = head.values.get(SUBJECTS_HEADER, b"").decode("latin-1")
    return [number for number in (part.strip() for part in value.split(",")) if number]


def _check_coding(head: ResponseHead) -> None:
    if head.values.get(b"content-encoding", b"identity").lower() != b"identity":
        raise BadGateway("the answer of the service cannot be checked: it is compressed")


def _host(endpoint: str) -> bytes:
    return b"localhost" if endpoint.startswith("unix:") else endpoint.removeprefix("http://").encode("ascii")


def _connector(endpoint: str, limits: WireLimits) -> _Connector:
    return _Connector(endpoint, limits)


class _Connector:
    """Makes connections to a service: http://host:port or unix:/path."""

    def __init__(self, endpoint: str, limits: WireLimits) -> None:
        self._path = endpoint.removeprefix("unix:") if endpoint.startswith("unix:") else ""
        host, _, port = endpoint.removeprefix("http://").rpartition(":")
        if not host:
            host, port = port, "80"
        self._address = (host.strip("[]"), int(port) if not self._path else 0)
        self._limits = limits

    async def __call__(self, pool: Pool, fresh: bool) -> UpstreamConnection:  # noqa: ARG002  it shares none
        loop = asyncio.get_running_loop()
        if self._path:
            _, connection = await loop.create_unix_connection(
                lambda: UpstreamConnection(pool, self._limits), self._path
            )
        else:
            host, port = self._address
            _, connection = await loop.create_connection(lambda: UpstreamConnection(pool, self._limits), host, port)
        return connection

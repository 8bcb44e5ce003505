"""The intake: judges what other peers submit, before anything of it is kept (FSC Core 4.2.1, 4.2.3 and 4.4.1.3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from stelsel.agreements import gate as gates
from stelsel.agreements import hashes, signatures
from stelsel.agreements.client import PeerClients, PeerRefused
from stelsel.agreements.contract import Contract, check, check_offered, check_parties, parse
from stelsel.agreements.fsc_errors import (
    ContractNotAcceptable,
    ObligationNotMet,
    PeerIdSignatureMismatch,
    SignatureVerificationFailed,
    UrlPathContentHashMismatch,
)
from stelsel.agreements.gate import Gate
from stelsel.agreements.group import Group
from stelsel.agreements.memory import Memory
from stelsel.agreements.signatures import Signature
from stelsel.base.certificates import Certificate, TrustAnchors
from stelsel.base.errors import BadGateway, TooMany, Unauthenticated, Unavailable

MAXIMUM_CONTRACTS = 100_000
"""Contracts that one peer may bring in, for ever: a bound on what a peer can fill our disk with."""

_MOST_CHAINS = 10_000


@dataclass(frozen=True, slots=True)
class Submission:
    """What a peer sent: `kind` is `submit` or the type of signature; `path_hash` is the hash in the path, if any."""

    kind: str
    content: Any
    signature: Any
    certificate: Certificate
    manager_address: str
    path_hash: str | None = None

    @property
    def signature_type(self) -> str:
        return "accept" if self.kind == "submit" else self.kind


class Intake:
    """Judges submissions. It changes nothing."""

    def __init__(
        self,
        *,
        memory: Memory,
        clients: PeerClients,
        anchors: TrustAnchors,
        group: Group,
        certificate: Certificate,
        services: frozenset[str],
        address_of: Callable[[str], Awaitable[str]],
    ) -> None:
        self._memory = memory
        self._clients = clients
        self._anchors = anchors
        self._group = group
        self._peer_id = certificate.peer_id
        self._thumbprint = certificate.thumbprint
        self._services = services
        self._address_of = address_of
        self._chains: dict[tuple[str, str], tuple[bytes, ...]] = {}
        self._signers: dict[str, str] = {}

    async def judge(self, submission: Submission, gate: Gate | None, now: float) -> tuple[Contract, Signature]:
        """The contract and the verified signature in it. Raises the FSC fault that tells why not."""
        submitter = submission.certificate.peer_id
        contract = parse(submission.content)
        if submission.path_hash is not None:
            hashes.check_content_hash(submission.path_hash)
            if submission.path_hash != contract.content_hash:
                raise UrlPathContentHashMismatch("the hash in the path is not that of the content in the body")
        known = self._memory.get(contract.content_hash)
        if known is None:
            check(contract, self._group, now)
        check_parties(contract, submitter=submitter, receiver=self._peer_id, group=self._group)
        if known is None:
            check_offered(contract, self._peer_id, self._services)
            self.check_iv(contract)
        thumbprint = signatures.thumbprint_of(submission.signature)
        signatures.check_meant_for(submission.signature, contract, submission.signature_type)
        signature = signatures.verify(
            submission.signature,
            contract,
            submission.signature_type,
            await self._chain(thumbprint, submission, now),
            submitter=submitter,
            anchors=self._anchors,
            now=now,
            clock_skew=self._group.clock_skew,
        )
        self._remember(submitter, thumbprint, signature.chain)
        if known is None or (submission.kind == "submit" and (submitter, "accept") not in known.signatures):
            # Only what is new: contracts that run, and signatures on contracts that are here, pass.
            refusal = await gates.ask(gate, submitter, now)
            if refusal is not None:
                raise ObligationNotMet(refusal.reason, evidence=refusal.evidence)
        if known is None and self._memory.proposed_by(submitter) >= MAXIMUM_CONTRACTS:
            raise TooMany(f"this peer has brought in {MAXIMUM_CONTRACTS} contracts, more are not taken")
        return contract, signature

    def check_iv(self, contract: Contract) -> None:
        """Only one contract may exist with an initialization vector (4.2.1). Raises `ContractNotAcceptable`."""
        if self._memory.hash_with(contract.iv) not in {None, contract.content_hash}:
            raise ContractNotAcceptable("another contract with this iv exists", next_step="use a new UUID as iv")

    async def _chain(self, thumbprint: str, submission: Submission, now: float) -> tuple[bytes, ...]:
        """The certificate chain that the signature was made with, out of the submitter's key set (4.4.1.4)."""
        own = submission.certificate
        if thumbprint == own.thumbprint and self._holds((own.der,), now):
            return (own.der,)  # the very certificate that this connection proved possession of
        if thumbprint == self._thumbprint or self._signers.get(thumbprint, own.peer_id) != own.peer_id:
            raise PeerIdSignatureMismatch("the signature is by another peer than the one that submits it")
        chain = self._chains.get((own.peer_id, thumbprint))
        if chain is not None:
            return chain
        try:
            address = submission.manager_address or await self._address_of(own.peer_id)
            keys = await self._clients.get(own.peer_id, address, "/v1/.well-known/jwks.json")
        except (Unavailable, BadGateway, PeerRefused) as error:
            raise SignatureVerificationFailed(
                f"the certificate cannot be had from the manager of peer {own.peer_id}: {error.detail}"
            ) from error
        chain = signatures.chain_in(keys, thumbprint)
        if chain is None:
            raise SignatureVerificationFailed(f"the manager of peer {own.peer_id} shows no certificate with it")
        return chain

    def _remember(self, submitter: str, thumbprint: str, chain: tuple[bytes, ...]) -> None:
        # Only after verification, and by peer: what one peer shows may not stand in the way of another.
        if len(self._chains) >= _MOST_CHAINS:
            self._chains.clear()
            self._signers.clear()
        self._chains[submitter, thumbprint] = chain
        self._signers[thumbprint] = submitter

    def _holds(self, chain: tuple[bytes, ...], now: float) -> bool:
        try:
            self._anchors.verify(chain, now)
        except Unauthenticated:
            return False
        return True

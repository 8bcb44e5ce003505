"""The intake: judges what other peers submit, before anything of it is kept (FSC Core 4.2.1, 4.2.3 and 4.4.1.3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from stelsel.agreements import gate as gates
from stelsel.agreements import hashes, signatures
from stelsel.agreements.catch_up import ListedSignature
from stelsel.agreements.client import PeerClients, PeerRefused
from stelsel.agreements.contract import Contract, check, check_offered, check_offerer, check_parties, parse
from stelsel.agreements.dialect import USUAL, Dialect
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
from stelsel.base.certificates import Certificate, KeyPair, TrustAnchors
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
        keypair: KeyPair,
        services: frozenset[str],
        address_of: Callable[[str], Awaitable[str]],
        dialect: Dialect = USUAL,
    ) -> None:
        self._memory = memory
        self._clients = clients
        self._anchors = anchors
        self._group = group
        self._own = keypair
        self._peer_id = keypair.certificate.peer_id
        self._services = services
        self._address_of = address_of
        self._dialect = dialect
        self._chains: dict[tuple[str, str], tuple[bytes, ...]] = {}
        self._signers: dict[str, str] = {}

    async def judge(self, submission: Submission, gate: Gate | None, now: float) -> tuple[Contract, Signature]:
        """The contract and the verified signature in it. Raises the FSC fault that tells why not."""
        submitter = submission.certificate.peer_id
        contract = parse(submission.content, self._dialect)
        if submission.path_hash is not None:
            hashes.check_content_hash(submission.path_hash)
            if submission.path_hash != contract.content_hash:
                raise UrlPathContentHashMismatch("the hash in the path is not that of the content in the body")
        self._check(contract, submitter, now)
        thumbprint = signatures.thumbprint_of(submission.signature, self._group.signature_algorithms, self._dialect)
        signatures.check_meant_for(submission.signature, contract, submission.signature_type)
        own = submission.certificate
        if thumbprint == own.thumbprint and self._holds((own.der,), now):
            chain: tuple[bytes, ...] = (own.der,)  # the very certificate that this connection proved possession of
        else:
            chain = await self._chain(thumbprint, submitter, submission.manager_address)
        signature = self._verify(submission.signature, contract, submission.signature_type, chain, submitter, now)
        await self._ask_gate(contract, signature, gate, now)
        return contract, signature

    async def judge_listed(self, listed: ListedSignature, gate: Gate | None, now: float) -> tuple[Contract, Signature]:
        """As `judge`, of a signature that a counterparty lists: it may be of any peer in the contract, us included."""
        known = self._memory.get(hashes.content_hash(listed.content))
        contract = parse(listed.content, self._dialect) if known is None else known.contract
        self._check(contract, listed.peer_id, now)
        thumbprint = signatures.thumbprint_of(listed.compact, self._group.signature_algorithms, self._dialect)
        signatures.check_meant_for(listed.compact, contract, listed.kind)
        chain = await self._chain(thumbprint, listed.peer_id, "")
        signature = self._verify(listed.compact, contract, listed.kind, chain, listed.peer_id, now)
        await self._ask_gate(contract, signature, gate, now)
        return contract, signature

    def check_iv(self, contract: Contract) -> None:
        """Only one contract may exist with an initialization vector (4.2.1). Raises `ContractNotAcceptable`."""
        if self._memory.hash_with(contract.iv) not in {None, contract.content_hash}:
            raise ContractNotAcceptable("another contract with this iv exists", next_step="use a new UUID as iv")

    def check_own(self, contract: Contract, now: float) -> None:
        """Whether this peer may propose a contract itself. Raises an FSC fault."""
        check(contract, self._group, now)
        published = self._memory.published_for(self._peer_id, now)
        check_offered(contract, self._peer_id, self._services, published)
        check_parties(contract, submitter=self._peer_id, receiver=self._peer_id, group=self._group)

    def _check(self, contract: Contract, submitter: str, now: float) -> None:
        """The rules that need no signature; of a contract that is here already, only who may sign it."""
        new = self._memory.get(contract.content_hash) is None
        if new:
            check(contract, self._group, now)
        check_parties(contract, submitter=submitter, receiver=self._peer_id, group=self._group)
        if not new:
            return
        check_offerer(contract, submitter=submitter, receiver=self._peer_id, dialect=self._dialect)
        check_offered(contract, self._peer_id, self._services, self._memory.published_for(self._peer_id, now))
        self.check_iv(contract)
        if self._memory.proposed_by(submitter) >= MAXIMUM_CONTRACTS:
            raise TooMany(f"this peer has brought in {MAXIMUM_CONTRACTS} contracts, more are not taken")

    async def _ask_gate(self, contract: Contract, signature: Signature, gate: Gate | None, now: float) -> None:
        """The gate is asked about each peer that newly becomes a party, whoever brought the contract in.

        What it signed before, it may sign again (4.2.7); and rejecting and revoking is always free.
        """
        known = self._memory.get(contract.content_hash)
        if signature.peer_id == self._peer_id:
            return
        if known is not None and (signature.type != "accept" or (signature.peer_id, "accept") in known.signatures):
            return
        refusal = await gates.ask(gate, signature.peer_id, now)
        if refusal is not None:
            raise ObligationNotMet(refusal.reason, evidence=refusal.evidence)

    def _verify(
        self, compact: str, contract: Contract, kind: str, chain: tuple[bytes, ...], signer: str, now: float
    ) -> Signature:
        signature = signatures.verify(
            compact,
            contract,
            kind,
            chain,
            submitter=signer,
            anchors=self._anchors,
            now=now,
            clock_skew=self._group.clock_skew,
            algorithms=self._group.signature_algorithms,
            dialect=self._dialect,
        )
        self._remember(signer, chain)
        return signature

    async def _chain(self, thumbprint: str, signer: str, address: str) -> tuple[bytes, ...]:
        """The certificate chain that the signature was made with, out of the signer's key set (4.4.1.4)."""
        own = thumbprint == self._own.certificate.thumbprint
        if own and signer == self._peer_id:
            return self._own.chain
        if own or self._signers.get(thumbprint, signer) != signer:
            raise PeerIdSignatureMismatch("the signature is by another peer than the one that submits it")
        chain = self._chains.get((signer, thumbprint))
        if chain is not None:
            return chain
        if signer == self._peer_id:
            raise SignatureVerificationFailed("a signature of ours is made with a certificate that is not here")
        try:
            address = address or await self._address_of(signer)
            keys = await self._clients.get(signer, address, "/v1/.well-known/jwks.json")
        except (Unavailable, BadGateway, PeerRefused) as error:
            raise SignatureVerificationFailed(
                f"the certificate cannot be had from the manager of peer {signer}: {error.detail}"
            ) from error
        chain = signatures.chain_in(keys, thumbprint)
        if chain is None:
            raise SignatureVerificationFailed(f"the manager of peer {signer} shows no certificate with it")
        return chain

    def _remember(self, signer: str, chain: tuple[bytes, ...]) -> None:
        # Only after verification, and by peer: what one peer shows may not stand in the way of another.
        if len(self._chains) >= _MOST_CHAINS:
            self._chains.clear()
            self._signers.clear()
        thumbprint = self._anchors.identify(chain[0]).thumbprint
        self._chains[signer, thumbprint] = chain
        self._signers[thumbprint] = signer

    def _holds(self, chain: tuple[bytes, ...], now: float) -> bool:
        try:
            self._anchors.verify(chain, now)
        except Unauthenticated:
            return False
        return True

"""Steering at work: runs the checks, keeps the log, answers where a peer stands. Only the steward has one."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import asdict, replace
from datetime import date
from typing import Any, Protocol

import httpx

from stelsel.agreements.stored import ListedPeer
from stelsel.base import jose, tasks
from stelsel.base.canonical import canonical, parse_object
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.errors import ConfigurationFault, Conflict, Fault, NotFound, Unprocessable
from stelsel.base.ids import uuid7
from stelsel.base.log import logger
from stelsel.base.text import inert
from stelsel.steering.board import Board, board
from stelsel.steering.checks import CHECKS, Check, Target
from stelsel.steering.findings import Finding, Outcome, Reason, Standing, standings
from stelsel.steering.gate import read_limited
from stelsel.steering.goal_reports import GoalReports
from stelsel.steering.goals import read_goals
from stelsel.steering.log import explanation_body, finding_body, finding_of
from stelsel.steering.obligations import Appeal, Explanation, Obligation, Obligations, end_of, read_obligations
from stelsel.steering.settings import SteeringSettings
from stelsel.steering.store import Log

_log = logger("steering")
_AT_ONCE = 4
_PATIENCE = 5.0


class Directory(Protocol):
    """What steering needs of `Agreements`: who there is, and a client that speaks to one peer only."""

    async def directory_peers(self) -> list[ListedPeer]: ...

    async def peer_client(self, peer_id: str) -> httpx.AsyncClient: ...


class Steering:
    """The steward's work. `start` before anything else."""

    def __init__(
        self,
        *,
        database: Database,
        agreements: Directory,
        keypair: KeyPair,
        anchors: TrustAnchors,
        clock: Clock,
        settings: SteeringSettings,
    ) -> None:
        self._agreements, self._keypair, self._anchors = agreements, keypair, anchors
        self._clock, self._settings = clock, settings
        self._checks: dict[str, Check] = CHECKS
        self._signer = jose.Signer(keypair)
        self.log = Log(database, self._signer)
        self.obligations = (
            read_obligations(settings.obligations) if settings.obligations else Obligations(obligations=())
        )
        goals = read_goals(settings.goals) if settings.goals else None
        self.goals = GoalReports(goals, self.web_address_of, anchors, clock)
        self._peers: dict[str, ListedPeer] = {}
        self._running = asyncio.Lock()
        self._ticker: asyncio.Task[None] | None = None
        for obligation in self.obligations.obligations:
            for reference in obligation.checks:
                if reference not in self._checks:
                    raise ConfigurationFault(
                        f"{settings.obligations}: obligation {obligation.id} names the check {reference}, which this "
                        "version does not have",
                        next_step=f"name one of: {', '.join(sorted(self._checks))}",
                    )

    @property
    def certificate_pem(self) -> bytes:
        """The certificate with which the log is verified, PEM."""
        return self._keypair.certificate_file.read_bytes()

    async def start(self) -> None:
        """Read the log, declare changed obligations in it, and begin checking at the interval of the settings."""
        self.log.load()
        for obligation in self.obligations.obligations:
            if self.log.declared.get(obligation.id) != obligation.ruleset_hash:
                body = {"obligation": obligation.model_dump(mode="json"), "ruleset_hash": obligation.ruleset_hash}
                await self.log.append("obligation", self._clock.now(), body)
        if self._settings.interval:
            self._ticker = asyncio.create_task(self._tick(self._settings.interval))

    async def stop(self) -> None:
        """Stop checking; what was found is in the log already."""
        ticker, self._ticker = self._ticker, None
        await tasks.end(ticker)

    async def run_checks(self, peer_id: str | None = None) -> list[Finding]:
        """Run all checks of all known peers, or of one, as one run; the findings, each already in the log.

        Raises `NotFound` for a peer that the directory does not know. One run at a time.
        """
        async with self._running:
            await self._refresh_peers()
            if peer_id is not None and peer_id not in self._peers:
                raise NotFound("the directory knows no such peer", next_step="see: stelsel peers")
            run = uuid7(self._clock.now())
            at_once = asyncio.Semaphore(_AT_ONCE)

            async def one(peer: ListedPeer) -> list[Finding]:
                async with at_once:
                    return await self._check_peer(peer, run)

            chosen = [peer for peer in self._peers.values() if peer_id in (None, peer.peer_id)]
            found = await asyncio.gather(*(one(peer) for peer in chosen))
        return [finding for of_peer in found for finding in of_peer]

    def now(self) -> float:
        """The steward's clock, seconds since the epoch."""
        return self._clock.now()

    def standings(self, peer_id: str, now: float) -> tuple[Standing, ...]:
        """Where a peer stands with each of its obligations at `now`."""
        return standings(
            self.obligations.binding_on(peer_id),
            peer_id,
            self.log.findings(peer_id),
            self.log.explanations,
            list(self.log.appeals.values()),
            now,
        )

    def board(self, now: float | None = None) -> Board:
        """The board at `now` (default: this moment), of every peer that is known or was ever checked."""
        at = self._clock.now() if now is None else now
        ids = sorted(self._peers.keys() | self.log.peers())
        named = {peer_id: inert(peer.name, 200) for peer_id, peer in self._peers.items()}
        return board([(peer_id, named.get(peer_id, peer_id), self.standings(peer_id, at)) for peer_id in ids], at)

    async def explain(self, obligation: str, peer_id: str, text: str, until: date, approved_by: str) -> Explanation:
        """Record an explanation that the steward approves: the consequence waits until and including `until`."""
        self._bound(obligation, peer_id)
        explanation = Explanation(
            uuid7(self._clock.now()),
            obligation,
            peer_id,
            inert(text, 2000),
            until,
            inert(approved_by, 200),
            self._clock.now(),
        )
        if not explanation.text.strip() or not explanation.holds(self._clock.now()):
            raise Unprocessable("an explanation needs a text and a last day that has not passed")
        await self.log.append("explanation", explanation.approved_at, explanation_body(explanation))
        return explanation

    async def appeal(self, obligation: str, peer_id: str, text: str) -> Appeal:
        """Record a peer's appeal against its present standing. A timely one pauses the consequence."""
        self._bound(obligation, peer_id)
        now = self._clock.now()
        standing = next(one for one in self.standings(peer_id, now) if one.obligation.id == obligation)
        if standing.since is None or not any(finding.outcome is Outcome.NOT_MET for finding in standing.findings):
            raise Conflict("there is nothing to appeal against: the obligation was not found broken")
        if any(one.decided_at is None for one in self._appeals_of(obligation, peer_id)):
            raise Conflict("an appeal about this obligation is pending already")
        decided_before = [one for one in self._appeals_of(obligation, peer_id) if one.against_at == _against(standing)]
        if decided_before:
            raise Conflict("an appeal against this was decided already")
        appeal = Appeal(uuid7(now), obligation, peer_id, inert(text, 2000), _against(standing), now)
        await self.log.append("appeal", now, _appeal_body(appeal))
        return appeal

    async def decide_appeal(self, identifier: str, *, granted: bool, until: date | None = None, by: str = "") -> Appeal:
        """Decide an appeal. Granting one takes a last day: it is recorded as an explanation until then."""
        appeal = self.log.appeals.get(identifier)
        if appeal is None:
            raise NotFound("there is no such appeal")
        if appeal.decided_at is not None:
            raise Conflict("this appeal was decided already")
        if granted:
            if until is None:
                raise Unprocessable("granting an appeal takes a last day on which it holds")
            await self.explain(
                appeal.obligation, appeal.peer, appeal.text, until, by or self._keypair.certificate.peer_name
            )
        now = self._clock.now()
        decided = replace(appeal, decided_at=now, granted=granted)
        await self.log.append("appeal", now, _appeal_body(decided))
        return decided

    async def web_address_of(self, peer_id: str) -> str:
        """The web address that a peer gives of itself. Raises a fault or `httpx.HTTPError` when it cannot be asked."""
        if peer_id not in self._peers:
            await self._refresh_peers()
        peer = self._peers.get(peer_id)
        if peer is None or not peer.manager_address:
            raise NotFound("the directory knows no such peer")
        client = await self._agreements.peer_client(peer_id)
        async with asyncio.timeout(_PATIENCE):
            async with client.stream("GET", f"{peer.manager_address}/stelsel/v1/node") as answer:
                body = await read_limited(answer, 16 * 1024)
        told = parse_object(body) if answer.status_code == 200 else {}
        address = told.get("web_address")
        if answer.status_code != 200 or not isinstance(address, str):
            raise Unprocessable("the peer does not tell its web address")
        return address.rstrip("/")[:255]

    async def _check_peer(self, peer: ListedPeer, run: str) -> list[Finding]:
        obligations = [one for one in self.obligations.binding_on(peer.peer_id) if one.applies(self._clock.now())]
        wanted = {reference for obligation in obligations for reference in obligation.checks}
        if not wanted:
            return []
        try:
            web_address: str | None = await self.web_address_of(peer.peer_id)
        except (Fault, httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, ValueError):
            web_address = None
        target = Target(
            peer_id=peer.peer_id,
            manager_address=peer.manager_address,
            web_address=web_address or "",
            keypair=self._keypair,
            anchors=self._anchors,
            local_addresses=self._settings.local_addresses,
        )
        found: list[Finding] = []
        for reference in sorted(wanted):
            check = self._checks[reference]
            if web_address is None and check.name == "security_txt":
                result = _not_told()
            else:
                evidence = await check.run(target, self._clock.now())
                result = (
                    evidence.verdict.outcome,
                    evidence.verdict.reasons,
                    evidence.verdict.advice,
                    evidence.to_json(),
                )
            found += [
                await self._record(obligation, peer.peer_id, run, check, result)
                for obligation in obligations
                if reference in obligation.checks
            ]
        return found

    async def _record(
        self,
        obligation: Obligation,
        peer_id: str,
        run: str,
        check: Check,
        result: tuple[Outcome, tuple[Reason, ...], tuple[Reason, ...], dict[str, Any]],
    ) -> Finding:
        outcome, reasons, advice, evidence = result
        finding = Finding(
            id="",
            obligation=obligation.id,
            peer=peer_id,
            outcome=outcome,
            at=self._clock.now(),
            run=run,
            check=check.name,
            check_version=check.version,
            ruleset_hash=obligation.ruleset_hash,
            evidence_hash=evidence_hash(evidence),
            reasons=reasons,
            advice=advice,
            evidence=json.loads(json.dumps(evidence)),
        )
        return finding_of(await self.log.append("finding", finding.at, finding_body(finding)))

    async def _refresh_peers(self) -> None:
        """Ask the directory who there is; the last known answer stands when it cannot be asked."""
        try:
            listed = await self._agreements.directory_peers()
        except (Fault, httpx.HTTPError, OSError, TimeoutError) as error:
            _log.warning("the directory gave no list of peers", error=type(error).__name__)
            return
        self._peers = {peer.peer_id: peer for peer in listed}

    async def _tick(self, interval: int) -> None:
        while True:
            try:
                await self.run_checks()
            except Exception as error:  # noqa: BLE001  the next run may do better; stopping would end all checking
                _log.error("a run of the checks failed", exc_info=error)
            await asyncio.sleep(interval)

    def _bound(self, obligation: str, peer_id: str) -> None:
        if all(one.id != obligation for one in self.obligations.binding_on(peer_id)):
            raise NotFound("this peer has no such obligation")

    def _appeals_of(self, obligation: str, peer_id: str) -> list[Appeal]:
        return [one for one in self.log.appeals.values() if (one.obligation, one.peer) == (obligation, peer_id)]


def evidence_hash(evidence: dict[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of evidence."""
    return hashlib.sha256(canonical(evidence)).hexdigest()


def _not_told() -> tuple[Outcome, tuple[Reason, ...], tuple[Reason, ...], dict[str, Any]]:
    reason = Reason("De organisatie vertelde niet waar haar website is.", "The peer did not tell where its website is.")
    evidence: dict[str, Any] = {"transcript": ["GET /stelsel/v1/node: no usable answer"], "facts": {}}
    return Outcome.ERROR, (reason,), (), evidence


def _against(standing: Standing) -> float:
    """What an appeal is against: the obligation's deadline having passed unmet, or the failure found after it."""
    return max(standing.since or 0.0, end_of(standing.obligation.deadline) if standing.due else 0.0)


def _appeal_body(appeal: Appeal) -> dict[str, Any]:
    return asdict(appeal)

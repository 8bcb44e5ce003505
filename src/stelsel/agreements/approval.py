"""The shell of `policy`: the rules of this peer, asked about each new contract, and every decision logged."""

from __future__ import annotations

from stelsel.agreements.contract import Contract
from stelsel.agreements.group import Group
from stelsel.agreements.policy import Verdict, judge, rules_of
from stelsel.agreements.settings import AgreementsSettings
from stelsel.agreements.signatures import Signature
from stelsel.base import jose
from stelsel.base.log import logger

_log = logger("agreements")


class Approver:
    """Decides which new contracts are accepted without anyone looking."""

    def __init__(self, peer_id: str, group: Group, settings: AgreementsSettings) -> None:
        self._peer_id = peer_id
        self._group = group
        self._rules = rules_of(peer_id, group, settings.approve)

    def verdict(self, contract: Contract, signature: Signature, now: float) -> Verdict:
        """Whether the contract, offered with this verified signature of another peer, passes a rule at `now`."""
        algorithm = str(jose.peek(signature.compact)[0].get("alg", ""))
        return judge(contract, algorithm, self._rules, peer_id=self._peer_id, group=self._group, now=now)

    def approves(self, contract: Contract, signature: Signature, now: float) -> bool:
        """As `verdict`, for a contract that came in; the decision is logged, with the reasons when it is no."""
        if not self._rules:
            return False
        found = self.verdict(contract, signature, now)
        reasons = "; ".join(f"{each.rule}: {each.words.en}".removeprefix(": ") for each in found.objections)
        _log.info(
            "accepted by rule" if found.accepted else "waits for a person",
            contract=contract.content_hash,
            peer=signature.peer_id,
            rule=found.rule,
            reasons=reasons,
        )
        return found.accepted

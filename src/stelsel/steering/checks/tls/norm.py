"""The norm of `tls`: TLS 1.2 or 1.3 only, forward secrecy with authenticated encryption, a certificate that holds.

After RFC 9325 (BCP 195) sections 3.1.1 and 4.2, NCSC-NL's TLS guidelines, and Digikoppeling 3.4.3.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from stelsel.steering.findings import Outcome, Reason, Verdict

OLD_VERSIONS = ("TLSv1", "TLSv1.1")
NEW_VERSIONS = ("TLSv1.2", "TLSv1.3")
_LABEL = {"TLSv1": "TLS 1.0", "TLSv1.1": "TLS 1.1", "TLSv1.2": "TLS 1.2", "TLSv1.3": "TLS 1.3"}
NOTICE_SECONDS = 30 * 86400

_SAFE_SUITE = re.compile(r"(TLS_\w+|(ECDHE|DHE)-(ECDSA|RSA)-[A-Z0-9-]*(GCM|CCM8?|POLY1305)[A-Z0-9-]*)")


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What the probe established. None: could not be established."""

    host: str
    peer_id: str
    """Whose manager it should be."""
    versions: dict[str, bool | None]
    """Protocol version: accepted or not; None when our own library cannot offer it, or it could not be seen."""
    suites: dict[str, str]
    """Per accepted version, the suite chosen when all safe ones are offered."""
    weak_suites: tuple[str, ...] | None
    """Unsafe suites that TLS 1.2 accepts, of those that our library can offer."""
    weak_suites_tried: int
    certificate_peer_id: str | None
    """The OIN in the certificate."""
    not_after: float | None
    chain_holds: bool | None
    chain_error: str
    host_matches: bool | None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        values = asdict(self)
        values["weak_suites"] = None if self.weak_suites is None else list(self.weak_suites)
        return values


def is_safe(suite: str) -> bool:
    """Whether a cipher suite (OpenSSL's name) has forward secrecy and authenticated encryption."""
    return _SAFE_SUITE.fullmatch(suite) is not None


def judge(facts: TlsFacts, now: float) -> Verdict:
    """What the norm says of the facts at `now` (seconds since the epoch)."""
    broken = [*_of_protocol(facts), *_of_certificate(facts, now)]
    if broken:
        return Verdict(Outcome.NOT_MET, tuple(broken), _advice(facts, now))
    unseen = [version for version in OLD_VERSIONS if facts.versions.get(version) is None]
    if facts.weak_suites is None and facts.versions.get("TLSv1.2"):
        unseen.append("TLSv1.2-suites")
    if unseen or None in (facts.chain_holds, facts.host_matches, facts.not_after, facts.certificate_peer_id):
        what = ", ".join(unseen) or "certificate"
        reason = Reason(f"Niet alles was te meten: {what}.", f"Not all could be measured: {what}.")
        return Verdict(Outcome.UNKNOWN, (reason,), _advice(facts, now))
    accepted = " en ".join(_LABEL[version] for version in NEW_VERSIONS if facts.versions.get(version))
    reason = Reason(
        f"Alleen {accepted}, alleen veilige versleuteling, en het certificaat klopt.",
        f"Only {accepted.replace(' en ', ' and ')}, only safe ciphers, and the certificate holds.",
    )
    return Verdict(Outcome.MET, (reason,), _advice(facts, now))


def _of_protocol(facts: TlsFacts) -> list[Reason]:
    reasons = [
        Reason(
            f"Neemt {_LABEL[version]} nog aan; dat is onveilig en moet uit.",
            f"Still accepts {_LABEL[version]}, which is unsafe and must be switched off (RFC 9325, 3.1.1).",
        )
        for version in OLD_VERSIONS
        if facts.versions.get(version)
    ]
    if all(facts.versions.get(version) is False for version in NEW_VERSIONS):
        reasons.append(Reason("Neemt TLS 1.2 noch TLS 1.3 aan.", "Accepts neither TLS 1.2 nor TLS 1.3."))
    if facts.weak_suites:
        listed = ", ".join(facts.weak_suites)
        reasons.append(
            Reason(
                f"Neemt versleuteling aan zonder forward secrecy of zonder echtheidscontrole: {listed}.",
                f"Accepts suites without forward secrecy or authenticated encryption (RFC 9325, 4.2): {listed}.",
            )
        )
    return reasons


def _of_certificate(facts: TlsFacts, now: float) -> list[Reason]:
    reasons = []
    if facts.chain_holds is False:
        reasons.append(
            Reason(
                "Het certificaat is niet uitgegeven onder een vertrouwensanker van het stelsel.",
                f"The certificate was not issued under a trust anchor of the group ({facts.chain_error}).",
            )
        )
    if facts.host_matches is False:
        reasons.append(
            Reason(
                "Het certificaat staat op een andere naam dan het adres.",
                "The certificate is for another host name than the address.",
            )
        )
    if facts.not_after is not None and facts.not_after <= now:
        reasons.append(Reason("Het certificaat is verlopen.", "The certificate has expired."))
    if facts.certificate_peer_id is not None and facts.certificate_peer_id != facts.peer_id:
        reasons.append(
            Reason(
                "Het certificaat is van een andere organisatie (ander OIN).",
                "The certificate is another organisation's (other OIN).",
            )
        )
    return reasons


def _advice(facts: TlsFacts, now: float) -> tuple[Reason, ...]:
    advice = []
    if facts.not_after is not None and now < facts.not_after < now + NOTICE_SECONDS:
        days = int((facts.not_after - now) // 86400)
        advice.append(
            Reason(f"Het certificaat verloopt over {days} dagen.", f"The certificate expires in {days} days.")
        )
    if facts.versions.get("TLSv1.3") is False:
        advice.append(Reason("Zet ook TLS 1.3 aan.", "Switch on TLS 1.3 as well."))
    return tuple(advice)

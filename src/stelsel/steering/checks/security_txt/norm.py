"""The norm of `security_txt`: RFC 9116, and the parser for it. Pure."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from stelsel.steering.findings import Outcome, Reason, Verdict

MAXIMUM_SIZE = 32 * 1024
"""Bytes (RFC 9116, 5.4, asks parsers to set a limit and suggests 32 KiB)."""
YEAR = 366 * 86400

_FIELD = re.compile(r"([!-9;-~]+):[ \t](.+)")  # field-name of RFC 5322, then ":" and a space (RFC 9116, section 4)
_INTERNET_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")  # RFC 3339, section 5.6


@dataclass(frozen=True, slots=True)
class SecurityTxtFacts:
    """What the probe established."""

    url: str
    """Where it was read, after redirects within the same website."""
    secure: bool
    """Whether over https."""
    loopback: bool
    has_website: bool = True
    status: int = 0
    content_type: str = ""
    redirected_to: str = ""
    """Where the website sent us that we did not go: another website."""
    too_large: bool = False
    certificate_fault: str = ""
    """Why the website's certificate does not hold, if so."""
    size: int = 0
    sha256: str = ""
    """Of the file, hex."""
    readable: bool = True
    """Whether it is UTF-8 of fields and comments."""
    fields: tuple[tuple[str, str], ...] = field(default=())
    """(field name in lower case, value), inert."""

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"fields": [list(pair) for pair in self.fields]}

    def values(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for known, value in self.fields if known == name]


def parse(text: str) -> tuple[tuple[tuple[str, str], ...], bool]:
    """(fields, readable): the fields in order, names in lower case; not readable when a line is none of what it may be.

    A file signed with an OpenPGP cleartext signature (RFC 9116, 2.3) is read through; the signature is not checked.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if lines and lines[0] == "-----BEGIN PGP SIGNED MESSAGE-----":
        lines = _signed(lines)
    fields, readable = [], True
    for line in lines:
        bare = line.rstrip(" \t")
        if not bare or bare.startswith("#"):
            continue
        match = _FIELD.fullmatch(bare)
        if match is None:
            readable = False
        else:
            fields.append((match[1].lower(), match[2].strip()))
    return tuple(fields), readable


def moment_of(value: str) -> float | None:
    """Seconds since the epoch of an `Expires` value (RFC 3339), or None."""
    if not _INTERNET_TIME.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value.upper()).timestamp()
    except (ValueError, OverflowError):
        return None


def judge(facts: SecurityTxtFacts, now: float) -> Verdict:
    """What the norm says of the facts at `now` (seconds since the epoch)."""
    if not facts.has_website:
        return Verdict(Outcome.NOT_APPLICABLE, (Reason("Heeft geen website.", "Has no website."),))
    if facts.status >= 500 or facts.status == 429:
        reason = Reason(
            f"De website gaf storing (status {facts.status}).", f"The website was out of order (status {facts.status})."
        )
        return Verdict(Outcome.ERROR, (reason,))
    broken = _of_transport(facts) or _of_file(facts, now)
    advice = _advice(facts, now)
    if broken:
        return Verdict(Outcome.NOT_MET, tuple(broken), advice)
    return Verdict(
        Outcome.MET,
        (
            Reason(
                "security.txt staat er, is geldig en niet verlopen.", "security.txt is there, valid and not expired."
            ),
        ),
        advice,
    )


def _of_transport(facts: SecurityTxtFacts) -> list[Reason]:
    if not facts.secure and not facts.loopback:
        return [Reason("Wordt niet over https aangeboden.", "Is not served over https (RFC 9116, section 3).")]
    if facts.certificate_fault:
        fault = facts.certificate_fault
        return [
            Reason("Het certificaat van de website klopt niet.", f"The website's certificate does not hold ({fault}).")
        ]
    if facts.redirected_to:
        return [
            Reason("Verwijst door naar een andere website.", "Redirects to another website, which was not followed.")
        ]
    if facts.status != 200:
        return [
            Reason(
                f"Er is geen security.txt (status {facts.status}).",
                f"There is no security.txt (status {facts.status}).",
            )
        ]
    if facts.too_large:
        return [Reason("Is groter dan 32 KiB.", "Is larger than 32 KiB (RFC 9116, 5.4).")]
    return []


def _of_file(facts: SecurityTxtFacts, now: float) -> list[Reason]:
    reasons = []
    if not _is_plain_text(facts.content_type):
        reasons.append(
            Reason(
                "Is niet van het type text/plain; charset=utf-8.",
                "Is not of type text/plain; charset=utf-8 (RFC 9116, section 3).",
            )
        )
    if not facts.readable:
        reasons.append(
            Reason("Bevat regels die geen veld en geen commentaar zijn.", "Holds lines that are no field or comment.")
        )
    contacts = facts.values("contact")
    if not contacts:
        reasons.append(Reason("Er staat geen Contact in.", "It has no Contact (RFC 9116, 2.5.3)."))
    elif not all(re.fullmatch(r"(https://|mailto:|tel:)\S+", contact) for contact in contacts):
        reasons.append(
            Reason(
                "Contact moet beginnen met https://, mailto: of tel:.",
                "A Contact must begin with https://, mailto: or tel: (RFC 9116, 2.5.3).",
            )
        )
    reasons += _of_expiry(facts, now)
    canonical = facts.values("canonical")
    if canonical and facts.url not in canonical:
        reasons.append(Reason("Canonical noemt een ander adres.", "Canonical names another address (RFC 9116, 2.5.2)."))
    if len(facts.values("preferred-languages")) > 1:
        reasons.append(
            Reason("Preferred-Languages staat er meer dan eens.", "Preferred-Languages appears more than once.")
        )
    return reasons


def _of_expiry(facts: SecurityTxtFacts, now: float) -> list[Reason]:
    expires = facts.values("expires")
    if len(expires) != 1:
        return [
            Reason(
                f"Expires moet er precies één keer in staan, het staat er {len(expires)} keer.",
                f"Expires must appear exactly once (RFC 9116, 2.5.5), it appears {len(expires)} times.",
            )
        ]
    moment = moment_of(expires[0])
    if moment is None:
        return [Reason("Expires is geen datum en tijd.", "Expires is no date and time (RFC 3339).")]
    if moment <= now:
        return [Reason(f"Is verlopen op {expires[0][:10]}.", f"Expired on {expires[0][:10]}.")]
    return []


def _advice(facts: SecurityTxtFacts, now: float) -> tuple[Reason, ...]:
    advice = []
    if not facts.secure and facts.loopback:
        advice.append(
            Reason(
                "Gemeten zonder https, op het eigen apparaat (loopback); elders moet het over https.",
                "Measured without https, on this machine (loopback); elsewhere it must be https.",
            )
        )
    moments = [moment for value in facts.values("expires") if (moment := moment_of(value)) is not None]
    if moments and moments[0] > now + YEAR:
        advice.append(
            Reason("Expires ligt meer dan een jaar vooruit.", "Expires lies more than a year ahead (RFC 9116, 2.5.5).")
        )
    return tuple(advice)


def _is_plain_text(content_type: str) -> bool:
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    return kind == "text/plain" and any(parameter in ("charset=utf-8", 'charset="utf-8"') for parameter in parameters)


def _signed(lines: list[str]) -> list[str]:
    """The lines within an OpenPGP cleartext signature (RFC 4880, section 7)."""
    try:
        start = lines.index("") + 1
        end = lines.index("-----BEGIN PGP SIGNATURE-----", start)
    except ValueError:
        return lines
    return [line.removeprefix("- ") for line in lines[start:end]]

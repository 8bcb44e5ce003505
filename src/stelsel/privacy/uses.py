"""A use: one exchange about one resident, as that resident may see it (GDPR article 15(1)). Pure.

The ledger keeps an exchange as a request and what was recorded under it, at most one resident a record. Here those that
concern one resident become one row again, and the agreement adds why it was allowed. Two exchanges are never folded
into one, not even when a consumer gives them the same transaction id: what happened twice is shown twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal

from stelsel.agreements.agreement import Agreement
from stelsel.base.errors import BadGateway
from stelsel.ledger.query import Entry
from stelsel.ledger.record import Record
from stelsel.privacy.decision import REASONS, Reason, Words
from stelsel.privacy.fields import in_words

GROUNDS: dict[str, Words] = {
    "a": Words("U hebt toestemming gegeven.", "You gave consent."),
    "b": Words("Het is nodig voor een overeenkomst met u.", "It is needed for a contract with you."),
    "c": Words("De wet verplicht het.", "The law demands it."),
    "d": Words("Er is een leven in gevaar.", "A life is in danger."),
    "e": Words("Het is nodig voor een taak van de overheid.", "It is needed for a public task."),
    "f": Words("Er is een gerechtvaardigd belang.", "There is a legitimate interest."),
}
"""The grounds of GDPR article 6(1), in plain words."""

_MAXIMUM_NUMBERS = 100
_OTHER_REASON = Words("De vraag is geweigerd.", "The request was refused.")


@dataclass(frozen=True, slots=True)
class Use:
    """One row of what a resident sees. Texts come from agreements: escape them in pages."""

    index: int
    """The record to ask a receipt of, and where the next page begins."""
    kind: Literal["use", "insight"]
    """`insight`: asked on the resident's own behalf, to show this very list."""
    time: int
    """Milliseconds since the epoch."""
    consumer: str
    consumer_name: str
    provider: str
    provider_name: str
    service: str
    allowed: bool
    reason: str
    reason_nl: str
    reason_en: str
    fields: tuple[str, ...]
    fields_nl: tuple[str, ...]
    fields_en: tuple[str, ...]
    search_parameters: tuple[str, ...]
    search_nl: tuple[str, ...]
    search_en: tuple[str, ...]
    refused: tuple[str, ...]
    refused_nl: tuple[str, ...]
    refused_en: tuple[str, ...]
    purpose: str
    article: str
    ground: str
    """Letter of GDPR article 6(1); empty when there was no agreement with terms."""
    ground_nl: str
    ground_en: str
    law: str
    """Address of the text of the law, or empty."""
    processing_activity: str
    """id@version in the consumer's register (GDPR article 30)."""
    processing_activity_name: str
    agreement: str
    """Grant hash, or empty."""
    contract: str
    """Content hash, or empty."""
    transaction_id: str
    trace_id: str
    numbers: tuple[int, ...] = ()
    """Which of the records about this resident they are, at who keeps them: 1, 2, 3... Empty: before there were any."""
    total: int = 0
    """How many records about this resident there are, or were, at who keeps them."""
    missing: int = 0
    """So many records between this row and the newer one before it are not there, and should be."""
    missing_after: int = 0
    """In the last row there is: so many older records are not there."""
    erased_before: int = 0
    """Records made before this moment (ms since the epoch) were erased by policy; 0: none ever were."""

    def to_json(self) -> dict[str, Any]:
        """The row as a JSON object, without what is empty."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value not in ("", ())
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Use:
        """The row that `to_json` gave; members that this version does not know are left out.

        Raises `BadGateway` when it is no such row: it comes from another organisation.
        """
        later = {field.name for field in fields(cls) if field.default is not MISSING}  # who runs an older version
        given = _names(value)
        return cls(
            **{
                field.name: _member(value, field.name, str(field.type))
                for field in fields(cls)
                if field.name in given or field.name not in later
            }
        )


def _names(value: Any) -> set[str]:
    return set(value) if isinstance(value, dict) else set()


def _member(value: Any, name: str, kind: str) -> Any:
    given = value.get(name) if isinstance(value, dict) else None
    if kind == "tuple[int, ...]":
        if isinstance(given, list) and len(given) <= _MAXIMUM_NUMBERS and all(type(one) is int for one in given):
            return tuple(given)
    elif kind.startswith("tuple"):
        given = [] if given is None else given
        if isinstance(given, list) and all(isinstance(one, str) for one in given):
            return tuple(given)
    elif kind in ("int", "bool"):
        if type(given).__name__ == kind:
            return given
    elif given is None and not kind.startswith("Literal"):
        return ""
    elif isinstance(given, str) and (kind == "str" or given in ("use", "insight")):
        return given
    raise BadGateway(f"a use of data has no readable member {name}")


@dataclass(frozen=True, slots=True)
class Exchange:
    """The entries of one exchange at one peer: the request if it is among them, then what came under it."""

    entries: tuple[Entry, ...]

    @property
    def first(self) -> Record:
        return self.entries[0].record

    def numbers_about(self, subject: str) -> tuple[int, ...]:
        """The numbers of its records about this subject, rising; without those from before there were any."""
        numbers = (entry.record.subject_sequence for entry in self.entries if entry.record.subject == subject)
        return tuple(sorted(filter(None, numbers)))

    def index_about(self, subject: str) -> int | None:
        """The lowest index of a record in it that is about this subject."""
        return min((entry.index for entry in self.entries if entry.record.subject == subject), default=None)


def exchanges(entries: Iterable[Entry]) -> list[Exchange]:
    """The entries of one transaction id, grouped into exchanges, in the order of the ledger.

    Every request begins an exchange. A response joins the latest one of the same parties whose request has the
    span that is its parent. Responses whose request is not here (it names someone else) are one by themselves.
    """
    groups: list[list[Entry]] = []
    latest: dict[tuple[str | None, ...], list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.index):
        record = entry.record
        key = (_request_span(record), *_parties(record))
        group = latest.get(key)
        if group is None or record.event == "request":
            group = latest[key] = []
            groups.append(group)
        group.append(entry)
    return [Exchange(tuple(group)) for group in groups]


def _request_span(record: Record) -> str | None:
    return record.span_id if record.event == "request" else record.parent_span_id


def _parties(record: Record) -> tuple[str, ...]:
    return (record.direction, record.consumer, record.provider, record.service, record.grant_hash)


def use_of(
    exchange: Exchange,
    index: int,
    *,
    agreement: Agreement | None,
    name_of: Callable[[str], str],
    insight_service: str,
) -> Use:
    """The row of one exchange. It was allowed only when every record of it says so."""
    record = exchange.first
    records = [entry.record for entry in exchange.entries]
    deciding = next((one for one in records if not one.allowed), record)
    reason = _reason_words(deciding)
    asked = _all(one.fields for one in records)
    searched = _all(one.search_parameters for one in records)
    refused = _all(one.refused for one in records)
    terms = agreement.terms if agreement is not None else None
    ground = GROUNDS[terms.legal_basis.ground] if terms else Words("", "")
    return Use(
        index=index,
        kind="insight" if record.service == insight_service else "use",
        time=record.time,
        consumer=record.consumer,
        consumer_name=name_of(record.consumer),
        provider=record.provider,
        provider_name=name_of(record.provider),
        service=record.service,
        allowed=deciding.allowed,
        reason=deciding.reason,
        reason_nl=reason.nl,
        reason_en=reason.en,
        fields=asked,
        fields_nl=in_words(asked, "nl"),
        fields_en=in_words(asked, "en"),
        search_parameters=searched,
        search_nl=in_words(searched, "nl"),
        search_en=in_words(searched, "en"),
        refused=refused,
        refused_nl=in_words(refused, "nl"),
        refused_en=in_words(refused, "en"),
        purpose=terms.purpose if terms else "",
        article=terms.legal_basis.article if terms else "",
        ground=terms.legal_basis.ground if terms else "",
        ground_nl=ground.nl,
        ground_en=ground.en,
        law=(terms.legal_basis.uri or "") if terms else "",
        processing_activity=record.processing_activity,
        processing_activity_name=terms.processing_activity.name if terms else "",
        agreement=record.grant_hash,
        contract=agreement.content_hash if agreement is not None else "",
        transaction_id=record.transaction_id,
        trace_id=record.trace_id,
    )


def _reason_words(record: Record) -> Words:
    try:
        return REASONS[Reason(record.reason)]
    except ValueError:  # an FSC error code
        return REASONS[Reason.AGREED] if record.allowed else _OTHER_REASON


def _all(values: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for value in values for name in value))

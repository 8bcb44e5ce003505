"""AuthZEN Authorization API 1.0 mapped onto the one decision. Pure.

A policy enforcement point asks: may this `peer` `read` this `service`, for these fields, searched so?

    {"subject":  {"type": "peer", "id": "00000099000000003000"},
     "action":   {"name": "read", "properties": {"processing_activity_id": "https://..."}},
     "resource": {"type": "service", "id": "personen",
                  "properties": {"fields": ["naam"], "search_parameters": ["burgerservicenummer"]}}}

The answer is `{"decision": true|false, "context": {...}}`, with the reason, its words and the agreement in the context.
A refusal is an answer, not an error. Members that we do not know are ignored (section 4, and the NL GOV profile).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stelsel.agreements.agreement import Agreement
from stelsel.agreements.services import Service
from stelsel.base.errors import BadRequest
from stelsel.privacy.decision import REASONS, Decision, Reason, decide
from stelsel.privacy.paths import is_path
from stelsel.privacy.request import MAXIMUM_FIELDS, MAXIMUM_PARAMETERS, DataRequest

ACTION = "read"
"""The one action that agreements are about."""

_ORDER = {reason: place for place, reason in enumerate(Reason)}


@dataclass(frozen=True, slots=True)
class Question:
    """An evaluation request, read strictly."""

    subject_type: str
    subject: str
    action: str
    processing_activity: str | None
    resource_type: str
    resource: str
    request: DataRequest


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision and the agreement it rests on, if one was found."""

    decision: Decision
    agreement: Agreement | None = None

    def to_json(self) -> dict[str, Any]:
        """The evaluation response (section 6.2)."""
        words = REASONS[self.decision.reason]
        context: dict[str, Any] = {
            "reason": self.decision.reason.value,
            "reason_user": {"nl": words.nl, "en": words.en},
        }
        if self.decision.refused:
            context["refused"] = self.decision.refused
        if self.agreement is not None:
            context["agreement"] = self.agreement.grant_hash
        return {"decision": self.decision.allowed, "context": context}


def read_question(value: Mapping[str, Any]) -> Question:
    """The question in an evaluation request (section 6.1). Raises `BadRequest` naming the member at fault."""
    subject, action, resource = (_object(value, name, name) for name in ("subject", "action", "resource"))
    _properties(subject, "subject")
    if not isinstance(value.get("context", {}), dict):
        raise BadRequest("context must be an object")
    activity = _properties(action, "action").get("processing_activity_id")
    if activity is not None and not isinstance(activity, str):
        raise BadRequest("action.properties.processing_activity_id must be a text")
    properties = _properties(resource, "resource")
    return Question(
        _text(subject, "type", "subject"),
        _text(subject, "id", "subject"),
        _text(action, "name", "action"),
        activity,
        _text(resource, "type", "resource"),
        _text(resource, "id", "resource"),
        DataRequest(
            _paths(properties, "fields", MAXIMUM_FIELDS), _paths(properties, "search_parameters", MAXIMUM_PARAMETERS)
        ),
    )


class AgreementIndex:
    """The agreements under which others may ask this peer, by who asks and what."""

    __slots__ = ("_found",)

    def __init__(self, provider: str, agreements: Iterable[Agreement]) -> None:
        found: dict[tuple[str, str], tuple[Agreement, ...]] = {}
        for agreement in agreements:
            if agreement.provider == provider:
                key = (agreement.consumer, agreement.service)
                found[key] = (*found.get(key, ()), agreement)
        self._found = found

    def of(self, consumer: str, service: str) -> tuple[Agreement, ...]:
        return self._found.get((consumer, service), ())


def evaluate(question: Question, services: Mapping[str, Service], index: AgreementIndex, now: float) -> Answer:
    """The answer at `now` (seconds). Of several agreements one that allows suffices; else the nearest miss is told."""
    if question.action != ACTION:
        return Answer(Decision(False, Reason.UNKNOWN_ACTION))
    service = services.get(question.resource) if question.resource_type == "service" else None
    if service is None:
        return Answer(Decision(False, Reason.UNKNOWN_SERVICE))
    nearest = Answer(decide(service, None, question.request, now))
    if question.subject_type != "peer":
        return nearest
    for agreement in index.of(question.subject, question.resource):
        if _other_activity(question.processing_activity, agreement):
            answer = Answer(Decision(False, Reason.OTHER_ACTIVITY))
        else:
            answer = Answer(decide(service, agreement, question.request, now), agreement)
        if answer.decision.allowed:
            return answer
        if _ORDER[answer.decision.reason] > _ORDER[nearest.decision.reason]:
            nearest = answer
    return nearest


def _other_activity(asked: str | None, agreement: Agreement) -> bool:
    if asked is None or agreement.terms is None:
        return False
    agreed = agreement.terms.processing_activity
    return asked not in (agreed.id, f"{agreed.id}@{agreed.version}")


def _object(value: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    member = value.get(name)
    if not isinstance(member, dict):
        raise BadRequest(f"{where} is mandatory and must be an object")
    return member


def _properties(value: dict[str, Any], where: str) -> dict[str, Any]:
    return _object(value, "properties", f"{where}.properties") if "properties" in value else {}


def _text(value: dict[str, Any], name: str, where: str) -> str:
    member = value.get(name)
    if not isinstance(member, str) or not member:
        raise BadRequest(f"{where}.{name} is mandatory and must be a text")
    return member


def _paths(properties: dict[str, Any], name: str, most: int) -> tuple[str, ...]:
    paths = properties.get(name, [])
    if not isinstance(paths, list) or len(paths) > most:
        raise BadRequest(f"resource.properties.{name} must be a list of at most {most} paths")
    if not all(isinstance(path, str) and is_path(path) for path in paths):
        raise BadRequest(f"resource.properties.{name} holds something that is not a path, such as naam.voornamen")
    return tuple(dict.fromkeys(paths))

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

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from stelsel.agreements.agreement import Agreement
from stelsel.agreements.services import Service
from stelsel.base.errors import BadRequest
from stelsel.privacy.decision import REASONS, Decision, Reason, decide
from stelsel.privacy.paths import is_path
from stelsel.privacy.request import MAXIMUM_FIELDS, MAXIMUM_PARAMETERS, DataRequest

ACTION = "read"
"""The one action that agreements are about."""

_ORDER = {reason: place for place, reason in enumerate(Reason)}


class Question(NamedTuple):
    """An evaluation request, read strictly."""

    subject_type: str
    subject: str
    action: str
    processing_activity: str | None
    resource_type: str
    resource: str
    request: DataRequest


class Answer(NamedTuple):
    """A decision and the agreement it rests on, if one was found."""

    decision: Decision
    agreement: Agreement | None = None

    def to_json(self) -> dict[str, Any]:
        """The evaluation response (section 6.2)."""
        return _response(self.decision, self.agreement.grant_hash if self.agreement is not None else "")

    def to_bytes(self) -> bytes:
        """The same as JSON text."""
        return _response_text(self.decision, self.agreement.grant_hash if self.agreement is not None else "")


def _response(decision: Decision, grant_hash: str) -> dict[str, Any]:
    words = REASONS[decision.reason]
    context: dict[str, Any] = {"reason": decision.reason.value, "reason_user": {"nl": words.nl, "en": words.en}}
    if decision.refused:
        context["refused"] = list(decision.refused)
    if grant_hash:
        context["agreement"] = grant_hash
    return {"decision": decision.allowed, "context": context}


@lru_cache(maxsize=4096)
def _response_text(decision: Decision, grant_hash: str) -> bytes:
    """The few different answers are written once: an answer holds nothing of the moment."""
    return json.dumps(_response(decision, grant_hash), ensure_ascii=False, separators=(",", ":")).encode()


def read_question(value: Mapping[str, Any]) -> Question:
    """The question in an evaluation request (section 6.1). Raises `BadRequest` naming the member at fault."""
    subject, action, resource = value.get("subject"), value.get("action"), value.get("resource")
    for name, member in (("subject", subject), ("action", action), ("resource", resource)):
        if not isinstance(member, dict) or not isinstance(member.get("properties", _NONE), dict):
            raise BadRequest(f"{name} is mandatory and must be an object, and so must its properties if it has any")
    if not isinstance(value.get("context", _NONE), dict):
        raise BadRequest("context must be an object")
    activity = action.get("properties", _NONE).get("processing_activity_id")  # type: ignore[union-attr]
    if activity is not None and not isinstance(activity, str):
        raise BadRequest("action.properties.processing_activity_id must be a text")
    properties = resource.get("properties", _NONE)  # type: ignore[union-attr]
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


_NONE: dict[str, Any] = {}


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


_NO_AGREEMENT = Answer(Decision(False, Reason.NO_AGREEMENT))
_OTHER_ACTIVITY = Answer(Decision(False, Reason.OTHER_ACTIVITY))


def evaluate(question: Question, services: Mapping[str, Service], index: AgreementIndex, now: float) -> Answer:
    """The answer at `now` (seconds). Of several agreements one that allows suffices; else the nearest miss is told."""
    if question.action != ACTION:
        return Answer(Decision(False, Reason.UNKNOWN_ACTION))
    service = services.get(question.resource) if question.resource_type == "service" else None
    if service is None:
        return Answer(Decision(False, Reason.UNKNOWN_SERVICE))
    nearest = _NO_AGREEMENT
    if question.subject_type != "peer":
        return nearest
    for agreement in index.of(question.subject, question.resource):
        if _other_activity(question.processing_activity, agreement):
            answer = _OTHER_ACTIVITY
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
    return asked != agreed.id and asked != f"{agreed.id}@{agreed.version}"


def _text(value: Any, name: str, where: str) -> str:
    member = value.get(name)
    if not isinstance(member, str) or not member:
        raise BadRequest(f"{where}.{name} is mandatory and must be a text")
    return member


def _paths(properties: dict[str, Any], name: str, most: int) -> tuple[str, ...]:
    paths = properties.get(name, ())
    if not paths and paths in ((), []):
        return ()
    if not isinstance(paths, list) or len(paths) > most:
        raise BadRequest(f"resource.properties.{name} must be a list of at most {most} paths")
    for path in paths:
        if not isinstance(path, str) or not is_path(path):
            raise BadRequest(f"resource.properties.{name} holds something that is not a path, such as naam.voornamen")
    return tuple(dict.fromkeys(paths))

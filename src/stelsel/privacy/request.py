"""What a request asks: which fields, searched how, about whom. Pure.

A service about people must be asked in one of two forms, and every part of the request must be understood: what the
decision does not see, the source could still answer. So anything that two programs may read differently is refused.

* `POST` with `{"fields": ["naam"], "burgerservicenummer": ["..."], ...}` (the manner of Haal Centraal BRP): every
  member but `type` and `fields` is a search parameter; of nested objects the dotted path counts.
* `GET` with `?fields=naam,geboorte&...`. Never with the number of a resident: URLs end up in logs and histories.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from stelsel.agreements.services import Service
from stelsel.base.canonical import parse_object
from stelsel.base.errors import BadRequest
from stelsel.privacy import bsn
from stelsel.privacy.paths import is_name, is_path

MAXIMUM_FIELDS = 500
"""Fields in one request; terms hold no more either."""
MAXIMUM_PARAMETERS = 50
MAXIMUM_SUBJECTS = 100
"""Residents in one request: whom it is about is recorded one by one, before it is forwarded."""
MAXIMUM_TARGET = 8192
_FIELDS = "fields"
_TYPE = "type"

_CONTENT_TYPE = re.compile(r'application/json(?:\s*;\s*charset="?utf-8"?)?', re.IGNORECASE)
_SEGMENT = re.compile(r"(?!.*[0-9]{4})[A-Za-z][A-Za-z0-9._-]{0,63}")
_TYPE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,99}")
_QUERY = re.compile(r"[A-Za-z0-9._~!$'()*,:@/?%=&+-]*")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class DataRequest:
    """What is asked. `subjects` are the residents' own numbers: they stay out of `repr` and out of every record."""

    fields: tuple[str, ...]
    search_parameters: tuple[str, ...]
    subjects: tuple[str, ...] = field(default=(), repr=False)


_NOTHING = DataRequest((), (), ())


def read_request(service: Service, method: str, target: str, content_type: str, body: bytes) -> DataRequest:
    """What a request asks of `service`.

    `target` is the request target (path and query), `content_type` the header's value or empty. Raises `BadRequest`
    with `code` and `invalidParams` as Haal Centraal does; no value of the request is ever repeated in it.

    A service that is not about people may be asked in any form: then an unreadable request reads as one that names
    nothing, which the decision refuses where terms limit the fields.
    """
    if service.personal:
        return _read(service, method, target, content_type, body)
    try:
        return _read(service, method, target, content_type, body)
    except BadRequest:
        return _NOTHING


def _read(service: Service, method: str, target: str, content_type: str, body: bytes) -> DataRequest:
    path, question, query = target.partition("?")
    _check_path(path, target)
    if method == "POST":
        if question:
            raise _invalid("query", "unknownParam", "a POST has its parameters in the body, not in the address")
        return _of_body(service, content_type, body)
    if method == "GET":
        if body:
            raise _invalid("body", "unknownParam", "a GET has no body")
        return _of_query(service, query)
    raise BadRequest("this service is asked with POST or GET", code="methodNotAllowed")


def _check_path(path: str, target: str) -> None:
    """A path names an operation. Identifiers in it would be search parameters that nobody agreed to see."""
    if len(target) > MAXIMUM_TARGET or not path.startswith("/"):
        raise BadRequest("the request target is too long or does not begin with a slash")
    segments = path[1:].removesuffix("/").split("/") if path != "/" else []
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise BadRequest(
            "the path of the address may hold only names of letters, digits, dots and dashes",
            next_step="send what identifies a person as a member of the body of a POST",
        )


def _of_body(service: Service, content_type: str, body: bytes) -> DataRequest:
    if not _CONTENT_TYPE.fullmatch(content_type.strip()):
        raise BadRequest("send the body as application/json", code="unsupportedMediaType")
    members = parse_object(body)
    kind = members.pop(_TYPE, None)
    if kind is not None and not (isinstance(kind, str) and _TYPE_NAME.fullmatch(kind)):
        raise _invalid(_TYPE, "value", "must be one word")
    asked = members.pop(_FIELDS, None)
    if asked is not None and not (isinstance(asked, list) and all(isinstance(path, str) for path in asked)):
        raise _invalid(_FIELDS, "array", "must be a list of texts")
    fields = _fields(asked or [])
    parameters: dict[str, None] = {}
    subjects: dict[str, None] = {}
    for path, value in _leaves(members):
        parameters[path] = None
        if path == service.subject_parameter:
            subjects[_subject(path, value)] = None
        if len(parameters) > MAXIMUM_PARAMETERS or len(subjects) > MAXIMUM_SUBJECTS:
            raise _invalid(path, "maxItems", "there are more of these than one request may hold")
    return DataRequest(fields, tuple(parameters), tuple(subjects))


def _leaves(members: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of every leaf; elements of a list share their path, what is empty is a leaf itself."""
    for name, value in members.items():
        if not is_name(name):
            raise BadRequest("a search parameter has a name that no parameter can have", code="paramsValidation")
        path = prefix + name
        if not is_path(path):
            raise BadRequest("the search parameters are nested too deep", code="paramsValidation")
        yield from _leaves_of(path, value)


def _leaves_of(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        yield from _leaves(value, path + ".")
    elif isinstance(value, list) and value:
        for element in value:
            yield from _leaves_of(path, element)
    else:
        yield path, value


def _of_query(service: Service, query: str) -> DataRequest:
    if not _QUERY.fullmatch(query) or _BAD_PERCENT.search(query):
        raise BadRequest("the query of the address is not encoded as it should be (RFC 3986, section 3.4)")
    asked: list[str] = []
    parameters: dict[str, None] = {}
    for pair in query.split("&") if query else ():
        name, equals, value = pair.partition("=")
        if not equals or not is_path(name):
            raise BadRequest("the query of the address must be name=value pairs with plain names")
        if name in parameters or (name == _FIELDS and asked):
            raise _invalid(name, "duplicate", "is given twice")
        if name == service.subject_parameter:
            raise BadRequest(
                "the number of a resident never goes into an address (NL API Design Rules, sensitive information)",
                next_step="ask with POST, with the number in the body",
                code="paramsValidation",
            )
        text = _decoded(name, value)
        if name == _FIELDS:
            asked = text.split(",")
        else:
            parameters[name] = None
    if len(parameters) > MAXIMUM_PARAMETERS:
        raise BadRequest("there are more search parameters than one request may hold", code="paramsValidation")
    return DataRequest(_fields(asked if asked != [""] else []), tuple(parameters), ())


def _decoded(name: str, value: str) -> str:
    try:
        text = unquote_to_bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        raise _invalid(name, "value", "is not UTF-8") from None
    if not text.isprintable():
        raise _invalid(name, "value", "holds characters that cannot be shown")
    return text


def _fields(asked: list[str]) -> tuple[str, ...]:
    if not asked:
        raise BadRequest(
            "name the fields you need: `fields` is mandatory, and only what is named is answered",
            next_step='add "fields": ["..."] to the request',
            code="paramsRequired",
            invalidParams=[{"name": _FIELDS, "code": "required", "reason": "Parameter is verplicht."}],
        )
    if len(asked) > MAXIMUM_FIELDS:
        raise _invalid(_FIELDS, "maxItems", f"holds more than {MAXIMUM_FIELDS} fields")
    if not all(is_path(path) for path in asked):
        raise _invalid(_FIELDS, "fields", "holds something that is not a field path, such as naam.voornamen")
    return tuple(dict.fromkeys(asked))


def _subject(path: str, value: Any) -> str:
    if not isinstance(value, str) or not bsn.valid(value):
        raise _invalid(path, "value", "is not a valid citizen service number: nine digits that pass the eleven-test")
    return value


def _invalid(name: str, code: str, reason: str) -> BadRequest:
    return BadRequest(
        f"{name} {reason}", code="paramsValidation", invalidParams=[{"name": name, "code": code, "reason": reason}]
    )

"""Strict JSON in, canonical JSON out.

Everything that is hashed or signed goes through `canonical` (JCS, RFC 8785); everything that arrives goes through
`parse_json`, which refuses what RFC 7493 (I-JSON) refuses: duplicate names, lone surrogates, NaN and infinities.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import Any

import rfc8785

from stelsel.base.errors import BadRequest

_MAXIMUM_DEPTH = 64
_LARGEST_INTEGER = 2**53 - 1  # RFC 7493, section 2.2


def canonical(value: Any) -> bytes:
    """The canonical JSON (RFC 8785) of a JSON value, UTF-8. Raises `BadRequest` when it has none."""
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError, ValueError) as error:
        raise BadRequest("the value has no canonical JSON form (RFC 8785)") from error


def parse_json(data: bytes | str) -> Any:
    """A JSON value out of bytes (UTF-8) or text, by the rules of I-JSON (RFC 7493). Raises `BadRequest`."""
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = _DECODER.decode(text)
        # Walking the value costs more than parsing it, so only where there can be something to find: half a surrogate
        # comes out of an escape or out of a str, depth needs brackets.
        if "\\u" in text or isinstance(data, str) or text.count("[") + text.count("{") > _MAXIMUM_DEPTH:
            _check(value, 0)
    except BadRequest:
        raise
    except (ValueError, RecursionError) as error:
        raise BadRequest("the text is not valid JSON (RFC 8259)") from error
    return value


def parse_object(data: bytes | str) -> dict[str, Any]:
    """As `parse_json`, for a text that must hold one JSON object."""
    value = parse_json(data)
    if not isinstance(value, dict):
        raise BadRequest("a JSON object is expected here")
    return value


def b64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64url(text: str) -> bytes:
    """The bytes behind base64url text without padding. Raises `BadRequest`."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest("the text is not base64url") from error
    if b64url(data) != text:
        raise BadRequest("the text is not base64url in its one canonical form")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise BadRequest("a JSON object names the same member twice (RFC 7493, section 2.3)")
    return result


def _refuse(constant: str) -> Any:
    raise BadRequest(f"{constant} is not JSON (RFC 8259, section 6)")


def _check(value: Any, depth: int) -> None:
    if depth > _MAXIMUM_DEPTH:
        raise BadRequest(f"the JSON is nested deeper than {_MAXIMUM_DEPTH} levels")
    if isinstance(value, dict):
        for name, member in value.items():
            _check_text(name)
            _check(member, depth + 1)
    elif isinstance(value, list):
        for member in value:
            _check(member, depth + 1)
    elif isinstance(value, str):
        _check_text(value)


def _integer(digits: str) -> int:
    value = int(digits)
    if abs(value) > _LARGEST_INTEGER:
        raise BadRequest("an integer is larger than JSON can carry safely (RFC 7493, section 2.2)")
    return value


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise BadRequest("a number is larger than JSON can carry safely (RFC 7493, section 2.2)")
    return value


def _check_text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise BadRequest("a text holds half of a surrogate pair (RFC 7493, section 2.1)")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse, parse_int=_integer, parse_float=_number)

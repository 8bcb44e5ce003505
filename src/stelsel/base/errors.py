"""The one error vocabulary: every fault that a caller can understand and mend is a `Fault`.

A fault says what is wrong (`detail`) and what to do about it (`next_step`). On HTTP it becomes problem+json
(RFC 9457) in one place, `stelsel.base.web`; on the command line it becomes one line in one place,
`stelsel.cli`. Anything that is not a `Fault` is a mistake of ours: callers get an opaque 500.
"""

from __future__ import annotations

from typing import Any, ClassVar


class Fault(Exception):
    """Something is wrong that the caller can understand; nothing was changed.

    `extra` are members added to the problem document (RFC 9457, section 3.2), JSON values only.
    """

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(self, detail: str, *, next_step: str = "", **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.next_step = next_step
        self.extra = extra

    def problem(self) -> dict[str, Any]:
        """The problem document (RFC 9457) of this fault."""
        document: dict[str, Any] = {
            "type": f"urn:stelsel:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.next_step:
            document["next_step"] = self.next_step
        return document | self.extra


class BadRequest(Fault):
    status, kind, title = 400, "bad-request", "The request cannot be read"


class Unauthenticated(Fault):
    status, kind, title = 401, "unauthenticated", "It is not clear who is asking"


class Forbidden(Fault):
    status, kind, title = 403, "forbidden", "This is not allowed"


class NotFound(Fault):
    status, kind, title = 404, "not-found", "There is nothing here by that name"


class Conflict(Fault):
    status, kind, title = 409, "conflict", "This clashes with what is already there"


class TooLarge(Fault):
    status, kind, title = 413, "too-large", "The request is larger than allowed"


class Unprocessable(Fault):
    status, kind, title = 422, "unprocessable", "The request is readable but not acceptable"


class TooMany(Fault):
    status, kind, title = 429, "too-many-requests", "Too many requests"


class BadGateway(Fault):
    status, kind, title = 502, "bad-gateway", "The party behind us gave no usable answer"


class Unavailable(Fault):
    status, kind, title = 503, "unavailable", "This cannot be done at the moment"


class ConfigurationFault(Fault):
    """A configuration file or a command line that cannot be used. One line, with the key and the fix."""

    kind, title = "configuration", "The configuration cannot be used"

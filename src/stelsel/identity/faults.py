"""What can go wrong between a client, its user and the provider, told in the words of OAuth where a client reads it."""

from __future__ import annotations

from typing import ClassVar

from stelsel.base.errors import Fault, Forbidden, Unauthenticated
from stelsel.identity.problems import Problem


class ProtocolFault(Fault):
    """A client's request is refused with an error code of OAuth (RFC 6749, sections 4.1.2.1 and 5.2)."""

    status, kind, title = 400, "login-protocol", "The client's request is not in order"

    def __init__(self, error: str, detail: str, *, status: int = 400) -> None:
        super().__init__(detail, error=error)
        self.error = error
        self.http_status = status


class RedirectedFault(ProtocolFault):
    """As `ProtocolFault`, where the client and its redirect address are in order: the client is told there."""

    def __init__(self, error: str, detail: str, *, redirect_uri: str, state: str) -> None:
        super().__init__(error, detail)
        self.redirect_uri = redirect_uri
        self.state = state


class LoginProblem(Fault):
    """Something that the person who logs in has to be told, on a page."""

    status: ClassVar[int] = 400
    kind, title = "login", "The login cannot go on"

    def __init__(self, problem: Problem, *, status: int = 400, detail: str = "") -> None:
        super().__init__(detail or problem)
        self.what: Problem = problem
        self.page_status = status


class LoginCancelled(Forbidden):
    """The person chose not to log in. That is no error: say so calmly and offer to try again."""

    kind, title = "login-cancelled", "You did not log in"


class LoginRefused(Unauthenticated):
    """What came back from the provider does not prove who somebody is."""

    kind, title = "login-refused", "The login could not be completed"

"""What the provider shows to people: view dataclasses, and the protocol of whoever turns them into HTML.

The provider decides, a `Pages` renders. All values in a view are text that still has to be escaped for HTML. Every
form posts `application/x-www-form-urlencoded` to the given `action`, with the given `form_token` (or `challenge`) in a
hidden field of that name.

A page with a passkey button needs these elements, and no other script than `view.script`:

    <div data-passkey="login" data-challenge="{challenge}" data-options="{options_url}" data-verify="{verify_url}">
      <button type="button" data-passkey-start hidden>...</button>     the script shows it when passkeys can be used
      <p data-passkey-absent>...</p>       shown without JavaScript or without passkeys; the script hides it otherwise
      <p data-passkey-failed role="alert" hidden>...</p>               shown by the script when it did not succeed
    </div>
    <script src="{script}" defer></script>

with `data-passkey="register"` on the activation page. A Content-Security-Policy needs `script-src 'self'`,
`connect-src 'self'`, and `form-action 'self' {redirect_origin}`: browsers hold a redirect after a form against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from starlette.requests import Request
from starlette.responses import Response

from stelsel.identity.assurance import Level
from stelsel.identity.problems import TEXTS, Kind, Problem

__all__ = ["TEXTS", "ActivateView", "DemoPerson", "FailedView", "Kind", "LoginView", "LogoutView", "Pages", "Problem"]


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """Somebody who can be chosen in the unsafe demo login. `handle` is the value of the form's field `person`."""

    handle: str
    name: str
    kind: Kind
    peer_id: str = ""
    """OIN of the organisation of an official; empty for a resident."""
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoginView:
    """The login page. Choices are there only when they can lead to the level that the client asks.

    Forms: `action` with `challenge` and `person` (a handle), one submit button a person or a choice list; and `action`
    with `challenge` and `cancel=1`, which is always offered.
    """

    challenge: str
    client_name: str
    level: Level
    """The least level that the client asks."""
    passkey: bool
    demo_people: tuple[DemoPerson, ...]
    """Not empty only with `unsafe_demo_login_file`: the page must then say loudly that this login is unsafe."""
    redirect_origin: str
    """Origin of the client, for `form-action` in the Content-Security-Policy."""
    problem: Problem | None = None
    status: int = 200
    action: str = "/login"
    options_url: str = "/login/passkey/options"
    verify_url: str = "/login/passkey/verify"
    script: str = "/login/passkey.js"
    activate_url: str = "/activate"


@dataclass(frozen=True, slots=True)
class ActivateView:
    """The activation pages: `code` asks for the activation code, `passkey` makes a passkey, `done` says it worked.

    Form in step `code`: `action` with `form_token` and `code`. Step `passkey`: the passkey elements with
    `data-passkey="register"` and `data-challenge="{form_token}"`; the script then goes to `/activate?done=1`.
    """

    step: Literal["code", "passkey", "done"]
    form_token: str = ""
    display_name: str = ""
    problem: Problem | None = None
    status: int = 200
    action: str = "/activate"
    options_url: str = "/activate/passkey/options"
    verify_url: str = "/activate/passkey/verify"
    script: str = "/login/passkey.js"


@dataclass(frozen=True, slots=True)
class LogoutView:
    """The log out pages: `ask` (form: `action` with `form_token`) or `done`."""

    step: Literal["ask", "done"]
    form_token: str = ""
    return_to: str = ""
    """Only in step `ask`: put it in a hidden field of the same name when it is not empty; its origin goes into
    `form-action`. It is an address that the client registered."""
    redirect_origin: str = ""
    action: str = "/oidc/logout"


@dataclass(frozen=True, slots=True)
class FailedView:
    """A page without a way on: the login cannot go on and nobody may be sent back to the client."""

    problem: Problem
    status: int
    detail: str = ""
    """For whoever built the client, English: what is not in order. Safe to show once escaped."""


class Pages(Protocol):
    """Renders the provider's pages. Each answers with the view's `status`, and with `Cache-Control: no-store`."""

    def login(self, request: Request, view: LoginView) -> Response: ...

    def activate(self, request: Request, view: ActivateView) -> Response: ...

    def logout(self, request: Request, view: LogoutView) -> Response: ...

    def failed(self, request: Request, view: FailedView) -> Response: ...

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

Kind = Literal["resident", "official"]

Problem = Literal[
    "passkey-refused",
    "person-unknown",
    "wrong-kind",
    "level-too-low",
    "code-refused",
    "too-many-attempts",
    "challenge-over",
    "other-browser",
    "request-refused",
    "client-unknown",
    "redirect-unknown",
]

TEXTS: dict[Problem, tuple[str, str]] = {
    "passkey-refused": (
        "Deze toegangssleutel herkennen we niet. Probeer het nog eens, of vraag een nieuwe activeringscode aan.",
        "We do not recognise this passkey. Try again, or ask for a new activation code.",
    ),
    "person-unknown": ("Kies een persoon uit de lijst.", "Choose a person from the list."),
    "wrong-kind": (
        "Met deze inlog kunt u hier niet terecht: deze plek is voor een andere groep mensen.",
        "You cannot use this login here: this place is for another group of people.",
    ),
    "level-too-low": (
        "Voor deze dienst is een sterkere manier van inloggen nodig.",
        "This service needs a stronger way of logging in.",
    ),
    "code-refused": (
        "Deze code klopt niet, is al gebruikt of is verlopen. Controleer de code of vraag een nieuwe aan.",
        "This code is wrong, was used before or has expired. Check the code or ask for a new one.",
    ),
    "too-many-attempts": (
        "Dat waren te veel pogingen. Wacht een paar minuten en probeer het dan opnieuw.",
        "Those were too many attempts. Wait a few minutes, then try again.",
    ),
    "challenge-over": (
        "Het inloggen duurde te lang of was al afgerond. Ga terug naar de site en log opnieuw in.",
        "Logging in took too long or was finished before. Go back to the site and log in again.",
    ),
    "other-browser": (
        "Dit inloggen is in een andere browser begonnen, of uw browser weigert cookies. Begin opnieuw.",
        "This login was started in another browser, or your browser refuses cookies. Start again.",
    ),
    "request-refused": (
        "De site stuurde een verzoek dat niet klopt. Daar kunt u niets aan doen.",
        "The site sent a request that is not in order. There is nothing you can do about that.",
    ),
    "client-unknown": (
        "De site die u laat inloggen is hier niet bekend. Log daar niet in.",
        "The site that asks you to log in is not known here. Do not log in there.",
    ),
    "redirect-unknown": (
        "De site wil u terugsturen naar een adres dat hier niet bekend is. Daarom stoppen we.",
        "The site wants to send you back to an address that is not known here. That is why we stop.",
    ),
}
"""What went wrong, in the resident's words: Dutch first, English beside."""


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

"""The pages of the OpenID Provider: its views (`identity.pages`) as HTML within the portal's frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from stelsel.identity.assurance import Level
from stelsel.identity.pages import TEXTS, ActivateView, DemoPerson, FailedView, LoginView, LogoutView
from stelsel.portal.pages import Renderer

_LEVELS: dict[Level, tuple[str, str]] = {
    "low": ("laag", "low"),
    "substantial": ("substantieel", "substantial"),
    "high": ("hoog", "high"),
}
_ACTIVATION_TITLES = {
    "code": ("Toegangssleutel maken", "Make a passkey"),
    "passkey": ("Bewaar uw toegangssleutel", "Keep your passkey"),
    "done": ("Uw toegangssleutel is klaar", "Your passkey is ready"),
}


@dataclass(frozen=True, slots=True)
class Office:
    """The officials of one organisation, among whom a visitor of the demo may choose."""

    name: str
    people: tuple[DemoPerson, ...]


class LoginPages:
    """Implements `stelsel.identity.pages.Pages`. `names` gives the names of organisations by their OIN."""

    def __init__(self, renderer: Renderer, names: Callable[[], Mapping[str, str]] = dict) -> None:
        self._renderer, self._names = renderer, names

    def login(self, request: Request, view: LoginView) -> Response:
        return self._page(
            request,
            "login.html",
            title=("Inloggen", "Log in"),
            status=view.status,
            form_action=view.redirect_origin,
            here=f"{view.action}?{urlencode({'challenge': view.challenge})}",
            view=view,
            problem=TEXTS[view.problem] if view.problem else None,
            level=_LEVELS[view.level],
            residents=[person for person in view.demo_people if person.kind == "resident"],
            offices=self._offices(view.demo_people),
        )

    def activate(self, request: Request, view: ActivateView) -> Response:
        return self._page(
            request,
            "activate.html",
            title=_ACTIVATION_TITLES[view.step],
            status=view.status,
            here=view.action,
            view=view,
            problem=TEXTS[view.problem] if view.problem else None,
        )

    def logout(self, request: Request, view: LogoutView) -> Response:
        asking = view.step == "ask"
        return self._page(
            request,
            "logout.html",
            title=("Wilt u uitloggen?", "Do you want to log out?")
            if asking
            else ("U bent uitgelogd", "You are logged out"),
            form_action=view.redirect_origin,
            view=view,
        )

    def failed(self, request: Request, view: FailedView) -> Response:
        return self._page(
            request,
            "login_failed.html",
            title=("Inloggen lukt zo niet", "You cannot log in like this"),
            status=view.status,
            here="/",
            problem=TEXTS[view.problem],
            detail=view.detail,
        )

    def _page(self, request: Request, template: str, **view: Any) -> Response:
        response = self._renderer.page(request, template, **view)
        response.headers["Cache-Control"] = "no-store"
        return response

    def _offices(self, people: tuple[DemoPerson, ...]) -> list[Office]:
        names, by_peer = self._names(), dict[str, list[DemoPerson]]()
        for person in people:
            if person.kind == "official":
                by_peer.setdefault(person.peer_id, []).append(person)
        return [Office(names.get(peer_id, peer_id), tuple(some)) for peer_id, some in by_peer.items()]

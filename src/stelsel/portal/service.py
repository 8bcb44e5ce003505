"""The portal of one node: which pages it has, who is logged in, and what every answer keeps to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stelsel.agreements.service import Agreements
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.errors import Fault, NotFound
from stelsel.base.ids import new_span_id
from stelsel.base.log import logger
from stelsel.base.web import ProblemResponse, application, problem_response
from stelsel.identity.faults import LoginCancelled
from stelsel.identity.relying_party import Identity, RelyingParty
from stelsel.identity.site import SiteLogin, own_path
from stelsel.ledger.service import Ledger
from stelsel.opendata.service import OpenData
from stelsel.portal import faults, trust
from stelsel.portal.login import LoginPages
from stelsel.portal.managing_views import Observed
from stelsel.portal.pages import Renderer
from stelsel.portal.settings import PortalSettings
from stelsel.steering.service import Steering

_log = logger("portal")
_STATIC = Path(__file__).parent / "static"
RETURN_PATH = "/inloggen/terug"
CANCELLED_PATH = "/inloggen/geannuleerd"

Page = Callable[[Request], Awaitable[Response]]
Doctor = Callable[[], Awaitable[Sequence[Observed]]]
"""Looks whether the node is well."""


class Portal:
    """The pages of a node. A part is there when what it shows is: `opendata`, `steering`, `doctor` may be None."""

    def __init__(
        self,
        *,
        settings: PortalSettings,
        web_address: str,
        outway: str | None,
        folder: Path,
        keypair: KeyPair,
        anchors: TrustAnchors,
        clock: Clock,
        database: Database,
        agreements: Agreements,
        ledger: Ledger,
        opendata: OpenData | None = None,
        steering: Steering | None = None,
        doctor: Doctor | None = None,
    ) -> None:
        self.doctor = doctor
        self.settings, self.web_address, self.clock = settings, web_address, clock
        self.agreements, self.ledger, self.opendata, self.steering = agreements, ledger, opendata, steering
        self.anchors = anchors
        self.peer_id = keypair.certificate.peer_id
        self.organisation = keypair.certificate.peer_name
        self.outway = outway
        self.renderer = Renderer(self.organisation, demo=settings.demo)
        self.pages = LoginPages(self.renderer, agreements.peer_names)
        """The pages of the OpenID Provider, for a node that is one."""
        # The outway and the provider are addresses of our own configuration; a proxy has no part in reaching them.
        self.http = httpx.AsyncClient(timeout=30, trust_env=False, limits=httpx.Limits(max_connections=100))
        self._party = RelyingParty(
            issuer=settings.issuer,
            client_id=settings.client_id,
            key=keypair.key,
            redirect_uri=web_address + RETURN_PATH,
            http=self.http,
            clock=clock,
        )
        self._make_login: Callable[[], SiteLogin] = lambda: SiteLogin(
            relying_party=self._party, database=database, folder=folder, clock=clock, base_url=web_address
        )
        self._login: SiteLogin | None = None

    async def start(self) -> None:
        """Open what only a running portal needs."""
        self._login = self._make_login()

    async def stop(self) -> None:
        """Let go of connections."""
        await self.http.aclose()

    @property
    def login(self) -> SiteLogin:
        """The sessions of this site's visitors; there once the portal has started."""
        if self._login is None:
            raise RuntimeError("the portal has not started")
        return self._login

    def application(self, routes: list[BaseRoute]) -> Starlette:
        """The web application: the portal's pages and `routes` of other rooms beside them."""
        from stelsel.portal import builder, official, resident, steward

        pages = [
            Route("/", self.home),
            Route("/inloggen", self.begin_login),
            Route(RETURN_PATH, self.finish_login),
            Route(CANCELLED_PATH, self.cancelled),
            Route("/uitloggen", self.end_login),
            trust.route(self.agreements.group.trust_anchors),
            *official.routes(self),
            *(resident.routes(self) if self.settings.residents else []),
            *(builder.routes(self) if self.opendata is not None else []),
            *(steward.routes(self) if self.steering is not None else []),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ]
        app = application([*routes, *pages], middleware=[Middleware(_SafeHeaders)])
        app.add_exception_handler(Fault, self._on_fault)
        app.add_exception_handler(HTTPException, self._on_http_exception)
        app.add_exception_handler(Exception, self._on_mistake)
        return app

    # -- what pages use ------------------------------------------------------------------------------------------

    async def page(self, request: Request, template: str, *, title: tuple[str, str], **view: Any) -> Response:
        """A page within the frame: the menu of this node, and whether somebody is logged in."""
        identity = await self.login.identity(request)
        return self.renderer.page(
            request,
            template,
            title=title,
            navigation=self._navigation(),
            signed_in=identity is not None,
            form_action=self.settings.issuer,
            **view,
        )

    async def resident(self, request: Request) -> Identity | None:
        """The resident who is logged in, or None: an official is no resident here."""
        identity = await self.login.identity(request)
        return identity if identity is not None and identity.burgerservicenummer else None

    async def official(self, request: Request) -> Identity | None:
        """The official of this very organisation who is logged in, or None."""
        identity = await self.login.identity(request)
        return identity if identity is not None and identity.peer_id == self.peer_id else None

    async def send_to_login(self, request: Request, *, wants_bsn: bool = False) -> Response:
        """Let the visitor log in and come back here."""
        return await self.login.begin(request, back=request.url.path, wants_bsn=wants_bsn)

    def _navigation(self) -> list[tuple[str, str]]:
        entries = [("/mijn-gegevens", "my_data")] if self.settings.residents else []
        if self.steering is not None:
            entries += [("/stelsel", "board"), ("/doelen", "goals")]
        if self.opendata is not None:
            entries.append(("/open-data", "open_data"))
        return [*entries, ("/afspraken", "agreements")]

    # -- pages of the portal itself --------------------------------------------------------------------------------

    async def home(self, request: Request) -> Response:
        return await self.page(
            request,
            "home.html",
            title=(f"Welkom bij {self.organisation}", f"Welcome to {self.organisation}"),
            residents=self.settings.residents,
            steward=self.steering is not None,
            builder=self.opendata is not None,
        )

    async def begin_login(self, request: Request) -> Response:
        """Log in anew, also when the provider remembers somebody: at the next site one may be somebody else."""
        back = own_path(request.query_params.get("terug", "/"))
        return await self.login.begin(request, back=back, wants_bsn=self.settings.residents, again=True)

    async def finish_login(self, request: Request) -> Response:
        try:
            return await self.login.finish(request)
        except LoginCancelled:
            return RedirectResponse(CANCELLED_PATH, status_code=303, headers={"Cache-Control": "no-store"})

    async def cancelled(self, request: Request) -> Response:
        return await self.page(request, "cancelled.html", title=("U bent niet ingelogd", "You are not logged in"))

    async def end_login(self, request: Request) -> Response:
        if await self.login.identity(request) is None:
            return RedirectResponse("/", status_code=303)
        return await self.login.end(request, return_to=f"{self.web_address}/")

    async def _on_fault(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, Fault):
            raise error
        return await self._explain(request, error, error.status) if _wants_html(request) else problem_response(error)

    async def _on_http_exception(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        fault: Fault = (
            NotFound("There is no page at this address.") if error.status_code == 404 else Fault(error.detail)
        )
        if _wants_html(request):
            response = await self._explain(request, fault, error.status_code)
        elif isinstance(fault, NotFound):
            response = problem_response(fault)
        else:
            document = {"type": "about:blank", "title": error.detail, "status": error.status_code}
            response = ProblemResponse(document, status_code=error.status_code)
        response.headers.update(error.headers or {})  # such as Allow (RFC 9110, section 15.5.6)
        return response

    async def _on_mistake(self, request: Request, error: Exception) -> Response:
        incident = new_span_id()
        _log.error("mistake", incident=incident, exc_info=error)
        fault = Fault("We made a mistake; the operator can find it by its number.", incident=incident)
        # Who is logged in is not asked here: that may be the very thing that goes wrong.
        return self._fault_page(request, fault, 500, []) if _wants_html(request) else problem_response(fault)

    async def _explain(self, request: Request, fault: Fault, status: int) -> Response:
        signed_in = await self.login.identity(request) is not None
        return self._fault_page(request, fault, status, self._navigation(), signed_in=signed_in)

    def _fault_page(
        self, request: Request, fault: Fault, status: int, navigation: list[tuple[str, str]], *, signed_in: bool = False
    ) -> Response:
        words = faults.words_for(fault.kind, status)
        return self.renderer.page(
            request,
            "fault.html",
            title=words.title,
            navigation=navigation,
            signed_in=signed_in,
            status=status,
            # An answer of the provider can be used once; its address holds a code that has no place in a link.
            here="/" if request.url.path == RETURN_PATH or request.method != "GET" else "",
            words=words,
            fault=fault,
            retry=fault.kind == "login-refused",
        )


def _wants_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


class _SafeHeaders:
    """Headers that every answer of the site has, whatever made it (OWASP Secure Headers)."""

    _HEADERS = (
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
        (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
        (b"cross-origin-opener-policy", b"same-origin"),
    )

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._HEADERS]
            await send(message)

        await self._app(scope, receive, sending)

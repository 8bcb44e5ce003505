"""The provider on HTTP: OpenID Connect endpoints for clients, pages and passkey endpoints for people.

Answers to clients are JSON with `no-store`; a fault there is OAuth's error object (RFC 6749, section 5.2). The browser
is always sent on with 303, never 307, so that no form is sent along (RFC 9700, section 4.12). Discovery and keys are
public documents that any origin may read; nothing else is offered across origins, since all clients are sites with a
server of their own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from stelsel.base.errors import BadRequest, Fault, TooMany, Unauthenticated
from stelsel.base.text import inert
from stelsel.base.web import read_body, read_json
from stelsel.identity.faults import LoginProblem, ProtocolFault
from stelsel.identity.pages import TEXTS, ActivateView, FailedView, LogoutView, Pages
from stelsel.identity.service import Forward, OpenIdProvider
from stelsel.identity.sessions import Cookie, Sessions, new_secret

_MAXIMUM_FORM = 32 * 1024
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_PUBLIC = {"Cache-Control": "public, max-age=300", "Access-Control-Allow-Origin": "*"}

Endpoint = Callable[[Request], Awaitable[Response]]


def routes(provider: OpenIdProvider, pages: Pages) -> list[BaseRoute]:
    """The routes of the provider; `pages` renders what people see."""
    site = _Site(provider, pages)
    client, page, script = site.client_endpoint, site.page_endpoint, site.script_endpoint
    return [
        Route("/.well-known/openid-configuration", client(site.discovery)),
        Route("/.well-known/oauth-authorization-server", client(site.discovery)),
        Route("/oidc/jwks", client(site.jwks)),
        Route("/oidc/authorize", page(site.authorize), methods=["GET", "POST"]),
        Route("/oidc/token", client(site.token), methods=["POST"]),
        Route("/oidc/userinfo", client(site.userinfo), methods=["GET", "POST"]),
        Route("/oidc/logout", page(site.logout), methods=["GET", "POST"]),
        Route("/login", page(site.show_login), methods=["GET"]),
        Route("/login", page(site.answer_login), methods=["POST"]),
        Route("/login/passkey.js", _script_file, methods=["GET"]),
        Route("/login/passkey/options", script(site.passkey_options), methods=["POST"]),
        Route("/login/passkey/verify", script(site.passkey_verify), methods=["POST"]),
        Route("/activate", page(site.show_activate), methods=["GET"]),
        Route("/activate", page(site.answer_activate), methods=["POST"]),
        Route("/activate/passkey/options", script(site.registration_options), methods=["POST"]),
        Route("/activate/passkey/verify", script(site.registration_verify), methods=["POST"]),
    ]


class _Site:
    def __init__(self, provider: OpenIdProvider, pages: Pages) -> None:
        self._provider, self._pages = provider, pages
        settings = provider.settings
        self._browser_cookie = Cookie("browser", provider.issuer)
        self._sessions = Sessions(
            provider.database,
            provider.vault,
            provider.clock,
            Cookie("provider", provider.issuer),
            idle=settings.session_idle,
            absolute=settings.session_absolute,
        )

    # For clients

    async def discovery(self, request: Request) -> Response:
        del request
        return JSONResponse(self._provider.discovery(), headers=_PUBLIC)

    async def jwks(self, request: Request) -> Response:
        del request
        return JSONResponse(await self._provider.jwks(), headers=_PUBLIC)

    async def token(self, request: Request) -> Response:
        return JSONResponse(await self._provider.token(await _form(request)), headers=_NO_STORE)

    async def userinfo(self, request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer" or not token or len(token) > 8192:
                raise Unauthenticated("send the access token in the Authorization header (RFC 6750, section 2.1)")
            answer = await self._provider.userinfo(token)
        except Unauthenticated as fault:
            return JSONResponse(
                {"error": "invalid_token", "error_description": fault.detail},
                status_code=401,
                headers=_NO_STORE | {"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        return Response(answer, media_type="application/jwt", headers=_NO_STORE)

    # Pages

    async def authorize(self, request: Request) -> Response:
        query = request.scope["query_string"].decode("latin-1")
        parameters = _pairs(query) if request.method == "GET" else await _form(request)
        browser = self._browser_cookie.read(request) or new_secret()
        where = await self._provider.authorize(parameters, browser, await self._sessions.value(request))
        if isinstance(where, Forward):
            return _go(where.address)
        response = _go(f"/login?challenge={where}")
        self._browser_cookie.set(response, browser)
        return response

    async def show_login(self, request: Request) -> Response:
        view = self._provider.login_view(request.query_params.get("challenge", ""), self._browser(request))
        return self._pages.login(request, view)

    async def answer_login(self, request: Request) -> Response:
        self._same_origin(request)
        form, browser = dict(await _form(request)), self._browser(request)
        challenge = form.get("challenge", "")
        if form.get("cancel"):
            return _go((await self._provider.cancel(challenge, browser)).address)
        try:
            forward = await self._provider.choose(challenge, browser, form.get("person", ""))
        except (LoginProblem, TooMany) as fault:
            problem = _as_problem(fault)
            view = self._provider.login_view(challenge, browser, problem.what, problem.page_status)
            return self._pages.login(request, view)
        return await self._logged_in(request, _go(forward.address), forward)

    async def show_activate(self, request: Request) -> Response:
        if request.query_params.get("done"):
            return self._pages.activate(request, ActivateView("done"))
        return self._activate_form(request)

    async def answer_activate(self, request: Request) -> Response:
        self._same_origin(request)
        form, browser = dict(await _form(request)), self._browser(request)
        self._provider.check_form(form.get("form_token", ""), browser)
        try:
            ceremony, account = await self._provider.activate(form.get("code", "")[:64], browser)
        except (LoginProblem, TooMany) as fault:
            return self._activate_form(request, _as_problem(fault))
        view = ActivateView("passkey", form_token=ceremony, display_name=account.display_name)
        return self._pages.activate(request, view)

    def _activate_form(self, request: Request, problem: LoginProblem | None = None) -> Response:
        browser = self._browser_cookie.read(request) or new_secret()
        view = ActivateView(
            "code",
            form_token=self._provider.form_token(browser),
            problem=problem.what if problem else None,
            status=problem.page_status if problem else 200,
        )
        response = self._pages.activate(request, view)
        self._browser_cookie.set(response, browser)
        return response

    async def logout(self, request: Request) -> Response:
        parameters = dict(request.query_params) if request.method == "GET" else dict(await _form(request))
        if request.method == "POST" and "form_token" in parameters:
            self._same_origin(request)
            self._provider.check_form(parameters["form_token"], self._browser(request))
            return await self._log_out(request, self._provider.return_address(parameters.get("return_to", "")))
        now, address = await self._provider.logout_hint(parameters, await self._sessions.value(request))
        state = parameters.get("state", "")
        if now:
            return await self._log_out(
                request, f"{address}?state={_query_value(state)}" if address and state else address
            )
        browser = self._browser_cookie.read(request) or new_secret()
        origin = urlsplit(address)
        view = LogoutView(
            "ask",
            form_token=self._provider.form_token(browser),
            return_to=address,
            redirect_origin=f"{origin.scheme}://{origin.netloc}" if address else "",
        )
        response = self._pages.logout(request, view)
        self._browser_cookie.set(response, browser)
        return response

    async def _log_out(self, request: Request, address: str) -> Response:
        response = _go(address) if address else self._pages.logout(request, LogoutView("done"))
        await self._sessions.end(request, response)
        return response

    # For our own script

    async def passkey_options(self, request: Request) -> Response:
        challenge, _ = await self._from_script(request)
        options = await self._provider.passkey_options(challenge, self._browser(request))
        return JSONResponse(options, headers=_NO_STORE)

    async def passkey_verify(self, request: Request) -> Response:
        challenge, credential = await self._from_script(request)
        forward = await self._provider.passkey_login(challenge, self._browser(request), credential)
        return await self._logged_in(request, JSONResponse({"location": forward.address}, headers=_NO_STORE), forward)

    async def registration_options(self, request: Request) -> Response:
        ceremony, _ = await self._from_script(request)
        options = await self._provider.registration_options(ceremony, self._browser(request))
        return JSONResponse(options, headers=_NO_STORE)

    async def registration_verify(self, request: Request) -> Response:
        ceremony, credential = await self._from_script(request)
        await self._provider.register(ceremony, self._browser(request), credential)
        return JSONResponse({"location": "/activate?done=1"}, headers=_NO_STORE)

    async def _from_script(self, request: Request) -> tuple[str, dict[str, Any]]:
        self._same_origin(request)
        body = await read_json(request, _MAXIMUM_FORM)
        challenge, credential = body.get("challenge"), body.get("credential", {})
        if not isinstance(challenge, str) or not isinstance(credential, dict):
            raise BadRequest("challenge must be text and credential an object")
        return challenge, credential

    # What they share

    async def _logged_in(self, request: Request, response: Response, forward: Forward) -> Response:
        if forward.session is not None:
            await self._sessions.begin(request, response, forward.session)
        return response

    def _browser(self, request: Request) -> str:
        browser = self._browser_cookie.read(request)
        if browser is None:
            raise LoginProblem("other-browser", status=403)
        return browser

    def _same_origin(self, request: Request) -> None:
        """Refuses a post from another site, beside the token that it could not know.

        A page with `Referrer-Policy: no-referrer` posts with origin `null`: then the token alone decides.
        """
        origin = request.headers.get("origin", "null")
        if origin not in ("null", self._provider.issuer):
            raise LoginProblem("other-browser", status=403)

    def client_endpoint(self, endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except ProtocolFault as fault:
                return _oauth_error(fault.error, fault.detail, fault.http_status)
            except (BadRequest, LoginProblem) as fault:
                return _oauth_error("invalid_request", fault.detail, 400)

        return answer

    def page_endpoint(self, endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except (LoginProblem, TooMany, BadRequest) as fault:
                problem = _as_problem(fault)
                detail = "" if problem.detail == problem.what else inert(problem.detail)
                view = FailedView(problem.what, problem.page_status, detail)
                return self._pages.failed(request, view)

        return answer

    def script_endpoint(self, endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except (LoginProblem, TooMany, BadRequest) as fault:
                problem = _as_problem(fault)
                dutch, english = TEXTS[problem.what]
                told = {"problem": problem.what, "message_nl": dutch, "message_en": english}
                return JSONResponse(told, status_code=problem.page_status, headers=_NO_STORE)

        return answer


async def _form(request: Request) -> list[tuple[str, str]]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise BadRequest("send a form as application/x-www-form-urlencoded")
    return _pairs((await read_body(request, _MAXIMUM_FORM)).decode("latin-1"))


def _pairs(encoded: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(encoded, keep_blank_values=True, max_num_fields=50, errors="strict")
    except ValueError as error:
        raise BadRequest("the parameters cannot be read") from error


def _query_value(text: str) -> str:
    from urllib.parse import quote

    return quote(text[:512], safe="")


def _go(address: str) -> Response:
    return RedirectResponse(address, status_code=303, headers={**_NO_STORE, "Referrer-Policy": "no-referrer"})


def _as_problem(fault: Fault) -> LoginProblem:
    if isinstance(fault, LoginProblem):
        return fault
    if isinstance(fault, TooMany):
        return LoginProblem("too-many-attempts", status=429)
    return LoginProblem("request-refused", status=fault.status, detail=fault.detail)


def _oauth_error(error: str, detail: str, status: int) -> Response:
    return JSONResponse({"error": error, "error_description": detail}, status_code=status, headers=_NO_STORE)


@cache
def _script() -> bytes:
    return (Path(__file__).parent / "static" / "passkey.js").read_bytes()


async def _script_file(request: Request) -> Response:
    del request
    headers = {"Cache-Control": "public, max-age=300", "X-Content-Type-Options": "nosniff"}
    return Response(_script(), media_type="text/javascript", headers=headers)

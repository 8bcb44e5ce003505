"""The probe of `security_txt`: one GET, within limits of time and size, that never follows a redirect elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import ssl
from urllib.parse import urljoin, urlsplit

import httpx

from stelsel.base.text import inert
from stelsel.steering.checks.check import Target, Transcript, Unreachable, endpoint, resolve
from stelsel.steering.checks.security_txt.norm import MAXIMUM_SIZE, SecurityTxtFacts, parse

PATH = "/.well-known/security.txt"
_MAXIMUM_REDIRECTS = 3
_MAXIMUM_FIELDS = 100


async def probe(target: Target, transcript: Transcript) -> SecurityTxtFacts:
    """The facts about a peer's security.txt. Raises `Unreachable` when the website does not answer."""
    if not target.web_address:
        transcript.note("the peer says that it has no website")
        return SecurityTxtFacts(url="", secure=False, loopback=False, has_website=False)
    site, port = endpoint(target.web_address, ("http", "https"))
    ip = await resolve(site.hostname or "", port, local_addresses=target.local_addresses)
    secure, loopback = site.scheme == "https", ipaddress.ip_address(ip.partition("%")[0]).is_loopback
    base = f"{site.scheme}://{site.netloc}"
    url = base + PATH
    try:
        async with asyncio.timeout(target.timeout), httpx.AsyncClient(verify=_context(target), trust_env=False) as http:
            for _ in range(_MAXIMUM_REDIRECTS + 1):
                request = _request(http, url, ip, port)
                answer = await http.send(request, stream=True)
                location = answer.headers.get("location", "")
                transcript.note(f"GET {inert(url, 200)}: {answer.status_code} {_type_of(answer)}")
                if answer.status_code not in (301, 302, 303, 307, 308) or not location:
                    return await _read(answer, url, transcript, secure=secure, loopback=loopback)
                await answer.aclose()
                url = _target_of(url, location)
                if not url.startswith(base + "/"):
                    transcript.note(f"redirects elsewhere, not followed: {inert(url, 200)}")
                    return SecurityTxtFacts(
                        url=base + PATH,
                        secure=secure,
                        loopback=loopback,
                        status=answer.status_code,
                        redirected_to=inert(url, 200),
                    )
    except httpx.ConnectError as error:
        fault = _certificate_fault(error)
        if fault:
            transcript.note(f"the certificate does not hold: {fault}")
            return SecurityTxtFacts(url=url, secure=secure, loopback=loopback, certificate_fault=fault)
        raise Unreachable("no connection could be made with the website") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable(f"the website gave no usable answer ({type(error).__name__})") from error
    raise Unreachable(f"the website redirects more than {_MAXIMUM_REDIRECTS} times")


def _request(http: httpx.AsyncClient, url: str, ip: str, port: int) -> httpx.Request:
    """A request to the address that was looked up and judged, under the name of the website."""
    parts = urlsplit(url)
    host = f"[{ip}]" if ":" in ip else ip
    query = f"?{parts.query}" if parts.query else ""
    headers = {"host": parts.netloc, "accept": "text/plain", "accept-encoding": "identity"}
    headers["user-agent"] = "stelsel-check"
    return http.build_request(
        "GET",
        f"{parts.scheme}://{host}:{port}{parts.path}{query}",
        headers=headers,
        extensions={"sni_hostname": parts.hostname or ""},
    )


async def _read(
    answer: httpx.Response, url: str, transcript: Transcript, *, secure: bool, loopback: bool
) -> SecurityTxtFacts:
    body = bytearray()
    too_large = False
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > MAXIMUM_SIZE:
            too_large = True
            break
    await answer.aclose()
    seen = bytes(body[:MAXIMUM_SIZE])
    digest = hashlib.sha256(seen).hexdigest()
    transcript.note(f"{'more than ' if too_large else ''}{len(seen)} bytes, SHA-256 of these {digest}")
    fields: tuple[tuple[str, str], ...] = ()
    readable = True
    if answer.status_code == 200 and not too_large:
        try:
            fields, readable = parse(seen.decode("utf-8-sig"))
        except UnicodeDecodeError:
            readable = False
    shown = tuple((inert(name, 60), inert(value, 300)) for name, value in fields[:_MAXIMUM_FIELDS])
    for name, value in shown[:30]:
        transcript.note(f"  {name}: {value}")
    return SecurityTxtFacts(
        url=url,
        secure=secure,
        loopback=loopback,
        status=answer.status_code,
        content_type=_type_of(answer),
        too_large=too_large,
        size=len(seen),
        sha256=digest,
        readable=readable and len(fields) <= _MAXIMUM_FIELDS,
        fields=shown,
    )


def _context(target: Target) -> ssl.SSLContext:
    """What browsers trust, and the group's own anchors: in a closed network websites may have certificates of those."""
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=target.anchors.pem.decode("ascii"))
    return context


def _target_of(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return inert(location, 200)


def _type_of(answer: httpx.Response) -> str:
    return inert(answer.headers.get("content-type", ""), 100)


def _certificate_fault(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return inert(cause.verify_message, 100)
        cause = cause.__cause__ or cause.__context__
    return ""

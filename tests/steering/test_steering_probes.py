"""The checks against real servers on this machine: good ones, and each with one fault."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.demo.authority import Authority
from stelsel.steering.checks import CHECKS, Target
from stelsel.steering.checks.check import Evidence
from stelsel.steering.checks.security_txt.norm import SecurityTxtFacts, parse
from stelsel.steering.checks.security_txt.norm import judge as judge_security_txt
from stelsel.steering.checks.tls.norm import is_safe
from stelsel.steering.findings import Outcome

PEER = "00000099000000005000"
STEWARD = "00000099000000001000"
NOW = time.time()
MONTH = 30 * 86400

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], "asyncio.Future[None]"]
V = ssl.TLSVersion


def context(
    keypair: KeyPair,
    anchors: TrustAnchors | None = None,
    versions: tuple[ssl.TLSVersion, ssl.TLSVersion] = (V.TLSv1_2, V.TLSv1_3),
    ciphers: str = "ECDHE+AESGCM:ECDHE+CHACHA20",
) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.set_ciphers(ciphers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made.minimum_version, made.maximum_version = versions
    made.load_cert_chain(keypair.certificate_file, keypair.key_file)
    if anchors is not None:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(cadata=anchors.pem.decode())
    return made


@contextlib.asynccontextmanager
async def server(answer: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Answers every request with these bytes; None: never answers."""
    stop = asyncio.Event()
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.get_running_loop().create_task(serve(reader, writer)))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if answer is None:
                await stop.wait()
            else:
                writer.write(answer)
                await writer.drain()
        writer.transport.abort()

    made = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # refused handshakes are what is tested
    try:
        yield made.sockets[0].getsockname()[1]
    finally:
        stop.set()
        await asyncio.gather(*serving)
        made.close()
        await asyncio.sleep(0.01)  # for the last transports to close


def run(
    check: str, target: Callable[[int], Target], answer: bytes | None = b"", tls: ssl.SSLContext | None = None
) -> Evidence:
    async def within() -> Evidence:
        async with server(answer, tls) as port:
            return await CHECKS[check].run(target(port), NOW)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the loop that nodes run on
        return runner.run(within())


@pytest.fixture(scope="module")
def steward(new_keypair: Callable[..., KeyPair]) -> KeyPair:
    return new_keypair(STEWARD, "Regie")


@pytest.fixture(scope="module")
def peer(new_keypair: Callable[..., KeyPair]) -> KeyPair:
    return new_keypair(PEER, "Bouwer")


@pytest.fixture(scope="module")
def tls_of(steward: KeyPair, anchors: TrustAnchors) -> Callable[[ssl.SSLContext], Evidence]:
    def check(served: ssl.SSLContext) -> Evidence:
        return run(
            "tls@1",
            lambda port: Target(PEER, f"https://localhost:{port}", "", steward, anchors, True, 2.0),
            tls=served,
        )

    return check


Check = Callable[[ssl.SSLContext], Evidence]


def test_a_manager_as_we_make_it_is_met_though_it_asks_for_a_client_certificate(
    tls_of: Check, peer: KeyPair, anchors: TrustAnchors
) -> None:
    evidence = tls_of(peer.server_context(anchors))
    assert evidence.verdict.outcome is Outcome.MET, evidence
    assert evidence.facts["versions"] == {"TLSv1.2": True, "TLSv1.3": True, "TLSv1": False, "TLSv1.1": False}
    assert evidence.facts["weak_suites"] == []
    assert evidence.facts["weak_suites_tried"] > 20


def test_only_1_3_is_met_and_only_1_2_is_met_with_advice(tls_of: Check, peer: KeyPair) -> None:
    assert tls_of(context(peer, versions=(V.TLSv1_3, V.TLSv1_3))).verdict.outcome is Outcome.MET
    older = tls_of(context(peer, versions=(V.TLSv1_2, V.TLSv1_2)))
    assert older.verdict.outcome is Outcome.MET
    assert "TLS 1.3" in older.verdict.advice[0].en


def test_a_server_that_still_takes_1_0_is_not_met(tls_of: Check, peer: KeyPair) -> None:
    evidence = tls_of(context(peer, versions=(V.TLSv1, V.TLSv1_3), ciphers="ALL:@SECLEVEL=0"))
    if evidence.facts["versions"]["TLSv1"] is None:
        assert evidence.verdict.outcome is not Outcome.MET
        pytest.skip("the OpenSSL of this machine cannot offer TLS 1.0")
    assert evidence.verdict.outcome is Outcome.NOT_MET
    assert any("TLS 1.0," in reason.en for reason in evidence.verdict.reasons)
    assert any("TLS 1.1," in reason.en for reason in evidence.verdict.reasons)


def test_an_unsafe_suite_under_1_2_is_found_and_named(tls_of: Check, peer: KeyPair) -> None:
    evidence = tls_of(context(peer, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0"))
    assert evidence.verdict.outcome is Outcome.NOT_MET
    assert evidence.facts["weak_suites"] == ["ECDHE-ECDSA-AES256-SHA"]


def test_a_server_that_takes_unsafe_suites_only_is_not_met(tls_of: Check, peer: KeyPair) -> None:
    only = context(peer, versions=(V.TLSv1_2, V.TLSv1_2), ciphers="ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0")
    assert tls_of(only).verdict.outcome is Outcome.NOT_MET


def test_an_expired_certificate_is_not_met(tls_of: Check, new_keypair: Callable[..., KeyPair]) -> None:
    evidence = tls_of(context(new_keypair(PEER, days=-1)))
    assert [reason.en for reason in evidence.verdict.reasons] == ["The certificate has expired."]


def test_a_certificate_that_expires_soon_is_met_with_notice(tls_of: Check, new_keypair: Callable[..., KeyPair]) -> None:
    evidence = tls_of(context(new_keypair(PEER, days=5.5)))
    assert evidence.verdict.outcome is Outcome.MET
    assert "expires in 5 days" in evidence.verdict.advice[0].en


def test_a_certificate_of_another_authority_is_not_met(tls_of: Check, tmp_path: Path) -> None:
    other = KeyPair.load(*Authority("another").issue(tmp_path, PEER, "Bouwer"))
    evidence = tls_of(context(other))
    assert evidence.facts["chain_holds"] is False
    assert evidence.verdict.outcome is Outcome.NOT_MET


def test_a_certificate_for_another_host_is_not_met(tls_of: Check, new_keypair: Callable[..., KeyPair]) -> None:
    evidence = tls_of(context(new_keypair(PEER, domain_names=("elders.example",))))
    assert (evidence.facts["chain_holds"], evidence.facts["host_matches"]) == (True, False)
    assert evidence.verdict.outcome is Outcome.NOT_MET


def test_a_certificate_of_another_peer_is_not_met(tls_of: Check, steward: KeyPair) -> None:
    assert "another organisation" in tls_of(context(steward)).verdict.reasons[0].en


def test_nobody_there_or_no_tls_there_is_an_error_and_never_a_failure(steward: KeyPair, anchors: TrustAnchors) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    target = Target(PEER, f"https://localhost:{port}", "", steward, anchors, True, 1.0)
    assert asyncio.run(CHECKS["tls@1"].run(target, NOW)).verdict.outcome is Outcome.ERROR
    plain = run("tls@1", lambda at: Target(PEER, f"https://localhost:{at}", "", steward, anchors, True, 0.5))
    assert plain.verdict.outcome is Outcome.ERROR


def test_private_addresses_are_not_probed_unless_the_settings_say_so(steward: KeyPair, anchors: TrustAnchors) -> None:
    for check in CHECKS.values():
        evidence = asyncio.run(
            check.run(Target(PEER, "https://localhost:9", "http://localhost:9", steward, anchors), NOW)
        )
        assert evidence.verdict.outcome is Outcome.ERROR
        assert "not public" in evidence.verdict.reasons[0].en


@pytest.mark.parametrize(
    "address",
    ["", "http://[::1", "https://localhost:99999999", "https://a:b@localhost:9", "javascript:alert(1)", "file:///etc/passwd",
     "https://" + "x" * 300, "https://\u202elocalhost", "https://local host", "https://localhost:9\r\nX: y", "https://:9"],
)  # fmt: skip
def test_an_address_that_is_none_is_an_error(steward: KeyPair, anchors: TrustAnchors, address: str) -> None:
    for check in CHECKS.values():
        target = Target(PEER, address, address or "x", steward, anchors, True, 0.5)
        evidence = asyncio.run(check.run(target, NOW))
        assert evidence.verdict.outcome is Outcome.ERROR
        assert "mistake" not in evidence.verdict.reasons[0].en


def test_suites_are_told_apart() -> None:
    assert is_safe("ECDHE-RSA-AES256-GCM-SHA384")
    assert is_safe("ECDHE-ECDSA-CHACHA20-POLY1305")
    assert is_safe("TLS_AES_128_GCM_SHA256")
    for unsafe in ("AES256-GCM-SHA384", "ADH-AES256-GCM-SHA384", "ECDHE-RSA-AES256-SHA384", "NULL-SHA", "DES-CBC3-SHA"):
        assert not is_safe(unsafe)


def text_of(expires: float = NOW + MONTH, more: str = "") -> str:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires))
    return f"# meld het ons\r\nContact: mailto:veilig@bouwer.example\r\nExpires: {at}\r\n{more}"


def http(body: str, kind: str = "text/plain; charset=utf-8", status: str = "200 OK", more: str = "") -> bytes:
    data = body.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n{more}\r\n"
    return head.encode() + data


@pytest.fixture(scope="module")
def security_txt_of(steward: KeyPair, anchors: TrustAnchors) -> Callable[[bytes | None], Evidence]:
    def check(answer: bytes | None) -> Evidence:
        return run(
            "security_txt@1",
            lambda port: Target(PEER, "", f"http://localhost:{port}", steward, anchors, True, 1.0),
            answer,
        )

    return check


Fetch = Callable[["bytes | None"], Evidence]


def test_a_good_security_txt_is_met_and_says_that_it_was_without_https(security_txt_of: Fetch) -> None:
    evidence = security_txt_of(http(text_of()))
    assert evidence.verdict.outcome is Outcome.MET
    assert "Measured without https" in evidence.verdict.advice[0].en


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http("niet hier", status="404 Not Found"), "There is no security.txt"),
        (http("<html>", kind="text/html"), "text/plain"),
        (http(text_of(), kind="text/plain"), "text/plain; charset=utf-8"),
        (http(text_of(NOW - 86400)), "Expired"),
        (http(text_of(more="Expires: 2099-01-01T00:00:00Z\n")), "exactly once"),
        (http("Contact: mailto:a@b.example\n"), "exactly once"),
        (http(text_of().replace("Contact", "Hiring")), "no Contact"),
        (http(text_of().replace("mailto:", "")), "must begin with"),
        (http(text_of(more="Canonical: https://elders.example/.well-known/security.txt\n")), "another address"),
        (http(text_of(more="zomaar een regel\n")), "no field"),
        (http(text_of(more="# " + "x" * 40_000)), "larger than 32 KiB"),
        (http("", status="302 Found", more="Location: https://elders.example/security.txt\r\n"), "another website"),
        (http("", status="302 Found", more="Location: //169.254.169.254/security.txt\r\n"), "another website"),
    ],
)
def test_each_fault_of_a_security_txt_is_named(security_txt_of: Fetch, answer: bytes, said: str) -> None:
    verdict = security_txt_of(answer).verdict
    assert verdict.outcome is Outcome.NOT_MET
    assert any(said in reason.en for reason in verdict.reasons), verdict


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"rubbish\r\n\r\n",
        http("x", status="503 Service Unavailable"),
        http("", status="302 Found", more="Location: /b\r\n"),
    ],
)
def test_a_website_that_hangs_or_is_out_of_order_is_an_error_and_never_a_failure(
    security_txt_of: Fetch, answer: bytes | None
) -> None:
    begun = time.monotonic()
    assert security_txt_of(answer).verdict.outcome is Outcome.ERROR
    assert time.monotonic() - begun < 3


def test_a_hostile_file_is_inert_in_the_evidence(security_txt_of: Fetch) -> None:
    evidence = security_txt_of(http(text_of(more="Hiring: \u202e\x1b[2Jhttps://x\n")))
    assert "\x1b" not in str(evidence.to_json())
    assert "\u202e" not in str(evidence.to_json())


def test_over_https_the_certificate_must_hold(
    steward: KeyPair, peer: KeyPair, anchors: TrustAnchors, tmp_path: Path
) -> None:
    def check(keypair: KeyPair) -> Evidence:
        return run(
            "security_txt@1",
            lambda port: Target(PEER, "", f"https://localhost:{port}", steward, anchors, True, 2.0),
            http(text_of()),
            context(keypair),
        )

    assert check(peer).verdict.outcome is Outcome.MET
    stranger = KeyPair.load(*Authority("another").issue(tmp_path, PEER, "Bouwer"))
    assert "does not hold" in check(stranger).verdict.reasons[0].en


def test_http_elsewhere_than_on_this_machine_is_not_met_and_no_website_is_not_applicable() -> None:
    facts = SecurityTxtFacts(url="http://x.example/", secure=False, loopback=False, status=200)
    assert judge_security_txt(facts, NOW).outcome is Outcome.NOT_MET
    none = SecurityTxtFacts(url="", secure=False, loopback=False, has_website=False)
    assert judge_security_txt(none, NOW).outcome is Outcome.NOT_APPLICABLE


def test_a_signed_file_is_read_through_its_signature() -> None:
    signed = (
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nContact: tel:+31-70-1234567\n- -----\n"
        "-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n"
    )
    assert parse(signed) == ((("contact", "tel:+31-70-1234567"),), False)


@given(st.text())
def test_any_text_can_be_parsed_and_judged(text: str) -> None:
    fields, readable = parse(text)
    facts = SecurityTxtFacts(
        url="https://x.example/.well-known/security.txt",
        secure=True,
        loopback=False,
        status=200,
        content_type="text/plain; charset=utf-8",
        fields=fields,
        readable=readable,
    )
    assert judge_security_txt(facts, NOW).outcome in (Outcome.MET, Outcome.NOT_MET)

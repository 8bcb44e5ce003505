"""Certificates that do not hold, at a manager and of a manager: real mutual TLS, the real anchor, one fault each."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from agreements_peers import CONSUMER, PROVIDER, Country
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from starlette.responses import JSONResponse
from starlette.routing import Route

from stelsel.base.certificates import KeyPair
from stelsel.base.errors import Unauthenticated
from stelsel.base.web import application, listen, serving
from stelsel.demo.authority import Authority
from stelsel.demo.ports import free_ports

Files = tuple[Path, Path]
_HOUR = timedelta(hours=1)
_USES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


def _certificate(
    folder: Path,
    authority: Authority | None,
    peer_id: str = CONSUMER,
    *,
    begins: timedelta = -_HOUR,
    ends: timedelta = _HOUR,
) -> Files:
    """A certificate and its key as files, valid from `begins` until `ends` as seen from now; None: signs itself."""
    now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    issuer = authority._key if authority else key
    attributes = [(NameOID.ORGANIZATION_NAME, "Gemeente"), (NameOID.COMMON_NAME, "localhost")]
    attributes += [(NameOID.SERIAL_NUMBER, peer_id)] if peer_id else []
    subject = x509.Name([x509.NameAttribute(kind, value) for kind, value in attributes])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority._root.subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(_USES), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
        .sign(issuer, hashes.SHA256())
    )
    folder.mkdir()
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "certificate.pem", folder / "key.pem"


def _made(kind: str, folder: Path, authority: Authority, peer_id: str) -> Files:
    made = {
        "expired": lambda: _certificate(folder, authority, peer_id, begins=-2 * _HOUR, ends=-timedelta(seconds=1)),
        "not yet valid": lambda: _certificate(folder, authority, peer_id, begins=_HOUR, ends=2 * _HOUR),
        "self-signed": lambda: _certificate(folder, None, peer_id),
        "of another group": lambda: _certificate(folder, Authority("Another group"), peer_id),
        "of another anchor by the same name": lambda: _certificate(folder, Authority(), peer_id),
        "in order": lambda: _certificate(folder, authority, peer_id),
    }
    return made[kind]()


_WRONG = ["expired", "not yet valid", "self-signed", "of another group", "of another anchor by the same name"]


async def _ask(country: Country, files: Files) -> httpx.Response:
    context = ssl.create_default_context(cadata=country.provider.anchors.pem.decode())
    context.load_cert_chain(*files)
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        return await client.get(f"{country.provider.address}/v1/peer")


@pytest.mark.parametrize("kind", _WRONG)
def test_a_certificate_that_does_not_hold_gets_no_connection_to_a_manager(
    country: Country, authority: Authority, tmp_path: Path, kind: str
) -> None:
    async def scenario() -> None:
        async with country.running(country.provider):
            with pytest.raises(httpx.TransportError):
                await _ask(country, _made(kind, tmp_path / "wrong", authority, CONSUMER))
            # The same in every other respect: so the fault is the reason.
            answer = await _ask(country, _made("in order", tmp_path / "good", authority, CONSUMER))
            assert answer.status_code == 200, answer.text

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "peer_id",
    ["", "0000009900000000300", "000000990000000030000", "0000009900000000300x", "OIN-0000009900000000", " " * 20],
    ids=["none", "19 digits", "21 digits", "a letter", "a prefix", "spaces"],
)
def test_a_certificate_that_names_no_oin_is_told_so_and_gets_nothing(
    country: Country, authority: Authority, tmp_path: Path, peer_id: str
) -> None:
    async def scenario() -> None:
        async with country.running(country.provider):
            answer = await _ask(country, _certificate(tmp_path / "wrong", authority, peer_id))
            assert answer.status_code == 400, answer.text
            assert answer.json()["code"] == "ERROR_CODE_PEER_CERTIFICATE_VERIFICATION_FAILED"
            assert not peer_id.strip() or peer_id not in answer.text

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", _WRONG)
def test_a_manager_whose_certificate_does_not_hold_is_told_nothing(
    country: Country, authority: Authority, tmp_path: Path, kind: str
) -> None:
    """The other way round: who answers at a peer's address must prove itself before one byte is said to it."""
    asked: list[str] = []

    async def manager(request: object) -> JSONResponse:
        asked.append("asked")
        return JSONResponse({})

    async def connect(files: Files) -> httpx.Response:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*files)
        client = country.consumer.keypair.client_context(country.consumer.anchors)
        port = free_ports(1)[0]
        listener = listen(f"127.0.0.1:{port}")
        app = application([Route("/v1/peer", manager)])
        try:
            async with serving(app, listener, server), httpx.AsyncClient(verify=client, trust_env=False) as http:
                return await http.get(f"https://localhost:{port}/v1/peer")
        finally:
            listener.close()

    async def scenario() -> None:
        with pytest.raises(httpx.ConnectError):
            await connect(_made(kind, tmp_path / "wrong", authority, PROVIDER))
        assert asked == []
        assert (await connect(_made("in order", tmp_path / "good", authority, PROVIDER))).status_code == 200

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", _WRONG)
def test_a_chain_that_does_not_hold_proves_nothing_at_that_moment(
    country: Country, authority: Authority, tmp_path: Path, kind: str
) -> None:
    """Signatures are proven by a chain outside TLS, by the same rules; its moment is the reader's clock."""
    wrong = KeyPair.load(*_made(kind, tmp_path / "wrong", authority, CONSUMER))
    good = KeyPair.load(*_made("in order", tmp_path / "good", authority, CONSUMER))
    now, anchors = datetime.now(UTC).timestamp(), country.provider.anchors
    assert anchors.verify(good.chain, now).peer_id == CONSUMER
    with pytest.raises(Unauthenticated):
        anchors.verify(wrong.chain, now)
    for held, moment in (("expired", now - 3600), ("not yet valid", now + 5400)):
        if kind == held:
            assert anchors.verify(wrong.chain, moment).peer_id == CONSUMER

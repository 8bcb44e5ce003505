"""Strangers at the doors of running nodes: certificates, tokens and numbers that are none."""

from __future__ import annotations

import datetime as dt
import json
import socket
import ssl
import warnings
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from robust_siege import client_for, told

from stelsel.demo.authority import Authority
from stelsel.demo.cast import BENEFIT_TERMS, GEMEENTE, REGISTER, UITKERING
from stelsel.demo.country import Country


def _self_signed(folder: Path) -> tuple[Path, Path]:
    folder.mkdir(parents=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "Gemeente"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Gemeente"),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, GEMEENTE.peer_id),
        ]
    )
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=9))
    certificate = builder.sign(key, hashes.SHA256())
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "certificate.pem", folder / "key.pem"


def _asked(context: ssl.SSLContext, port: int) -> bytes:
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as connection,
        ):
            connection.sendall(b"GET /v1/peers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(100)
    except (ssl.SSLError, ConnectionError):
        return b""


@pytest.mark.parametrize("listener", ["manager", "inway"])
@pytest.mark.parametrize("kind", ["none", "self-signed", "of another group", "expired and of another group", "TLS 1.1"])
def test_a_stranger_gets_no_answer(besieged: Country, tmp_path: Path, listener: str, kind: str) -> None:
    context = ssl.create_default_context(cafile=str(besieged.folder / "trust-anchors.pem"))
    if kind == "self-signed":
        context.load_cert_chain(*_self_signed(tmp_path / "s"))
    elif kind == "of another group":
        context.load_cert_chain(*Authority("Another").issue(tmp_path / "o", GEMEENTE.peer_id, "Gemeente"))
    elif kind == "expired and of another group":
        context.load_cert_chain(*Authority("Another").issue(tmp_path / "e", GEMEENTE.peer_id, "Gemeente", days=-1))
    elif kind == "TLS 1.1":
        home = besieged.folder / GEMEENTE.key
        context.load_cert_chain(home / "certificate.pem", home / "key.pem")
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
    port = REGISTER.port(besieged.base, listener)
    assert _asked(context, port) == b""
    assert told(besieged, REGISTER, "/about")["name"] == REGISTER.name


@pytest.mark.parametrize(
    "number", ["123456789", "000000000", "12345678", "1234567890", "99999999a", "", "９９９９９３６５３"]
)
def test_a_question_with_a_number_that_is_none_is_refused_and_the_number_comes_back_nowhere(
    besieged: Country, number: str
) -> None:
    besieged.agree(UITKERING, REGISTER, "personen", BENEFIT_TERMS)
    body = {"type": "RaadpleegMetBurgerservicenummer", "burgerservicenummer": [number], "fields": ["leeftijd"]}
    with client_for(besieged, UITKERING, "outway") as client:
        answer = client.post("/personen/personen", json=body)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert not number or number not in answer.text
    control = besieged.control(UITKERING)
    assert not number or number not in json.dumps(control.post("/log", {"limit": 5}), ensure_ascii=False)


def test_a_number_in_an_address_is_refused_and_recorded_nowhere(besieged: Country) -> None:
    number = "999993653"
    with client_for(besieged, UITKERING, "outway") as client:
        for path in (
            f"/personen/personen/{number}",
            f"/personen/personen?burgerservicenummer={number}&fields=leeftijd",
        ):
            answer = client.get(path)
            assert answer.status_code >= 400, answer.text
            assert number not in answer.text
    for actor in (UITKERING, REGISTER):
        assert number not in json.dumps(besieged.control(actor).post("/log", {"limit": 20}))
        for log in (besieged.folder / actor.key).glob("*.log"):
            assert number not in log.read_text()


def test_a_token_that_is_none_reaches_no_service(besieged: Country) -> None:
    body = {"type": "RaadpleegMetBurgerservicenummer", "burgerservicenummer": ["999993653"], "fields": ["leeftijd"]}
    tokens = ["", "x", "a.b.c", "Bearer x", "eyJhbGciOiJub25lIn0.e30.", "e30.e30.e30", "%00", "é", "a" * 50_000]
    with client_for(besieged, REGISTER, "inway") as client:
        for token in tokens:
            headers = {
                "fsc-authorization": token.encode(),
                "fsc-transaction-id": "01a20876-cb18-75ea-b2db-66aa2a53268c",
            }
            answer = client.post("/personen", json=body, headers=headers)
            assert answer.status_code in (400, 401, 431), (token[:40], answer.text)
            if answer.status_code == 401:
                assert answer.headers["fsc-error-code"].startswith("ERROR_CODE_ACCESS_TOKEN_")
        twice = [("fsc-authorization", "a.b.c"), ("fsc-authorization", "d.e.f")]
        answer = client.post("/personen", json=body, headers=httpx.Headers(twice))
        assert answer.status_code in (400, 401), answer.text

"""Who the tester is: certificates with keys, and an authority that makes them for a test group."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ipaddress
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stelsel.base.errors import ConfigurationFault
from stelsel.steering.checks.fsc.documents import PrivateKey, base64url, jcs, sign_jws

TEST_OIN_PREFIX = "00000099"
PEERS = {
    "target": ("00000099000000070000", "Te toetsen organisatie"),
    "first": ("00000099000000071000", "Eerste toetser"),
    "second": ("00000099000000072000", "Tweede toetser"),
    "third": ("00000099000000073000", "Derde toetser"),
}
"""Peer id and name of each peer in a test group that `make_group` makes."""

DOMAIN = "outway.toetser.example"
"""The domain name in the certificate `first-domain`."""

VARIANTS = {
    "first": "its manager, its outway and its inway; elliptic curve P-256",
    "first-other": "the same peer, another key (P-256)",
    "first-hidden": "the same peer, a key that its key set never shows",
    "first-rsa": "the same peer, an RSA key: signs with RS256, RS384 and RS512",
    "first-p384": "the same peer, a P-384 key: signs with ES384",
    "first-p521": "the same peer, a P-521 key: signs with ES512",
    "first-domain": f"the same peer, for the domain name {DOMAIN} and no other",
    "first-expired": "the same peer, a certificate that has expired",
    "second": "another peer: delegator",
    "third": "another peer: delegator of the service",
}
"""The files that the tester needs: `<name>.pem` (chain, leaf first) and `<name>.key`."""


@dataclass(frozen=True)
class Identity:
    """A certificate chain with its key."""

    name: str
    certificate_file: Path
    key_file: Path
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey

    @classmethod
    def load(cls, folder: Path, name: str) -> Identity:
        """Read `<name>.pem` and `<name>.key`. Raises `ConfigurationFault`."""
        certificate_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
        try:
            chain = tuple(x509.load_pem_x509_certificates(certificate_file.read_bytes()))
            key = load_pem_private_key(key_file.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationFault(
                f"{certificate_file} and {key_file}: hold no certificate with its unencrypted key",
                next_step="see docs/build/check-fsc.md for the files that the tester needs",
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ConfigurationFault(f"{key_file}: the key is neither RSA nor elliptic curve")
        return cls(name, certificate_file, key_file, chain, key)

    @property
    def peer_id(self) -> str:
        return _subject(self.chain[0], NameOID.SERIAL_NUMBER)

    @property
    def peer_name(self) -> str:
        return _subject(self.chain[0], NameOID.ORGANIZATION_NAME)

    @property
    def der(self) -> bytes:
        return self.chain[0].public_bytes(Encoding.DER)

    @property
    def thumbprint(self) -> str:
        """`x5t#S256` (RFC 7515, 4.1.8)."""
        return base64url(hashlib.sha256(self.der).digest())

    @property
    def key_thumbprint(self) -> str:
        """SHA-256 of the public key (SPKI), hex (FSC Core 4.1.6.2)."""
        return hashlib.sha256(
            self.chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).hexdigest()

    @property
    def algorithm(self) -> str:
        """The algorithm that it signs with unless told otherwise."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            return "RS256"
        return {256: "ES256", 384: "ES384", 521: "ES512"}[self.key.curve.key_size]

    def sign(self, payload: Mapping[str, Any], *, header: Mapping[str, Any] | None = None) -> str:
        """A compact JWS that names this certificate; `header` replaces members (None leaves one out)."""
        members = {"alg": self.algorithm, "x5t#S256": self.thumbprint} | dict(header or {})
        return sign_jws({name: value for name, value in members.items() if value is not None}, jcs(payload), self.key)

    def jwk(self) -> dict[str, Any]:
        """This key with its chain, as it stands in a key set (FSC Core 4.4.1.4)."""
        public = self.key.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            shown = {"kty": "RSA", "n": _unsigned(numbers.n), "e": _unsigned(numbers.e)}
        else:
            size = (public.curve.key_size + 7) // 8
            point = public.public_numbers()
            curve = {256: "P-256", 384: "P-384", 521: "P-521"}[public.curve.key_size]
            shown = {"kty": "EC", "crv": curve, "x": _unsigned(point.x, size), "y": _unsigned(point.y, size)}
        chain = [base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in self.chain]
        return shown | {"use": "sig", "kid": self.thumbprint, "x5t#S256": self.thumbprint, "x5c": chain}

    def client_context(self, anchors: Path) -> ssl.SSLContext:
        """TLS as this peer, towards peers of the group."""
        context = ssl.create_default_context(cafile=str(anchors))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate_file, self.key_file)
        return context

    def server_context(self, anchors: Path) -> ssl.SSLContext:
        """TLS for a listener of this peer, for peers of the group only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(anchors)
        context.load_cert_chain(self.certificate_file, self.key_file)
        return context


class TestAuthority:
    """A trust anchor for a test group; its key lives in memory alone."""

    __test__ = False

    def __init__(self, name: str = "Trust anchor of a test of FSC") -> None:
        self._now = datetime.now(UTC)
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._root = (
            _builder(subject, subject, self._key, self._now - timedelta(days=2), self._now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def root_pem(self) -> bytes:
        return self._root.public_bytes(Encoding.PEM)

    def issue(
        self,
        folder: Path,
        name: str,
        *,
        peer: tuple[str, str],
        hosts: Sequence[str],
        key: PrivateKey | None = None,
        expired: bool = False,
    ) -> Identity:
        """Write `<name>.pem` and `<name>.key` (mode 600) into `folder`. Only test OINs are given out."""
        peer_id, organisation = peer
        if not peer_id.startswith(TEST_OIN_PREFIX) or len(peer_id) != 20:
            raise ValueError(f"only test OINs ({TEST_OIN_PREFIX}...) get a certificate here")
        private = key or ec.generate_private_key(ec.SECP256R1())
        begin, end = self._now - timedelta(days=1), self._now + timedelta(days=30)
        if expired:
            end = self._now - timedelta(hours=1)
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COUNTRY_NAME, "NL"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
                x509.NameAttribute(NameOID.SERIAL_NUMBER, peer_id),
                x509.NameAttribute(NameOID.COMMON_NAME, hosts[0]),
            ]
        )
        certificate = (
            _builder(subject, self._root.subject, private, begin, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        certificate_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
        certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_file.touch(mode=0o600)
        key_file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Identity(name, certificate_file, key_file, (certificate,), private)


def make_group(folder: Path, *, target_hosts: Sequence[str], tester_hosts: Sequence[str]) -> None:
    """Write `trust-anchors.pem`, the tester's certificates (`VARIANTS`) and one for the target into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = TestAuthority()
    (folder / "trust-anchors.pem").write_bytes(authority.root_pem)
    authority.issue(folder, "target", peer=PEERS["target"], hosts=target_hosts)
    keys: dict[str, PrivateKey] = {
        "first-rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "first-p384": ec.generate_private_key(ec.SECP384R1()),
        "first-p521": ec.generate_private_key(ec.SECP521R1()),
    }
    for name in VARIANTS:
        hosts = [DOMAIN] if name == "first-domain" else tester_hosts
        peer = PEERS[name.partition("-")[0]]
        authority.issue(folder, name, peer=peer, hosts=hosts, key=keys.get(name), expired=name == "first-expired")


def stranger(folder: Path, like: Identity) -> Identity:
    """A certificate that says the same as `like`, under a trust anchor that nobody trusts."""
    names: list[str] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        listed = like.chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [*listed.get_values_for_type(x509.DNSName), *map(str, listed.get_values_for_type(x509.IPAddress))]
    key = ec.generate_private_key(ec.SECP256R1())
    authority = TestAuthority("A trust anchor of no group")
    peer = (TEST_OIN_PREFIX + "000000071000", like.peer_name)
    return authority.issue(folder, "stranger", peer=peer, hosts=names or ["localhost"], key=key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _subject(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    values = certificate.subject.get_attributes_for_oid(oid)
    return str(values[0].value) if values else ""


def _unsigned(number: int, size: int | None = None) -> str:
    return base64url(number.to_bytes(size or (number.bit_length() + 7) // 8, "big"))

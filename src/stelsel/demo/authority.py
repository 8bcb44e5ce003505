"""The demo's trust anchor: it issues certificates with test OINs (prefix 00000099) to whoever runs the demo."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TEST_OIN_PREFIX = "00000099"


class Authority:
    """A certificate authority that lives in memory; only its root certificate is ever written to disk."""

    def __init__(self, name: str = "Stelsel demo trust anchor", *, now: datetime | None = None) -> None:
        self._now = now or datetime.now(UTC)
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._root = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - timedelta(days=1))
            .not_valid_after(self._now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(_key_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def root_pem(self) -> bytes:
        """The root certificate, PEM."""
        return self._root.public_bytes(Encoding.PEM)

    def issue(
        self,
        folder: Path,
        peer_id: str,
        name: str,
        *,
        domain_names: tuple[str, ...] = ("localhost",),
        days: float = 90,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    ) -> tuple[Path, Path]:
        """Write `certificate.pem` and `key.pem` (mode 600) for a peer into `folder`; give their paths.

        `key` is the peer's own, to renew a certificate or to have another kind of key; by default a new one on P-256.
        Refuses an OIN that could be somebody's: only the test prefix is allowed.
        """
        if not peer_id.startswith(TEST_OIN_PREFIX) or len(peer_id) != 20:
            raise ValueError(f"the demo issues certificates for test OINs only ({TEST_OIN_PREFIX}...)")
        key = key or ec.generate_private_key(ec.SECP256R1())
        end = self._now + timedelta(days=days)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(
                x509.Name(
                    [
                        x509.NameAttribute(NameOID.COUNTRY_NAME, "NL"),
                        x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
                        x509.NameAttribute(NameOID.SERIAL_NUMBER, peer_id),
                        x509.NameAttribute(NameOID.COMMON_NAME, domain_names[0]),
                    ]
                )
            )
            .issuer_name(self._root.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(self._now, end) - timedelta(days=1))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName(domain) for domain in domain_names]
                    + [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                ),
                critical=False,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        folder.mkdir(parents=True, exist_ok=True)
        certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
        certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_file.touch(mode=0o600)
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate_file, key_file

    def revocation_list(
        self, certificates: tuple[bytes, ...] = (), *, days: float = 7, made: datetime | None = None
    ) -> bytes:
        """A revocation list (PEM) that names these certificates (DER), to be renewed within `days`."""
        made = made or self._now
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._root.subject)
            .last_update(made)
            .next_update(made + timedelta(days=days))
        )
        for der in certificates:
            serial = x509.load_der_x509_certificate(der).serial_number
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(made).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
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

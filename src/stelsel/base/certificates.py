"""Who a peer is: X.509 certificates, the keys that go with them, and the trust anchors of a group.

A peer's id is the OIN in `subject.serialNumber`, its name `subject.organizationName` (Digikoppeling 3.4.3; FSC Core
4.1.3 and 4.1.4 leave the choice to the group).
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from stelsel.base.canonical import b64url
from stelsel.base.errors import BadRequest, ConfigurationFault, Unauthenticated
from stelsel.base.ids import is_oin

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What a hostile certificate makes the parser raise; not all of it is a ValueError."""

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # forward secrecy only (Digikoppeling 3.4.3)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What Stelsel reads in a peer's certificate. Reading proves nothing: see `TrustAnchors.verify`."""

    der: bytes
    peer_id: str
    peer_name: str
    thumbprint: str
    """SHA-256 of the certificate's DER, base64url: `x5t#S256` (RFC 7515 4.1.8, RFC 8705 3.1)."""
    key_thumbprint: str
    """SHA-256 of the subject public key info, lower-case hex: an outway's identification (FSC Core 4.1.6.2)."""
    domain_names: tuple[str, ...]
    not_before: float
    not_after: float

    @classmethod
    def read(cls, der: bytes) -> Certificate:
        """Read a DER certificate. Raises `BadRequest` when it lacks what the group asks of a certificate."""
        try:
            parsed = x509.load_der_x509_certificate(der)
            spki = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            peer_id = _subject(parsed, NameOID.SERIAL_NUMBER)
            peer_name = _subject(parsed, NameOID.ORGANIZATION_NAME)
            domain_names = _domain_names(parsed)
        except _UNREADABLE as error:
            raise BadRequest("the certificate cannot be read") from error
        if not is_oin(peer_id):
            raise BadRequest("the certificate's subject.serialNumber is not an OIN (20 digits)")
        return cls(
            der=der,
            peer_id=peer_id,
            peer_name=peer_name,
            thumbprint=b64url(hashlib.sha256(der).digest()),
            key_thumbprint=hashlib.sha256(spki).hexdigest(),
            domain_names=domain_names,
            not_before=parsed.not_valid_before_utc.timestamp(),
            not_after=parsed.not_valid_after_utc.timestamp(),
        )

    def public_key(self) -> PublicKey:
        """The public key; FSC knows elliptic curve and RSA keys only."""
        key = x509.load_der_x509_certificate(self.der).public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise BadRequest("the certificate's key is neither RSA nor elliptic curve")
        return key


def _domain_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.DNSName))


def _subject(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    values = certificate.subject.get_attributes_for_oid(oid)
    if len(values) != 1:
        raise ValueError(f"the subject must hold exactly one {oid}")
    return str(values[0].value)


class TrustAnchors:
    """The root certificates of a group (FSC Core 4.1.5)."""

    def __init__(self, pem: bytes) -> None:
        self.pem = pem
        self._roots = x509.load_pem_x509_certificates(pem)
        self._store = Store(self._roots)

    @classmethod
    def load(cls, path: Path) -> TrustAnchors:
        """Read a PEM file with one or more root certificates."""
        try:
            return cls(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigurationFault(
                f"{path}: holds no trust anchors that can be read",
                next_step="point group.trust_anchors to a PEM file with the group's root certificates",
            ) from error

    def verify(self, chain: tuple[bytes, ...], now: float) -> Certificate:
        """The leaf of a DER chain (leaf first, root left out), proven to be issued under these anchors.

        Raises `Unauthenticated` when the chain does not hold at `now`.
        """
        try:
            leaf, *intermediates = (x509.load_der_x509_certificate(der) for der in chain)
            verifier = (
                PolicyBuilder().store(self._store).time(datetime.fromtimestamp(now, tz=UTC)).build_client_verifier()
            )
            verifier.verify(leaf, intermediates)
        except (*_UNREADABLE, VerificationError) as error:
            raise Unauthenticated("the certificate does not hold under the trust anchors of the group") from error
        return Certificate.read(chain[0])


@dataclass(frozen=True)
class KeyPair:
    """A peer's private key and its certificate chain (leaf first, root left out)."""

    key: PrivateKey
    chain: tuple[bytes, ...]
    certificate: Certificate
    certificate_file: Path
    key_file: Path

    @classmethod
    def load(cls, certificate_file: Path, key_file: Path) -> KeyPair:
        """Read PEM files. Raises `ConfigurationFault` that names the file and the fix."""
        try:
            chain = x509.load_pem_x509_certificates(certificate_file.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigurationFault(
                f"{certificate_file}: holds no certificate that can be read (key peer.certificate)",
                next_step="point peer.certificate to a PEM file, leaf first",
            ) from error
        try:
            key = load_pem_private_key(key_file.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationFault(
                f"{key_file}: holds no private key that can be read (key peer.key)",
                next_step="point peer.key to an unencrypted PEM private key that only this user may read",
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ConfigurationFault(f"{key_file}: the key is neither RSA nor elliptic curve")
        if key.public_key() != chain[0].public_key():
            raise ConfigurationFault(
                f"{key_file}: is not the key of {certificate_file}",
                next_step="put peer.certificate and peer.key of the same pair in the file",
            )
        ders = tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)
        try:
            certificate = Certificate.read(ders[0])
        except BadRequest as error:
            raise ConfigurationFault(f"{certificate_file}: {error.detail}") from error
        return cls(key, ders, certificate, certificate_file, key_file)

    def server_context(self, anchors: TrustAnchors) -> ssl.SSLContext:
        """TLS for a listener that only peers of the group may reach (mutual TLS)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._configure(context, anchors)

    def client_context(self, anchors: TrustAnchors) -> ssl.SSLContext:
        """TLS for connecting to a peer: its chain and host name are checked; its peer id is up to the caller."""
        return self._configure(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), anchors)

    def _configure(self, context: ssl.SSLContext, anchors: TrustAnchors) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.load_verify_locations(cadata=anchors.pem.decode("ascii"))
        context.load_cert_chain(self.certificate_file, self.key_file)
        return context

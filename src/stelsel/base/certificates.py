"""Who a peer is: X.509 certificates, the keys that go with them, and the trust anchors of a group.

A peer's id is the OIN in `subject.serialNumber`, its name `subject.organizationName` (Digikoppeling 3.4.3), unless the
group chose other elements of the subject (FSC Core 4.1.3 and 4.1.4): see `PeerElements`.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakMethod, WeakSet

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from stelsel.base.canonical import b64url
from stelsel.base.errors import BadRequest, ConfigurationFault, Unauthenticated
from stelsel.base.ids import is_oin
from stelsel.base.revocation import RevocationLists

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

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Forward secrecy only (Digikoppeling 3.4.3), as OpenSSL names cipher suites of TLS 1.2."""

SUBJECT_ELEMENTS = {
    "serialNumber": NameOID.SERIAL_NUMBER,
    "organizationName": NameOID.ORGANIZATION_NAME,
    "organizationIdentifier": NameOID.ORGANIZATION_IDENTIFIER,
    "organizationalUnitName": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "commonName": NameOID.COMMON_NAME,
    "userId": NameOID.USER_ID,
}
"""The elements of a certificate's subject that a group may choose from."""


@dataclass(frozen=True, slots=True)
class PeerElements:
    """Which element of a certificate's subject is the peer's id, and which its name (FSC Core 4.1.3, 4.1.4)."""

    peer_id: str = "serialNumber"
    peer_name: str = "organizationName"


USUAL_ELEMENTS = PeerElements()
"""As Digikoppeling 3.4.3 has it."""


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
    issuer: bytes = b""
    """DER of the issuer's name, with `serial` what a revocation list names."""
    serial: int = 0

    @classmethod
    def read(cls, der: bytes, elements: PeerElements = USUAL_ELEMENTS) -> Certificate:
        """Read a DER certificate. Raises `BadRequest` when it lacks what the group asks of a certificate."""
        return _read(der, elements)

    @classmethod
    def _parse(cls, der: bytes, elements: PeerElements) -> Certificate:
        try:
            parsed = x509.load_der_x509_certificate(der)
            spki = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            peer_id = _subject(parsed, SUBJECT_ELEMENTS[elements.peer_id])
            peer_name = _subject(parsed, SUBJECT_ELEMENTS[elements.peer_name])
            domain_names = _domain_names(parsed)
            issuer = parsed.issuer.public_bytes()
        except _UNREADABLE as error:
            raise BadRequest("the certificate cannot be read") from error
        if not is_oin(peer_id):
            raise BadRequest(f"the certificate's subject.{elements.peer_id} is not an OIN (20 digits)")
        return cls(
            der=der,
            peer_id=peer_id,
            peer_name=peer_name,
            thumbprint=b64url(hashlib.sha256(der).digest()),
            key_thumbprint=hashlib.sha256(spki).hexdigest(),
            domain_names=domain_names,
            not_before=parsed.not_valid_before_utc.timestamp(),
            not_after=parsed.not_valid_after_utc.timestamp(),
            issuer=issuer,
            serial=parsed.serial_number,
        )

    def names(self, domain: str) -> bool:
        """Whether the certificate is for this domain name (RFC 6125, section 6.4): a wildcard stands for one label."""
        wanted = domain.lower().rstrip(".")
        _, dot, parent = wanted.partition(".")
        return any(
            known.lower() == wanted or (known.startswith("*.") and dot != "" and known[2:].lower() == parent)
            for known in self.domain_names
        )

    def public_key(self) -> PublicKey:
        """The public key; FSC knows elliptic curve and RSA keys only."""
        key = x509.load_der_x509_certificate(self.der).public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise BadRequest("the certificate's key is neither RSA nor elliptic curve")
        return key


@lru_cache(maxsize=1024)
def _read(der: bytes, elements: PeerElements) -> Certificate:
    # A manager reads the same few certificates with every request.
    return Certificate._parse(der, elements)


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


@dataclass(frozen=True, slots=True)
class TlsRules:
    """Which TLS the group allows between peers (FSC Core 4.1.6.1)."""

    lowest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    highest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
    ciphers: str = CIPHERS


_USUAL_TLS = TlsRules()


class TrustAnchors:
    """The root certificates of a group (FSC Core 4.1.5), and how certificates under them are read and revoked."""

    def __init__(
        self,
        pem: bytes,
        *,
        elements: PeerElements = USUAL_ELEMENTS,
        revocations: RevocationLists | None = None,
        tls: TlsRules = _USUAL_TLS,
    ) -> None:
        self.pem = pem
        self.elements = elements
        self.revocations = revocations
        """None: the group keeps no revocation lists."""
        self.tls = tls
        self._roots = x509.load_pem_x509_certificates(pem)
        self._store = Store(self._roots)

    def renew(self, pem: bytes) -> bool:
        """Trust these from now on, no others; whether one was taken away. Then `KeyPair.renew` tells TLS.

        Raises `ValueError`, and changes nothing, when they cannot be read.
        """
        roots = x509.load_pem_x509_certificates(pem)
        fewer = not set(self._roots) <= set(roots)
        self.pem, self._roots, self._store = pem, roots, Store(roots)
        if self.revocations is not None:
            self.revocations.renew(pem)
        return fewer

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

    def identify(self, der: bytes) -> Certificate:
        """The certificate of the other side of a TLS connection, whose chain TLS has verified already.

        Raises `BadRequest` when it does not say who the peer is, `Unauthenticated` when it is revoked.
        """
        certificate = Certificate.read(der, self.elements)
        self.check_revoked(certificate)
        return certificate

    def check_revoked(self, certificate: Certificate) -> None:
        """Raises `Unauthenticated` when the group keeps revocation lists and they do not clear this certificate."""
        if self.revocations is not None:
            # As with TLS itself, the machine's own clock decides about connections.
            self.revocations.check(certificate.issuer, certificate.serial, time.time())

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
        if self.revocations is not None:
            for certificate in (leaf, *intermediates):
                self.revocations.check(certificate.issuer.public_bytes(), certificate.serial_number, now)
        return Certificate.read(chain[0], self.elements)


class PeerContext(ssl.SSLContext):
    """A TLS context that knows the trust anchors it was made with, so that who is at the other side can be read."""

    anchors: TrustAnchors
    protocols: tuple[str, ...] = ()
    """What may be spoken inside, the best first (ALPN)."""
    successor: PeerContext | None = None
    """What handshakes are made with since the key pair of this context was renewed."""


def identify(tls: Any) -> Certificate:
    """Who is at the other side of a TLS connection (its `ssl_object`), made with a context of `KeyPair`.

    Raises `Unauthenticated` when there is no certificate or it is revoked, `BadRequest` when it does not say who.
    """
    der = tls.getpeercert(True) if tls is not None else None
    if not der:
        raise Unauthenticated("the other side showed no certificate")
    context = tls.context
    return context.anchors.identify(der) if isinstance(context, PeerContext) else Certificate.read(der)


@dataclass(frozen=True)
class Pair:
    """A private key and its certificate chain (leaf first, root left out) as they were read at one moment."""

    key: PrivateKey
    chain: tuple[bytes, ...]
    certificate: Certificate
    pem: bytes = field(repr=False)
    """Chain and key, to hand both to TLS or to a worker as one: files may change between two readings."""

    @classmethod
    def read(cls, certificate_file: Path, key_file: Path, elements: PeerElements = USUAL_ELEMENTS) -> Pair:
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
        try:
            return cls._of(chain, key, elements)
        except BadRequest as error:
            raise ConfigurationFault(f"{certificate_file}: {error.detail}") from error

    @classmethod
    def parse(cls, pem: bytes, elements: PeerElements = USUAL_ELEMENTS) -> Pair:
        """The pair whose `pem` this is; only for what this node wrote itself."""
        key = load_pem_private_key(pem[pem.index(_BEGIN_KEY) :], password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ConfigurationFault("the key is neither RSA nor elliptic curve")
        return cls._of(x509.load_pem_x509_certificates(pem), key, elements)

    @classmethod
    def _of(cls, chain: list[x509.Certificate], key: PrivateKey, elements: PeerElements) -> Pair:
        ders = tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)
        pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
        pem += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return cls(key, ders, Certificate.read(ders[0], elements), pem)


_BEGIN_KEY = b"-----BEGIN PRIVATE KEY-----"


class KeyPair:
    """A peer's private key and its certificate chain, renewed while the node runs.

    Whoever holds one reads what is `current` each time, or asks to be told by `on_renewal`.
    """

    def __init__(self, pair: Pair, certificate_file: Path, key_file: Path) -> None:
        self.current = pair
        self.certificate_file = certificate_file
        self.key_file = key_file
        self._servers: WeakSet[PeerContext] = WeakSet()
        self._callbacks: list[WeakMethod[Callable[[], None]]] = []

    @classmethod
    def load(cls, certificate_file: Path, key_file: Path, elements: PeerElements = USUAL_ELEMENTS) -> KeyPair:
        """Read PEM files. Raises `ConfigurationFault` that names the file and the fix."""
        return cls(Pair.read(certificate_file, key_file, elements), certificate_file, key_file)

    @property
    def key(self) -> PrivateKey:
        return self.current.key

    @property
    def chain(self) -> tuple[bytes, ...]:
        """DER, leaf first, root left out."""
        return self.current.chain

    @property
    def certificate(self) -> Certificate:
        return self.current.certificate

    def on_renewal(self, callback: Callable[[], None]) -> None:
        """Call this method (it is not kept alive) when the pair, or the trust anchors, were renewed."""
        self._callbacks.append(WeakMethod(callback))

    def renew(self, pair: Pair) -> None:
        """Use this pair, and the trust anchors as they are now, from the next handshake and signature on.

        Connections that are open live on. The pair must have been checked: see `base.renewal`.
        """
        successors = {
            context: self._configure(_server(), context.anchors, pair, context.protocols) for context in self._servers
        }
        self.current = pair
        for context, successor in successors.items():
            context.successor = successor
        for callback in list(self._callbacks):
            call = callback()
            if call is None:
                self._callbacks.remove(callback)
            else:
                call()

    def server_context(self, anchors: TrustAnchors, protocols: tuple[str, ...] = ()) -> PeerContext:
        """TLS for a listener that only peers of the group may reach (mutual TLS). It follows renewals.

        `protocols`: what may be spoken inside, the best first (ALPN, RFC 7301); a client that names none of them may
        come in as well.
        """
        context = self._configure(_server(), anchors, self.current, protocols)
        context.sni_callback = _succeed  # type: ignore[assignment]
        self._servers.add(context)
        return context

    def client_context(self, anchors: TrustAnchors, protocols: tuple[str, ...] = ()) -> PeerContext:
        """TLS for connecting to a peer: its chain and host name are checked; its peer id is up to the caller.

        It stays what it is: after a renewal ask a new one. `protocols`: what may be spoken inside, the best first.
        """
        return self._configure(PeerContext(ssl.PROTOCOL_TLS_CLIENT), anchors, self.current, protocols)

    @staticmethod
    def _configure(context: PeerContext, anchors: TrustAnchors, pair: Pair, protocols: tuple[str, ...]) -> PeerContext:
        context.anchors = anchors
        context.protocols = protocols
        if protocols:
            context.set_alpn_protocols(list(protocols))
        context.minimum_version = anchors.tls.lowest
        context.maximum_version = anchors.tls.highest
        context.set_ciphers(anchors.tls.ciphers)
        context.load_verify_locations(cadata=anchors.pem.decode("ascii"))
        _load_chain(context, pair.pem)
        return context


def _server() -> PeerContext:
    context = PeerContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _succeed(tls: ssl.SSLObject, name: str | None, context: PeerContext) -> None:
    """Called in every handshake, with or without a server name.

    A context cannot forget a trust anchor, nor a chain of another kind of key, so a fresh one takes its place.
    """
    del name
    if context.successor is not None:
        tls.context = context.successor


def _load_chain(context: ssl.SSLContext, pem: bytes) -> None:
    """`ssl` takes files only; what was read and checked is given to it, not what the files hold by now."""
    if hasattr(os, "memfd_create"):
        descriptor, path = os.memfd_create("pair"), ""
        name = f"/proc/self/fd/{descriptor}"
    else:
        descriptor, path = tempfile.mkstemp()
        name = path
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(pem)
        context.load_cert_chain(name)
    finally:
        os.close(descriptor)
        if path:
            Path(path).unlink(missing_ok=True)

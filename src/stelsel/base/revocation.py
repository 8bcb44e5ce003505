"""Certificate revocation lists of a group (RFC 5280, section 5; FSC Core 1.3.2 leaves it to the group).

The lists are files: the group says where, the operator's own scheduler fetches them. A list counts only when a trust
anchor signed it, or an issuer that stands in the same place and is itself issued by a trust anchor. A certificate whose
issuer has no list that counts is refused, for else removing a file would undo every revocation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from stelsel.base.errors import ConfigurationFault, Unauthenticated

_BEGIN = b"-----BEGIN "
_MOST_FILES = 1000
_UNREADABLE = (ValueError, UnsupportedAlgorithm, InvalidSignature, TypeError, x509.InvalidVersion)


@dataclass(frozen=True, slots=True)
class RevocationList:
    """One list, its signature checked."""

    issuer: bytes
    """DER of the issuer's name."""
    issuer_name: str
    made: float
    next_update: float
    """When the issuer promised a newer list, in seconds since the epoch."""
    revoked: frozenset[int]
    """Serial numbers."""


class RevocationLists:
    """The lists in a file or folder, read again when a file changes.

    `grace` seconds after its next update a list still counts; then certificates of its issuer are refused.
    """

    def __init__(self, path: Path, anchors_pem: bytes, *, grace: float = 86_400) -> None:
        self._path = path
        self._anchors = tuple(x509.load_pem_x509_certificates(anchors_pem))
        self._grace = grace
        self._seen: dict[Path, tuple[int, int]] = {}
        self._lists: dict[bytes, RevocationList] = {}
        self.generation = 0
        """Goes up with every reading that found a change: connections made before it must be looked at again."""
        self.troubles: tuple[str, ...] = ()
        """What could not be used at the last reading, for the operator."""
        if not path.exists():
            raise ConfigurationFault(
                f"{path}: there are no revocation lists (key revocation_lists)",
                next_step="put the lists of the trust anchors there, as PEM or DER",
            )
        self.refresh()

    def renew(self, anchors_pem: bytes) -> None:
        """Hold the lists against these trust anchors from now on."""
        self._anchors = tuple(x509.load_pem_x509_certificates(anchors_pem))
        self._seen = {}
        self.refresh()

    def lists(self) -> tuple[RevocationList, ...]:
        """The lists that count, one for each issuer."""
        return tuple(self._lists.values())

    def check(self, issuer: bytes, serial: int, now: float) -> None:
        """Raises `Unauthenticated` unless a list that counts at `now` clears this certificate."""
        known = self._lists.get(issuer)
        if known is None:
            raise Unauthenticated(
                "there is no revocation list of the certificate's issuer",
                next_step="the operator must fetch the revocation lists of the group",
            )
        if serial in known.revoked:
            raise Unauthenticated("the certificate has been revoked", next_step="ask a new certificate")
        if now > known.next_update + self._grace:
            raise Unauthenticated(
                "the revocation list of the certificate's issuer is out of date",
                next_step="the operator must fetch the revocation lists of the group",
            )

    def refresh(self) -> bool:
        """Read again what changed on disk; whether there was any change. What cannot be used is told in `troubles`."""
        files = self._files()
        seen = {file: _stamp(file) for file in files}
        if seen == self._seen:
            return False
        self._seen = seen
        found: dict[bytes, RevocationList] = {}
        troubles: list[str] = []
        lists: list[tuple[Path, x509.CertificateRevocationList]] = []
        issuers = list(self._anchors)
        for file in files:
            try:
                certificates, more = _read(file.read_bytes())
            except (OSError, *_UNREADABLE):
                troubles.append(f"{file.name}: cannot be read as a revocation list")
                continue
            issuers += [issuer for issuer in certificates if _issued_by(issuer, self._anchors)]
            lists += [(file, each) for each in more]
        for file, each in lists:
            checked = _checked(each, issuers)
            if checked is None:
                troubles.append(f"{file.name}: is not signed by a trust anchor of the group, or promises no next list")
            elif checked.issuer not in found or found[checked.issuer].made < checked.made:
                found[checked.issuer] = checked
        # A list that can no longer be read does not vanish: what was revoked stays so until a newer list says else.
        for issuer, known in self._lists.items():
            if issuer not in found or found[issuer].made < known.made:
                found[issuer] = known
        self._lists, self.troubles = found, tuple(troubles)
        self.generation += 1
        return True

    def _files(self) -> list[Path]:
        if not self._path.is_dir():
            return [self._path] if self._path.exists() else []
        return sorted(file for file in self._path.iterdir() if file.is_file())[:_MOST_FILES]


def _stamp(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


def _read(data: bytes) -> tuple[list[x509.Certificate], list[x509.CertificateRevocationList]]:
    if _BEGIN not in data:
        return [], [x509.load_der_x509_crl(data)]
    certificates, lists = [], []
    for part in data.split(_BEGIN)[1:]:
        block = _BEGIN + part
        if part.startswith(b"X509 CRL-----"):
            lists.append(x509.load_pem_x509_crl(block))
        elif part.startswith(b"CERTIFICATE-----"):
            certificates.append(x509.load_pem_x509_certificate(block))
    return certificates, lists


def _issued_by(certificate: x509.Certificate, anchors: Iterable[x509.Certificate]) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, *_UNREADABLE):
        return False
    if not constraints.ca:
        return False
    for anchor in anchors:
        try:
            certificate.verify_directly_issued_by(anchor)
        except _UNREADABLE:
            continue
        return True
    return False


def _checked(each: x509.CertificateRevocationList, issuers: Iterable[x509.Certificate]) -> RevocationList | None:
    if each.next_update_utc is None:
        return None
    for issuer in issuers:
        try:
            signed = issuer.subject == each.issuer and each.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
        except _UNREADABLE:
            signed = False
        if signed:
            return RevocationList(
                issuer=each.issuer.public_bytes(),
                issuer_name=each.issuer.rfc4514_string(),
                made=each.last_update_utc.timestamp(),
                next_update=each.next_update_utc.timestamp(),
                revoked=frozenset(item.serial_number for item in each),
            )
    return None

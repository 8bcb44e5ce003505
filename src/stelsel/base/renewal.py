"""Certificates that are renewed while a node runs: look at the files, check what is in them, take it into use.

A new certificate that does not hold is not taken: the node keeps what it had, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stelsel.base.certificates import KeyPair, Pair, TrustAnchors
from stelsel.base.errors import ConfigurationFault, Unauthenticated
from stelsel.base.jose import ALGORITHMS, signs_with
from stelsel.base.log import logger

_log = logger("base")


@dataclass(frozen=True, slots=True)
class Renewed:
    """What a look at the files brought."""

    certificate: bool = False
    trust_anchors: bool = False
    revocation_lists: bool = False

    @property
    def anything(self) -> bool:
        return self.certificate or self.trust_anchors or self.revocation_lists


class Renewal:
    """The files of one key pair and its trust anchors. It reads, and changes `keypair` and `anchors`, when told to."""

    def __init__(
        self,
        keypair: KeyPair,
        anchors: TrustAnchors,
        anchors_file: Path,
        algorithms: tuple[str, ...] = ALGORITHMS,
    ) -> None:
        self._keypair = keypair
        self._anchors = anchors
        self._anchors_file = anchors_file
        self._algorithms = algorithms
        self._peer_id = keypair.certificate.peer_id
        self._watched = (keypair.certificate_file, keypair.key_file, anchors_file)
        self._taken = self._seen = self._stamps()
        self.trouble: ConfigurationFault | None = None
        """Why what is in the files now is not in use."""

    def look(self, now: float) -> Renewed:
        """Take into use what changed and has come to rest: a file is not read while it is still being written.

        Never raises: what cannot be taken is logged, once, and told in `trouble`.
        """
        stamps = self._stamps()
        settled, self._seen = stamps == self._seen, stamps
        if stamps != self._taken and settled:
            try:
                return self.take(now)
            except ConfigurationFault as fault:
                _log.error("a new certificate is not taken into use", reason=fault.detail, next_step=fault.next_step)
        return Renewed(revocation_lists=self._read_lists())

    def take(self, now: float) -> Renewed:
        """Take into use what is in the files. Raises `ConfigurationFault`, and keeps what there is, if it cannot be."""
        stamps = self._stamps()
        self._taken = self._seen = stamps
        try:
            renewed = self._take(now)
        except ConfigurationFault as fault:
            self.trouble = fault
            raise
        self.trouble = None
        return renewed

    def _take(self, now: float) -> Renewed:
        before = self._anchors.pem
        found = TrustAnchors.load(self._anchors_file)
        pair = Pair.read(self._keypair.certificate_file, self._keypair.key_file, self._anchors.elements)
        found = TrustAnchors(found.pem, elements=self._anchors.elements)
        check(pair, found, self._peer_id, now, self._algorithms)
        lists = self._read_lists()
        new_anchors = found.pem != before
        new_pair = pair.pem != self._keypair.current.pem
        if new_anchors and self._anchors.renew(found.pem):
            _log.warning(
                "a trust anchor was taken away; connections that are open, or resumed, still rest on it",
                next_step="stelsel restart",
            )
        if new_anchors or new_pair:
            self._keypair.renew(pair)
        if new_pair:
            _log.info("a new certificate is in use", until=int(pair.certificate.not_after))
        if new_anchors:
            _log.info("new trust anchors are in use")
        return Renewed(new_pair, new_anchors, lists)

    def _read_lists(self) -> bool:
        return read_lists(self._anchors)

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(_stamp(file) for file in self._watched)


def read_lists(anchors: TrustAnchors) -> bool:
    """Read revocation lists that changed; whether any did."""
    lists = anchors.revocations
    if lists is None or not lists.refresh():
        return False
    if lists.troubles:
        _log.warning("revocation lists cannot be used", troubles=list(lists.troubles))
    return True


def check(
    pair: Pair, anchors: TrustAnchors, peer_id: str, now: float, algorithms: tuple[str, ...] = ALGORITHMS
) -> None:
    """Whether a pair may take the place of another of this peer. Raises `ConfigurationFault` with what to do."""
    certificate = pair.certificate
    if certificate.peer_id != peer_id:
        raise ConfigurationFault(
            "the new certificate is of another peer than this node",
            next_step="put the certificate of this node's own peer at peer.certificate",
        )
    if not certificate.not_before <= now < certificate.not_after:
        raise ConfigurationFault(
            "the new certificate has expired or is not valid yet", next_step="ask a new certificate at its issuer"
        )
    if not signs_with(pair.key, algorithms):
        raise ConfigurationFault(
            "the group allows no signatures with this kind of key",
            next_step=f"use a key for one of {', '.join(algorithms)}",
        )
    try:
        anchors.verify(pair.chain, now)
    except Unauthenticated as error:
        raise ConfigurationFault(
            "the new certificate does not hold under the trust anchors of the group",
            next_step="put the whole chain in the file, leaf first, without the root; see: stelsel doctor",
        ) from error


def _stamp(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)

"""The probe of `tls`: a handful of handshakes with a peer's manager, each closed at once.

Python's own `ssl` is used with its safety off on purpose, for these handshakes only: nothing is sent over them.
What the local OpenSSL cannot put in a ClientHello is not measured, and says so.
"""

from __future__ import annotations

import asyncio
import ssl
import warnings
from dataclasses import dataclass

from stelsel.base.certificates import Certificate
from stelsel.base.errors import BadRequest
from stelsel.base.text import inert
from stelsel.steering.checks.check import Target, Transcript, Unreachable, endpoint, resolve
from stelsel.steering.checks.tls.norm import NEW_VERSIONS, OLD_VERSIONS, TlsFacts, is_safe

_VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
_ON_THE_WIRE = {"TLSv1": b"\x03\x01", "TLSv1.1": b"\x03\x02", "TLSv1.2": b"\x03\x03"}
_EVERYTHING = "ALL:COMPLEMENTOFALL:!PSK:!SRP:@SECLEVEL=0"
_MAXIMUM_WEAK_SUITES = 16
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: whether it has expired is for the norm, with its own now
_HOST_MISMATCH = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


@dataclass(frozen=True, slots=True)
class _Handshake:
    accepted: bool | None
    """None: it cannot be said (time ran out, or we could not offer it)."""
    suite: str = ""
    certificate: bytes = b""
    error: str = ""
    verify_code: int = 0


async def probe(target: Target, transcript: Transcript) -> TlsFacts:
    """The facts about the TLS of a peer's manager. Raises `Unreachable` when no handshake at all can be made."""
    address, port = endpoint(target.manager_address, ("https",))
    host = address.hostname or ""
    ip = await resolve(host, port, local_addresses=target.local_addresses)
    knock = _Knock(target, transcript, host, ip, port)

    shakes = {version: await knock.version(version) for version in NEW_VERSIONS}
    if all(shake.accepted is None for shake in shakes.values()):
        raise Unreachable("no TLS connection could be made with the manager")
    shakes |= {version: await knock.version(version) for version in OLD_VERSIONS}
    if not any(shake.accepted for shake in shakes.values()):
        raise Unreachable("no TLS connection could be made with the manager")
    weak, tried = await knock.weak_suites() if shakes["TLSv1.2"].accepted else ((), 0)

    der = next((shake.certificate for shake in shakes.values() if shake.certificate), b"")
    peer_id, not_after = _read(der, transcript)
    best = next((version for version in ("TLSv1.3", "TLSv1.2") if shakes[version].accepted), None)
    chain = await knock.verified(best, host_name=False) if best else _Handshake(None)
    named = await knock.verified(best, host_name=True) if best and chain.accepted else _Handshake(None)
    return TlsFacts(
        host=host,
        peer_id=target.peer_id,
        versions={version: shake.accepted for version, shake in shakes.items()},
        suites={version: shake.suite for version, shake in shakes.items() if shake.accepted},
        weak_suites=weak,
        weak_suites_tried=tried,
        certificate_peer_id=peer_id,
        not_after=not_after,
        chain_holds=chain.accepted,
        chain_error=chain.error if chain.accepted is False else "",
        host_matches=named.accepted,
    )


class _Knock:
    """Makes handshakes with one address."""

    def __init__(self, target: Target, transcript: Transcript, host: str, ip: str, port: int) -> None:
        self._target, self._transcript = target, transcript
        self._host, self._ip, self._port = host, ip, port

    async def version(self, version: str) -> _Handshake:
        """Offer this one protocol version, with every suite that we have."""
        context = self._unsafe_context(version, _EVERYTHING)
        if context is None or not _can_offer(context, version):
            self._transcript.note(f"{version}: not offered, this machine's OpenSSL cannot")
            return _Handshake(None)
        shake = await self._shake(context)
        if shake.accepted and version == "TLSv1.2" and not is_safe(shake.suite):
            # the server prefers an unsafe suite: note what it takes when only safe ones are offered
            safe = self._unsafe_context(version, ":".join(_suites(safe=True)) + ":@SECLEVEL=0")
            self._note(version, shake)
            second = await self._shake(safe) if safe is not None else shake
            shake = second if second.accepted else shake
        self._note(version, shake)
        return shake

    async def weak_suites(self) -> tuple[tuple[str, ...] | None, int]:
        """(unsafe suites that TLS 1.2 accepts, how many were offered): offer all, strike the chosen one, repeat."""
        left = _suites(safe=False)
        tried = len(left)
        accepted: list[str] = []
        while left and len(accepted) < _MAXIMUM_WEAK_SUITES:
            context = self._unsafe_context("TLSv1.2", ":".join(left) + ":@SECLEVEL=0")
            shake = await self._shake(context) if context is not None else _Handshake(None)
            if shake.accepted is None:
                self._transcript.note("TLSv1.2, unsafe suites only: no answer")
                return (tuple(accepted) or None), tried
            if not shake.accepted or shake.suite not in left:
                break
            accepted.append(shake.suite)
            left.remove(shake.suite)
        self._transcript.note(f"TLSv1.2, {tried} unsafe suites offered: accepts {', '.join(accepted) or 'none'}")
        return tuple(accepted), tried

    async def verified(self, version: str, *, host_name: bool) -> _Handshake:
        """A handshake in which the chain must hold under the group's anchors, and the host name if asked."""
        context = self._unsafe_context(version, _EVERYTHING)
        if context is None:
            return _Handshake(None)
        context.load_verify_locations(cadata=self._target.anchors.pem.decode("ascii"))
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = host_name
        context.verify_flags |= _NO_CHECK_TIME
        shake = await self._shake(context)
        what = "chain and host name" if host_name else "chain"
        holds = "holds" if shake.accepted else f"does not hold ({shake.error})"
        self._transcript.note(f"certificate, {what}: {holds}")
        if shake.accepted is False and not shake.verify_code:
            return _Handshake(None, error=shake.error)  # refused for another reason than the certificate
        if host_name and shake.accepted is False and shake.verify_code not in _HOST_MISMATCH:
            return _Handshake(None, error=shake.error)
        return shake

    def _unsafe_context(self, version: str, suites: str) -> ssl.SSLContext | None:
        """A context that takes anything, with our own client certificate; None when our library cannot make it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            context.set_ciphers(suites)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # that they are deprecated is why we ask
                context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
                context.maximum_version = _VERSIONS[version]
                context.minimum_version = _VERSIONS[version]
        except (ssl.SSLError, ValueError):
            return None
        keypair = self._target.keypair
        context.load_cert_chain(keypair.certificate_file, keypair.key_file)
        return context

    async def _shake(self, context: ssl.SSLContext) -> _Handshake:
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(self._target.timeout):
                _, writer = await asyncio.open_connection(
                    self._ip, self._port, ssl=context, server_hostname=self._host, limit=4096
                )
            tls = writer.get_extra_info("ssl_object")
            return _Handshake(True, tls.cipher()[0], tls.getpeercert(True) or b"")
        except TimeoutError:
            return _Handshake(None, error="no answer in time")
        except ssl.SSLCertVerificationError as error:
            return _Handshake(False, error=inert(error.verify_message, 100), verify_code=error.verify_code)
        except ssl.SSLError as error:
            return _Handshake(False, error=inert(error.reason or "refused", 100))
        except ConnectionRefusedError:
            return _Handshake(None, error="nothing listens there")
        except (ConnectionError, EOFError):
            return _Handshake(False, error="closed by the other side")
        except OSError as error:
            return _Handshake(None, error=inert(error.strerror or type(error).__name__, 100))
        finally:
            if writer is not None:
                writer.transport.abort()

    def _note(self, version: str, shake: _Handshake) -> None:
        if shake.accepted:
            self._transcript.note(f"{version}: accepted, {shake.suite}")
        else:
            self._transcript.note(f"{version}: {'refused' if shake.accepted is False else 'unknown'}, {shake.error}")


def _can_offer(context: ssl.SSLContext, version: str) -> bool:
    """Whether our own library really puts this version in its ClientHello: one is made in memory and looked at."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing).do_handshake()
    except ssl.SSLWantReadError:
        pass
    except ssl.SSLError:
        return False
    hello = outgoing.read(11)
    # RFC 8446, 4.1.2: record header (5), handshake header (4), legacy_version (2), which 1.3 leaves at 1.2
    return len(hello) == 11 and hello[9:11] == _ON_THE_WIRE.get(version, _ON_THE_WIRE["TLSv1.2"])


def _suites(*, safe: bool) -> list[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(_EVERYTHING)
    names = [str(suite["name"]) for suite in context.get_ciphers()]
    return [name for name in names if not name.startswith("TLS_") and is_safe(name) is safe]


def _read(der: bytes, transcript: Transcript) -> tuple[str | None, float | None]:
    """(peer id, end of validity) of the certificate that was shown."""
    if not der:
        return None, None
    try:
        certificate = Certificate.read(der)
    except BadRequest as error:
        transcript.note(f"certificate: {error.detail}")
        return "", None
    transcript.note(f"certificate: {certificate.peer_id}, SHA-256 {certificate.thumbprint}")
    return certificate.peer_id, certificate.not_after

"""What can be seen of a node without it running: its settings, certificate, addresses, files and disk.

`examine` reads; the functions that judge are pure. None of them changes anything.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from stelsel.agreements.group import Group
from stelsel.agreements.radar import URGENT_DAYS
from stelsel.base.certificates import Certificate, KeyPair, TrustAnchors
from stelsel.base.clock import moment
from stelsel.base.errors import Fault
from stelsel.base.jose import Signer
from stelsel.base.settings import read_toml
from stelsel.base.text import inert
from stelsel.control.observation import Observation
from stelsel.settings import NodeSettings

LEAST_FREE = 1024**3
"""Bytes free under the data folder; with a full disk nothing can be recorded, so nothing passes."""
_DAY = 86_400


def examine(file: Path, now: float) -> tuple[NodeSettings | None, list[Observation]]:
    """The settings in `file`, None when they cannot be used, and what was seen at `now` (seconds since the epoch)."""
    try:
        settings = read_toml(file, NodeSettings)
        group = read_toml(settings.group, Group)
    except Fault as fault:
        return None, [_trouble("settings", fault)]
    seen = [Observation("settings", True, f"{file} and {settings.group.resolve()} can be used")]
    seen += _identity(settings, group, now)
    seen += [judge_mode("private key", settings.peer.key, _mode(settings.peer.key))]
    if settings.data.exists():
        seen += [judge_mode("data folder", settings.data, _mode(settings.data))]
    seen += [_disk(settings.data)]
    seen += [judge_listener(name, listen, address) for name, listen, address in listeners(settings)]
    seen += smells(settings)
    return settings, seen


def _identity(settings: NodeSettings, group: Group, now: float) -> Iterator[Observation]:
    try:
        keypair = KeyPair.load(settings.peer.certificate, settings.peer.key, group.elements)
    except Fault as fault:
        yield _trouble("certificate", fault)
        return
    yield judge_certificate(keypair.certificate, now)
    try:
        anchors = group.trust()
    except Fault as fault:
        yield _trouble("trust anchors", fault)
        return
    yield judge_chain(keypair, anchors, now)
    yield _attempt("signing", lambda: f"with {Signer(keypair, group.signature_algorithms).algorithm}")
    for name, address in _addresses(settings):
        yield judge_host_name(name, address, keypair.certificate)
        yield _attempt(f"{name} port", partial(_port, group, name, address))
    yield from _revocation(anchors, now)


def _port(group: Group, name: str, address: str) -> str:
    group.check_own_address(f"{name}.address", address)
    return f"{address} has a port that the group allows"


def _addresses(settings: NodeSettings) -> Iterator[tuple[str, str]]:
    yield "manager", settings.manager.address
    if settings.inway is not None:
        yield "inway", settings.inway.address


def listeners(settings: NodeSettings) -> Iterator[tuple[str, str, str]]:
    """(name, where it listens, by which address others reach it; empty: others should not) of every listener."""
    yield "manager", settings.manager.listen, settings.manager.address
    if settings.inway is not None:
        yield "inway", settings.inway.listen, settings.inway.address
    if settings.outway is not None:
        yield "outway", settings.outway.listen, ""
    if settings.web is not None:
        yield "web", settings.web.listen, settings.web.address


def judge_certificate(certificate: Certificate, now: float) -> Observation:
    """Whether this peer's certificate is valid now and for a while."""
    until = moment(certificate.not_after)
    if now >= certificate.not_after:
        return Observation(
            "certificate", False, f"it expired on {until}", "install a new certificate, for the same key"
        )
    if now < certificate.not_before:
        begin = moment(certificate.not_before)
        return Observation("certificate", False, f"it is valid from {begin}", "look at the clock of this machine")
    days = int((certificate.not_after - now) / _DAY)
    if days < URGENT_DAYS:
        return Observation(
            "certificate", False, f"it expires in {days} days, on {until}", "ask a new one now, for the same key"
        )
    return Observation("certificate", True, f"of {inert(certificate.peer_name, 100)}, valid until {until}")


def judge_chain(keypair: KeyPair, anchors: TrustAnchors, now: float) -> Observation:
    """Whether other peers can verify our certificate with what we send along."""
    try:
        anchors.verify(keypair.chain, now)
    except Fault as fault:
        return Observation(
            "chain",
            False,
            inert(fault.detail),
            "put the certificate and its issuers in peer.certificate, leaf first and without the root; "
            "see that group.trust_anchors holds the root",
        )
    return Observation("chain", True, f"{len(keypair.chain)} certificate(s), under a trust anchor of the group")


def judge_host_name(name: str, address: str, certificate: Certificate) -> Observation:
    """Whether the host name of an address is in the certificate: peers check that (RFC 6125)."""
    host = (urlsplit(address).hostname or "").lower()
    names = [inert(each, 255).lower() for each in certificate.domain_names]
    wildcard = "*." + host.partition(".")[2]
    title = f"{name} host name"
    if host in names or wildcard in names:
        return Observation(title, True, f"{host} is in the certificate")
    if _is_address(host):
        return Observation(title, None, f"{host} is an address; that it is in the certificate was not looked at")
    listed = ", ".join(names) or "none"
    return Observation(
        title,
        False,
        f"{host} is not in the certificate, which names: {listed}",
        f"set {name}.address to a name in the certificate, or ask a certificate with {host}",
    )


def judge_mode(name: str, path: Path, mode: int | None) -> Observation:
    """Whether only the node's user can reach a file or folder with `mode`; None: it is not there."""
    if mode is None:
        return Observation(name, False, f"{path} is not there", "see docs/run/operate.md")
    if mode & 0o077:
        right = "700" if stat.S_ISDIR(mode) else "600"
        return Observation(
            name, False, f"others can reach {path} (mode {stat.S_IMODE(mode):o})", f"chmod {right} {path}"
        )
    return Observation(name, True, f"{path} is for its owner alone")


def judge_disk(folder: Path, free: int, *, writable: bool) -> Observation:
    """Whether there is room to record under `folder`, with `free` bytes left."""
    if not writable:
        return Observation(
            "disk", False, f"{folder} cannot be written", "give the node's user the right to write there"
        )
    if free < LEAST_FREE:
        return Observation(
            "disk",
            False,
            f"{free // 2**20} MiB free under {folder}",
            "make room: when the disk is full nothing can be recorded, and nothing passes",
        )
    return Observation("disk", True, f"{free // 2**30} GiB free under {folder}")


def judge_listener(name: str, listen: str, address: str) -> Observation:
    """Whether a listener can be reached by whom it is for, and by no one else. `address` empty: by us alone."""
    title, host = f"{name} listens", listen.rpartition(":")[0].strip("[]")
    local = listen.startswith("unix:") or is_loopback(host)
    outside = urlsplit(address).hostname or ""
    if not address:
        if local:
            return Observation(title, True, f"on {listen}, for this machine alone")
        return Observation(
            title,
            False,
            f"on {listen}, where others may reach it and call in our name",
            f"let {name}.listen be on 127.0.0.1, or shield it with a firewall",
        )
    if name == "web" and not local:
        return Observation(
            title,
            False,
            f"on {listen}, where it speaks plain HTTP to others",
            "let web.listen be on 127.0.0.1 with a TLS terminator before it",
        )
    if local and not is_loopback(outside) and name != "web":
        return Observation(
            title,
            False,
            f"on {listen}, while peers call {address}",
            f"let {name}.listen be on an address that peers reach, unless TCP (not TLS) is forwarded to it",
        )
    return Observation(title, True, f"on {listen}, reached as {address}")


def smells(settings: NodeSettings) -> Iterator[Observation]:
    """Settings that may be meant, but seldom are."""
    local = is_loopback(urlsplit(settings.manager.address).hostname or "")
    found = list(_smells(settings))
    if local:  # a country on one machine: what is unsafe anywhere else is the point of it
        for detail, _ in found:
            yield Observation("unusual settings", None, f"{detail}; well enough on one machine")
        return
    for detail, step in found:
        yield Observation("unusual settings", False, detail, step)
    if not found:
        yield Observation("unusual settings", True, "none")


def _smells(settings: NodeSettings) -> Iterator[tuple[str, str]]:
    web, identity, portal = settings.web, settings.identity, settings.portal
    if web is not None:
        if web.address.startswith("http://"):
            yield "web.address is plain http", "use https, with a TLS terminator before web.listen"
        if web.security_contact is None:
            yield "nobody can report a leak: web.security_contact is missing", "add web.security_contact (RFC 9116)"
    if identity is not None and getattr(identity, "unsafe_demo_login_file", None) is not None:
        yield "anyone can log in as anyone: identity.unsafe_demo_login_file is set", "remove it"
    if portal is not None and getattr(portal, "demo", False):
        yield "the portal says that it is a demo: portal.demo is true", "remove portal.demo"
    if settings.steering.enabled and settings.steering.local_addresses:
        yield "peers can aim the steward's probes at our network: steering.local_addresses is true", "remove it"
    for rule in settings.agreements.approve:
        if "*" in rule.peers:
            yield f"the rule {rule.name} lets any peer of the group connect without anyone looking", "name the peers"
    for service in settings.services:
        host = urlsplit(service.endpoint).hostname
        if host is not None and not is_loopback(host):
            yield (
                f"between inway and {service.name} goes plain HTTP over the network, to {inert(host, 100)}",
                "let the service be on this machine, or have that network be yours alone",
            )


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine itself, as a name or an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _revocation(anchors: TrustAnchors, now: float) -> Iterator[Observation]:
    lists = anchors.revocations
    if lists is None:
        yield Observation("revocation lists", True, "the group keeps none")
        return
    for trouble in lists.troubles:
        yield Observation("revocation lists", False, inert(trouble), "fetch the list again from its issuer")
    for each in lists.lists():
        name, until = inert(each.issuer_name, 200), moment(each.next_update)
        if now > each.next_update:
            step = "fetch it again; after the grace of the group's file, certificates of that issuer are refused"
            yield Observation("revocation lists", False, f"that of {name} is out of date since {until}", step)
        else:
            yield Observation("revocation lists", True, f"that of {name} is up to date until {until}")
    if not lists.lists():
        yield Observation(
            "revocation lists", False, "there is no list that counts", "fetch the revocation lists of the group"
        )


def _disk(folder: Path) -> Observation:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return judge_disk(folder, shutil.disk_usage(there).free, writable=os.access(there, os.W_OK | os.X_OK))


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except OSError:
        return None


def _attempt(name: str, look: Callable[[], str]) -> Observation:
    try:
        return Observation(name, True, look())
    except Fault as fault:
        return _trouble(name, fault)


def _trouble(name: str, fault: Fault) -> Observation:
    return Observation(name, False, inert(fault.detail), inert(fault.next_step))

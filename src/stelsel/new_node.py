"""A new node for an organisation that joins a group: key, certificate request, settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from stelsel.agreements.group import Group
from stelsel.base.errors import ConfigurationFault
from stelsel.base.ids import is_oin
from stelsel.base.settings import read_toml

_TEMPLATE = """\
# A Stelsel node. All settings are explained in docs/run/settings.md.
data = "data"
group = "{group}"

[peer]
certificate = "certificate.pem"  # from your certificate authority: leaf first, without the root
key = "key.pem"

[manager]  # where peers make agreements with us
listen = "0.0.0.0:8443"
address = "https://{host}:8443"

[inway]  # where peers call our services
listen = "0.0.0.0:443"
address = "https://{host}:443"

[outway]  # where our own applications call services of peers
listen = "127.0.0.1:8080"

[web]  # pages for our own people, and what is public
listen = "127.0.0.1:8000"
address = "https://{host}"
security_contact = "mailto:security@{host}"

# [[services]]
# name = "example"
# endpoint = "http://127.0.0.1:9000"
# description = "What it is for, in one sentence"
# personal = true
"""


@dataclass(frozen=True, slots=True)
class NewNode:
    """What was made, and what its maker does next, in that order."""

    made: tuple[Path, ...]
    next_steps: tuple[str, ...]


def make(folder: Path, *, peer_id: str, name: str, host: str, group: Path) -> NewNode:
    """Make a node's folder. Raises `ConfigurationFault`, changing nothing."""
    if not is_oin(peer_id):
        raise ConfigurationFault("an OIN has 20 digits", next_step="give the organisation's OIN with --peer-id")
    read_toml(group, Group)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationFault(f"{folder}: is not empty", next_step="choose another folder; nothing was changed")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "NL"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, peer_id),
            x509.NameAttribute(NameOID.COMMON_NAME, host),
        ]
    )
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    key_file = folder / "key.pem"
    key_file.touch(mode=0o600)
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "request.csr").write_bytes(request.public_bytes(Encoding.PEM))
    relative = os.path.relpath(group.resolve(), folder.resolve())
    (folder / "node.toml").write_text(_TEMPLATE.format(group=relative, host=host))
    return NewNode(
        made=(key_file, folder / "request.csr", folder / "node.toml"),
        next_steps=(
            f"have {folder}/request.csr signed by a trust anchor of the group; save it as {folder}/certificate.pem",
            f"stelsel run {folder}/node.toml",
        ),
    )

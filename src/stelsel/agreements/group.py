"""The rules of a group as a file: who is trusted, how peers are known, where the directory is (FSC Core 1.3.2).

A node reads it at its start and enforces all of it; a group hands the same file to every peer.
"""

from __future__ import annotations

import ssl
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from stelsel.base.certificates import CIPHERS, PeerElements, TlsRules, TrustAnchors
from stelsel.base.errors import ConfigurationFault
from stelsel.base.revocation import RevocationLists
from stelsel.base.settings import RelativePath, Settings

PeerId = Annotated[str, StringConstraints(pattern=r"^[0-9]{20}$")]
Address = Annotated[str, StringConstraints(pattern=r"^https://[^/\s]+:[0-9]{1,5}$", max_length=255)]
SubjectElement = Literal[
    "serialNumber", "organizationName", "organizationIdentifier", "organizationalUnitName", "commonName", "userId"
]
TlsVersion = Literal["TLSv1.2", "TLSv1.3"]
Algorithm = Literal["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]

_TLS_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class Group(Settings):
    """Group rules. Every node of a group reads the same file."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9./_-]{1,100}$")] = Field(
        description="the group's id (FSC Core 4.1.2)"
    )
    name: str = Field(description="what people call the group")
    trust_anchors: RelativePath = Field(description="PEM file with the root certificates that the group trusts")
    directory_peer_id: PeerId = Field(description="OIN of the peer that keeps the directory")
    directory_address: Address = Field(description="address of the directory's manager")
    peer_id_element: SubjectElement = Field(
        "serialNumber", description="element of a certificate's subject that is the peer's id (FSC Core 4.1.3)"
    )
    peer_name_element: SubjectElement = Field(
        "organizationName", description="element of a certificate's subject that is the peer's name (FSC Core 4.1.4)"
    )
    tls_versions: tuple[TlsVersion, ...] = Field(
        ("TLSv1.2", "TLSv1.3"), min_length=1, description="versions of TLS between peers (FSC Core 4.1.6.1)"
    )
    ciphers: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+:!@=_-]{1,500}$")] = Field(
        CIPHERS, description="cipher suites of TLS 1.2 between peers, as OpenSSL names them"
    )
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(
        (443, 8443),
        max_length=100,
        description="ports that managers and inways may have (FSC Core 4.1.1); empty: any, for many on one machine",
    )
    signature_algorithms: tuple[Algorithm, ...] = Field(
        ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512"),
        min_length=1,
        description="algorithms of signatures and access tokens (FSC Core 4.2.3, 4.3); an RSA key signs with the first "
        "RS in this list",
    )
    maximum_grants: int = Field(10, ge=1, le=100, description="grants in one contract (Digikoppeling 3.4.3)")
    clock_skew: int = Field(60, ge=0, le=300, description="seconds by which clocks of peers may differ")
    revocation_lists: RelativePath | None = Field(
        None,
        description="file or folder with the certificate revocation lists of the group, PEM or DER, kept fresh by the "
        "operator; read again when it changes. Left out: the group does not revoke certificates",
    )
    revocation_grace: int = Field(
        86_400,
        ge=0,
        le=30 * 86_400,
        description="seconds that a revocation list still counts after its next update; then certificates of its "
        "issuer are refused",
    )

    @model_validator(mode="after")
    def _keeps_its_own_rules(self) -> Group:
        if not self.allows_port(self.directory_address):
            raise ValueError("directory_address: has a port that the group does not allow (key ports)")
        return self

    @property
    def elements(self) -> PeerElements:
        """How a certificate says who a peer is."""
        return PeerElements(self.peer_id_element, self.peer_name_element)

    def trust(self, pem: bytes | None = None) -> TrustAnchors:
        """What certificates must hold under, read from the files that this one names. Raises `ConfigurationFault`.

        `pem` are the trust anchors when they were read already.
        """
        found = TrustAnchors.load(self.trust_anchors) if pem is None else TrustAnchors(pem)
        lists = self.revocation_lists
        versions = sorted(_TLS_VERSIONS[version] for version in self.tls_versions)
        return TrustAnchors(
            found.pem,
            elements=self.elements,
            revocations=None if lists is None else RevocationLists(lists, found.pem, grace=self.revocation_grace),
            tls=TlsRules(versions[0], versions[-1], self.ciphers),
        )

    def allows_port(self, address: str) -> bool:
        """Whether the port of `https://host:port` is one that the group allows; 443 where none is given."""
        port = address.rstrip("/").rpartition(":")[2]
        return not self.ports or (int(port) if port.isdigit() else 443) in self.ports

    def check_own_address(self, key: str, address: str) -> None:
        """Raises `ConfigurationFault` when an address of this node has a port that the group does not allow."""
        if not self.allows_port(address):
            allowed = ", ".join(str(port) for port in self.ports)
            raise ConfigurationFault(
                f"{key}: {address} has a port that the group does not allow",
                next_step=f"use one of {allowed} (the group's file, key ports)",
            )

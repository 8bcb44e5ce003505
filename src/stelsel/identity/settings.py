"""Settings of the room identity: the section `[identity]` of a node's file. Absent means: this node is no provider."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from stelsel.base.canonical import parse_object
from stelsel.base.certificates import PublicKey
from stelsel.base.errors import BadRequest, ConfigurationFault
from stelsel.base.settings import Settings
from stelsel.identity.keys import read_jwk_set
from stelsel.identity.requests import Client, ClientKind
from stelsel.identity.sessions import is_loopback

Origin = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s?#]+$", max_length=255)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s?#]+[^\s#]*$", max_length=500)]


def _relative(path: Path | None, info: ValidationInfo) -> Path | None:
    folder = (info.context or {}).get("folder")
    return path if folder is None or path is None else Path(folder) / path


class ClientSettings(Settings):
    """A site that lets people log in at this provider: `[[identity.clients]]`."""

    client_id: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,200}$")] = Field(
        description="the id that the client was given"
    )
    name: str = Field(description="what the login page calls the client", max_length=200)
    redirect_uris: tuple[Url, ...] = Field(
        description="addresses to which people may be sent back; compared exactly", min_length=1, max_length=20
    )
    post_logout_redirect_uris: tuple[Url, ...] = Field(
        (), description="addresses to which people may be sent after logging out; compared exactly", max_length=20
    )
    public_keys: Path = Field(
        description="file with the keys that sign its client assertions: PEM (public key or certificate) or a JWK Set"
    )
    sector: str = Field(
        description="people have one pseudonym within a sector and another in every other", min_length=1, max_length=200
    )
    kind: ClientKind = Field("resident", description="who may log in there: resident, official or anyone")
    may_see_bsn: bool = Field(
        False, description="whether UserInfo gives it the burgerservicenummer; only where the law allows its use"
    )

    _in_folder = field_validator("public_keys")(_relative)

    @field_validator("redirect_uris", "post_logout_redirect_uris")
    @classmethod
    def _safe(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            if not address.startswith("https://") and not is_loopback(address):
                raise ValueError(f"{address} must be an https address (OIDC-NLGOV, redirect_uri)")
        return addresses

    def client(self) -> Client:
        """The client as the provider knows it. Raises `ConfigurationFault` when its keys cannot be read."""
        return Client(
            client_id=self.client_id,
            name=self.name,
            redirect_uris=self.redirect_uris,
            keys=read_public_keys(self.public_keys),
            sector=self.sector,
            kind=self.kind,
            may_see_bsn=self.may_see_bsn,
            post_logout_redirect_uris=self.post_logout_redirect_uris,
        )


class IdentitySettings(Settings):
    """The OpenID Provider of a node: `[identity]`."""

    issuer: Origin = Field(description="address of the provider as browsers reach it, without a slash at the end")
    name: str = Field("Stelsel", description="what a passkey calls this provider", max_length=100)
    clients: tuple[ClientSettings, ...] = Field(
        (), description="the sites that let people log in here", max_length=1000
    )
    unsafe_demo_login_file: Path | None = Field(
        None,
        description="UNSAFE, for demonstrations with invented people only: JSON file with people whom anyone may "
        "choose to be, without any proof",
    )
    login_lifetime: int = Field(900, ge=60, le=3600, description="seconds in which a login must be finished")
    code_lifetime: int = Field(60, ge=5, le=60, description="seconds in which a client must redeem its code")
    access_token_lifetime: int = Field(300, ge=30, le=900, description="seconds that an access token lives")
    session_idle: int = Field(1800, ge=60, le=86_400, description="seconds without use after which a session ends")
    session_absolute: int = Field(28_800, ge=300, le=86_400, description="seconds after which every session ends")
    activation_code_lifetime: int = Field(
        1_209_600, ge=3600, le=2_592_000, description="seconds that an activation code can be used"
    )

    _in_folder = field_validator("unsafe_demo_login_file")(_relative)

    @field_validator("issuer")
    @classmethod
    def _secure(cls, issuer: str) -> str:
        if not issuer.startswith("https://") and not is_loopback(issuer):
            raise ValueError("the issuer must be an https address, except on loopback")
        return issuer


def read_public_keys(path: Path) -> tuple[PublicKey, ...]:
    """The public keys in a file: PEM (one public key, or certificates) or a JWK Set. Raises `ConfigurationFault`."""
    try:
        keys: list[object]
        content = path.read_bytes()
        if content.lstrip().startswith(b"{"):
            keys = [key.public_key for key in read_jwk_set(parse_object(content))]
        elif b"BEGIN CERTIFICATE" in content:
            keys = [x509.load_pem_x509_certificates(content)[0].public_key()]
        else:
            keys = [load_pem_public_key(content)]
        allowed = tuple(key for key in keys if isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey))
        if len(allowed) == len(keys) and allowed:
            return allowed
    except (OSError, ValueError, BadRequest) as error:
        raise ConfigurationFault(
            f"{path}: holds no public keys that can be read (key identity.clients.public_keys)",
            next_step="point it to a PEM public key, a PEM certificate or a JWK Set",
        ) from error
    raise ConfigurationFault(f"{path}: keys must be RSA or elliptic curve (key identity.clients.public_keys)")

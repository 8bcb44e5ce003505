"""Write the test vectors of FSC in `docs/vectors/`: canonical JSON, hashes, signatures and access tokens.

Everything in them is fixed: keys follow from a text, certificates, times and ids are given, and an ECDSA signature that
is there already and holds is kept, so running this again changes nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from stelsel.steering.checks.fsc.contracts import by_domain, by_key, connection, content, publication
from stelsel.steering.checks.fsc.documents import (
    HASH_TYPES,
    Jws,
    PrivateKey,
    base64url,
    content_hash,
    grant_hash,
    jcs,
    sign_jws,
)

FOLDER = Path(__file__).parents[1] / "docs" / "vectors"
CONSUMER, PROVIDER = "00000099000000001000", "00000099000000002000"
DELEGATOR, SERVICE_DELEGATOR, DIRECTORY = "00000099000000003000", "00000099000000004000", "00000099000000005000"
GROUP = "fsc-test-vectors"
NOW = 1_790_000_000
KEYS = {"RSA": "RS256 RS384 RS512", "P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
Json = dict[str, Any]


# -- keys and certificates ---------------------------------------------------------------------------------------------


def _number(text: str, bits: int) -> int:
    return int.from_bytes(hashlib.shake_256(f"FSC test vector: {text}".encode()).digest(bits // 8), "big")


def _is_prime(number: int) -> bool:
    """Miller-Rabin with forty fixed bases."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in range(2, 42):
        power = pow(base, odd, number)
        if power in {1, number - 1}:
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


def _prime(text: str) -> int:
    candidate = _number(text, 1024) | 3 << 1022 | 1
    while candidate % 65537 == 1 or not _is_prime(candidate):
        candidate += 2
    return candidate


def key(kind: str, whose: str) -> PrivateKey:
    """The private key of this kind that follows from the text `whose`."""
    if kind != "RSA":
        order_bits = _CURVES[kind].key_size - 1
        return ec.derive_private_key(_number(f"{whose} {kind}", 640) % 2**order_bits | 1, _CURVES[kind])
    p, q = sorted((_prime(f"{whose} p"), _prime(f"{whose} q")), reverse=True)
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    return rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), public
    ).private_key()


def certificate(private: PrivateKey, peer_id: str, name: str, root: PrivateKey, number: int) -> x509.Certificate:
    """A certificate of the test group. The root's key is RSA, so the same input gives the same bytes."""
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Trust anchor of the FSC test vectors")])
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "NL"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, peer_id),
            x509.NameAttribute(NameOID.COMMON_NAME, "localhost"),
        ]
    )
    is_root = not peer_id
    builder = (
        x509.CertificateBuilder()
        .subject_name(issuer if is_root else subject)
        .issuer_name(issuer)
        .public_key(private.public_key())
        .serial_number(number)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2046, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
    )
    if is_root:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(root.public_key()), critical=False)
    else:
        named = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName("outway.example")])
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key())
        builder = builder.add_extension(named, critical=False).add_extension(identifier, critical=False)
    return builder.sign(root, hashes.SHA256())


class Signer:
    """A key pair of the vectors, as JSON and for signing."""

    def __init__(self, kind: str, peer_id: str, name: str, root: PrivateKey, number: int) -> None:
        self.key = key(kind, name)
        self.certificate = certificate(self.key, peer_id, name, root, number)
        self.kind, self.peer_id = kind, peer_id
        self.der = self.certificate.public_bytes(Encoding.DER)
        self.thumbprint = base64url(hashlib.sha256(self.der).digest())
        self.spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.key_thumbprint = hashlib.sha256(self.spki).hexdigest()

    def to_json(self) -> Json:
        return {
            "kind": self.kind,
            "algorithms": KEYS[self.kind].split(),
            "peer_id": self.peer_id,
            "private_key_pkcs8": _text(self.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())),
            "certificate": _text(self.der),
            "x5t#S256": self.thumbprint,
            "public_key_thumbprint": self.key_thumbprint,
        }

    def sign(self, algorithm: str, payload: Json, kept: str, **header: str) -> str:
        """A compact JWS; `kept` when that is one of this payload and header already, for ECDSA is random."""
        members = {"alg": algorithm, "x5t#S256": self.thumbprint} | header
        try:
            found = Jws.read(kept)
            if (found.header, found.payload) == (members, payload) and found.holds(self.key.public_key()):
                return kept
        except (ValueError, TypeError):
            pass
        return sign_jws(members, jcs(payload), self.key)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


# -- canonical JSON and contracts --------------------------------------------------------------------------------------

CANONICAL: dict[str, Any] = {
    "members are sorted by UTF-16 code units": {
        "\ufb33": 1,
        "\U0001f600": 2,
        "\u20ac": 3,
        "1": 4,
        "a": 5,
        "A": 6,
        "": 7,
    },
    "numbers are written as ECMAScript does": [0, -0.0, 1.0, 1e21, 1e-7, 4.5, 0.002, 1e30, 333333333.3333333, 5e-324],
    "integers up to 2^53 - 1 stay as they are": [9007199254740991, -9007199254740991],
    "only what must be is escaped": 'quote " backslash \\ slash / \b\f\n\r\t \u0007 \u001f \u007f \u0080 \u2028 \u20ac',
    "arrays keep their order": [3, 1, 2, [], {}, None, True, False],
    "nothing is normalised": ["\u00e9", "e\u0301"],
}

PROPERTIES: Json = {
    "purpose": "Beoordelen of u een parkeervergunning kunt krijgen",
    "fields": ["naam", "adres"],
    "limits": {"per_day": 1000, "ratio": 0.1, "open": True, "until": None},
    "€": "naïef",
}


def contracts(outway: str) -> Iterator[tuple[str, Json]]:
    """Every type of grant, and every choice within a type."""
    key_of, name_of = by_key(outway), by_domain("outway.example")
    both = {"delegator": DELEGATOR, "service_delegator": SERVICE_DELEGATOR}
    grants = {
        "service connection": [connection(CONSUMER, key_of, PROVIDER, "personen")],
        "service connection, outway by domain name": [connection(CONSUMER, name_of, PROVIDER, "personen")],
        "service connection with properties": [
            connection(CONSUMER, key_of, PROVIDER, "personen", properties=PROPERTIES)
        ],
        "service connection to a delegated service": [
            connection(CONSUMER, key_of, PROVIDER, "personen", service_delegator=SERVICE_DELEGATOR)
        ],
        "delegated service connection": [connection(CONSUMER, key_of, PROVIDER, "personen", delegator=DELEGATOR)],
        "delegated service connection to a delegated service, with properties": [
            connection(CONSUMER, key_of, PROVIDER, "personen", properties=PROPERTIES, **both)
        ],
        "service publication": [publication(PROVIDER, DIRECTORY, "personen")],
        "service publication with properties": [publication(PROVIDER, DIRECTORY, "personen", properties=PROPERTIES)],
        "delegated service publication": [publication(PROVIDER, DIRECTORY, "personen", delegator=SERVICE_DELEGATOR)],
        "two grants, in this order": [
            connection(CONSUMER, key_of, PROVIDER, "personen"),
            connection(CONSUMER, key_of, PROVIDER, "adressen", delegator=DELEGATOR),
        ],
    }
    for number, (name, listed) in enumerate(grants.items(), 1):
        fixed = {
            "iv": f"019a0000-0000-7000-8000-{number:012d}",
            "validity": {"not_before": NOW, "not_after": NOW + 31_536_000},
            "created_at": NOW - 3600,
        }
        yield name, content(GROUP, *listed, **fixed)


def contract_vector(name: str, made: Json) -> Json:
    """A contract with its hashes, and what they would be after a common mistake."""
    hashed = content_hash(made)
    data = made["grants"][0]["data"]
    canonical = jcs(made)
    bare = hashlib.sha3_512(hashed[5:].encode() + jcs(data)).digest()
    kind = HASH_TYPES[data["type"]]
    whole_grant = hashlib.sha3_512(hashed.encode() + jcs(made["grants"][0])).digest()
    raw = hashlib.sha3_512(hashlib.sha3_512(canonical).digest() + jcs(data)).digest()
    return {
        "name": name,
        "content": made,
        "canonical": canonical.decode(),
        "content_hash": hashed,
        "grants": [
            {
                "type": grant["data"]["type"],
                "canonical": jcs(grant["data"]).decode(),
                "grant_hash": grant_hash(hashed, grant["data"]),
            }
            for grant in made["grants"]
        ],
        "mistakes": {
            "content hash, base64 instead of base64url": "$1$1$" + _text(hashlib.sha3_512(canonical).digest()),
            "content hash, SHA-512 instead of SHA3-512": "$1$1$" + base64url(hashlib.sha512(canonical).digest()),
            "grant hash, the grant type's number instead of the hash type's": "$1$"
            f"{_GRANT_TYPES[data['type']]}$" + grant_hash(hashed, data)[5:],
            "grant hash, over the content hash without its prefix": f"$1${kind}${base64url(bare)}",
            "grant hash, over the bytes of the content hash": f"$1${kind}${base64url(raw)}",
            "grant hash, over the grant instead of its data": f"$1${kind}${base64url(whole_grant)}",
        },
    }


_GRANT_TYPES = {
    "GRANT_TYPE_SERVICE_PUBLICATION": 1,
    "GRANT_TYPE_SERVICE_CONNECTION": 2,
    "GRANT_TYPE_DELEGATED_SERVICE_CONNECTION": 3,
    "GRANT_TYPE_DELEGATED_SERVICE_PUBLICATION": 4,
}


# -- signatures and tokens ---------------------------------------------------------------------------------------------


def signatures(listed: list[Json], signers: dict[str, Signer], kept: dict[str, str]) -> Iterator[Json]:
    """The provider's signature on each contract: accept with each algorithm, reject and revoke with one."""
    tried = [("accept", algorithm) for names in KEYS.values() for algorithm in names.split()]
    tried += [("reject", "ES256"), ("revoke", "RS256")]
    for vector in listed:
        for kind, algorithm in tried:
            signer = next(one for one in signers.values() if algorithm in KEYS[one.kind].split())
            payload = {"contract_content_hash": vector["content_hash"], "type": kind, "signed_at": NOW + 60}
            name = f"{vector['name']}, {kind}, {algorithm}"
            compact = signer.sign(algorithm, payload, kept.get(name, ""))
            header = {"alg": algorithm, "x5t#S256": signer.thumbprint}
            yield {
                "name": name,
                "contract": vector["name"],
                "certificate": signer.kind,
                "header": header,
                "payload": payload,
                "signature": compact,
            }


def tokens(listed: list[Json], signers: dict[str, Signer], client: Signer, kept: dict[str, str]) -> Iterator[Json]:
    """The provider's access token for each connection grant, with each algorithm."""
    for vector in listed:
        data = vector["content"]["grants"][0]["data"]
        if "outway" not in data:
            continue
        claims: Json = {
            "gth": vector["grants"][0]["grant_hash"],
            "gid": GROUP,
            "sub": CONSUMER,
            "iss": PROVIDER,
            "svc": data["service"]["name"],
            "aud": "https://inway.example:443",
            "exp": NOW + 3600,
            "nbf": NOW + 3300,
            "cnf": {"x5t#S256": client.thumbprint},
            "add": {},
        }
        if "delegator" in data:
            claims["act"] = {"sub": data["delegator"]["peer_id"]}
        if "delegator" in data["service"]:
            claims["pdi"] = data["service"]["delegator"]["peer_id"]
        if "properties" in data:
            claims["prp"] = data["properties"]
        for signer in signers.values():
            for algorithm in KEYS[signer.kind].split():
                name = f"{vector['name']}, {algorithm}"
                compact = signer.sign(algorithm, claims, kept.get(name, ""), typ="JWT")
                yield {
                    "name": name,
                    "contract": vector["name"],
                    "certificate": signer.kind,
                    "header": {"alg": algorithm, "x5t#S256": signer.thumbprint, "typ": "JWT"},
                    "claims": claims,
                    "token": compact,
                }


def documents() -> dict[str, Json]:
    """File name to document."""
    root_key = key("RSA", "root")
    root = certificate(root_key, "", "root", root_key, 1)
    signers = {
        kind: Signer(kind, PROVIDER, "Aanbieder van de testvectoren", root_key, number)
        for number, kind in enumerate(KEYS, 2)
    }
    client = Signer("P-256", CONSUMER, "Afnemer van de testvectoren", root_key, 9)
    listed = [contract_vector(name, made) for name, made in contracts(client.key_thumbprint)]
    canonical = [
        {
            "name": name,
            "value": value,
            "canonical": jcs(value).decode(),
            "sha3_512": hashlib.sha3_512(jcs(value)).hexdigest(),
        }
        for name, value in CANONICAL.items()
    ]
    return {
        "certificates.json": {
            "trust_anchor": _text(root.public_bytes(Encoding.DER)),
            "provider": [signer.to_json() for signer in signers.values()],
            "consumer": client.to_json(),
        },
        "canonical.json": {"vectors": canonical},
        "contracts.json": {"vectors": listed},
        "signatures.json": {"vectors": list(signatures(listed, signers, _kept("signatures.json", "signature")))},
        "tokens.json": {"vectors": list(tokens(listed, signers, client, _kept("tokens.json", "token")))},
    }


def _kept(file: str, member: str) -> dict[str, str]:
    path = FOLDER / file
    found = json.loads(path.read_text())["vectors"] if path.exists() else []
    return {vector["name"]: vector[member] for vector in found}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file, document in documents().items():
        (FOLDER / file).write_text(json.dumps(document, indent=1, ensure_ascii=True) + "\n")

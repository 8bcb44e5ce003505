"""The test vectors of `docs/vectors/`, computed twice more: from the clauses on the standard library, and by our code.

What is named `independent_` uses nothing of Stelsel: what made the vectors, what runs, and what is computed here would
all have to make the same mistake.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes as digests
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

from stelsel.agreements import contract as contracts
from stelsel.agreements import hashes, signatures, tokens
from stelsel.agreements.fsc_errors import FscFault, TokenInvalid
from stelsel.base.canonical import canonical, parse_json
from stelsel.base.certificates import Certificate, TrustAnchors

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "docs" / "vectors"
ALGORITHMS = {"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"}
GRANT_TYPES = {
    "GRANT_TYPE_SERVICE_PUBLICATION",
    "GRANT_TYPE_SERVICE_CONNECTION",
    "GRANT_TYPE_DELEGATED_SERVICE_CONNECTION",
    "GRANT_TYPE_DELEGATED_SERVICE_PUBLICATION",
}


def load(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


def listed(name: str) -> list[dict[str, Any]]:
    return load(name)["vectors"]


def by_name(vector: dict[str, Any]) -> str:
    return str(vector["name"])


CERTIFICATES = load("certificates")
CONTRACTS = {vector["name"]: vector for vector in listed("contracts")}
PROVIDERS = {item["kind"]: item for item in CERTIFICATES["provider"]}
NOW = 1_790_000_100.0


# -- once more, from the clauses ---------------------------------------------------------------------------------------


def independent_canonical(value: Any) -> str:
    """RFC 8785 for the contracts of the vectors: names of the Basic Multilingual Plane, short decimal numbers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def independent_hash(text: str, kind: int) -> str:
    """4.2.4 steps 2 to 6 and 4.2.5 steps 4 to 9."""
    encoded = base64.b64encode(hashlib.sha3_512(text.encode("utf-8")).digest()).decode()
    return f"$1${kind}$" + encoded.replace("+", "-").replace("/", "_").replace("=", "")


def independent_decode(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def independent_holds(compact: str, certificate: x509.Certificate) -> bool:
    """RFC 7515, 5.2, with the algorithms of RFC 7518, 3.3 and 3.4."""
    head, payload, signature = compact.split(".")
    algorithm = json.loads(independent_decode(head))["alg"]
    digest = {"256": digests.SHA256, "384": digests.SHA384, "512": digests.SHA512}[algorithm[2:]]()
    signed, raw = f"{head}.{payload}".encode("ascii"), independent_decode(signature)
    public = certificate.public_key()
    try:
        if algorithm.startswith("RS"):
            assert isinstance(public, rsa.RSAPublicKey)
            public.verify(raw, signed, padding.PKCS1v15(), digest)
        else:
            assert isinstance(public, ec.EllipticCurvePublicKey)
            assert public.curve.name == {"256": "secp256r1", "384": "secp384r1", "512": "secp521r1"}[algorithm[2:]]
            half = {"256": 32, "384": 48, "512": 66}[algorithm[2:]]
            assert len(raw) == 2 * half
            r, s = int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
            public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))
    except InvalidSignature:
        return False
    return True


def independent_certificate(item: dict[str, Any]) -> x509.Certificate:
    return x509.load_der_x509_certificate(base64.b64decode(item["certificate"]))


@pytest.mark.parametrize("vector", CONTRACTS.values(), ids=by_name)
def test_hashes_follow_from_the_clauses_alone(vector: dict[str, Any]) -> None:
    numbers = {"PUBLICATION": 2, "CONNECTION": 3, "DELEGATED_CONNECTION": 4, "DELEGATED_PUBLICATION": 5}
    text = independent_canonical(vector["content"])
    assert vector["canonical"] == text
    assert vector["content_hash"] == independent_hash(text, 1)
    for grant, found in zip(vector["content"]["grants"], vector["grants"], strict=True):
        data = independent_canonical(grant["data"])
        kind = numbers[grant["data"]["type"].removeprefix("GRANT_TYPE_").replace("SERVICE_", "")]
        assert found["canonical"] == data
        assert found["grant_hash"] == independent_hash(vector["content_hash"] + data, kind)


@pytest.mark.parametrize("vector", listed("signatures") + listed("tokens"), ids=by_name)
def test_signatures_and_tokens_hold_by_cryptography_alone(vector: dict[str, Any]) -> None:
    item = PROVIDERS[vector["certificate"]]
    compact = vector.get("signature") or vector["token"]
    head, payload, _ = compact.split(".")
    assert json.loads(independent_decode(head)) == vector["header"]
    assert independent_decode(payload).decode() == independent_canonical(vector.get("payload") or vector["claims"])
    assert independent_holds(compact, independent_certificate(item))
    altered = f"{head}.{payload}."  # the same signature over another payload does not hold
    other = base64.urlsafe_b64encode(independent_decode(payload).replace(b"{", b"{ ", 1)).decode().rstrip("=")
    assert not independent_holds(f"{head}.{other}.{compact.removeprefix(altered)}", independent_certificate(item))


@pytest.mark.parametrize("item", [*PROVIDERS.values(), CERTIFICATES["consumer"]], ids=lambda item: item["kind"])
def test_certificates_have_the_thumbprints_and_keys_that_are_told(item: dict[str, Any]) -> None:
    certificate = independent_certificate(item)
    der = certificate.public_bytes(Encoding.DER)
    encoded = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")
    assert item["x5t#S256"] == encoded
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert item["public_key_thumbprint"] == hashlib.sha256(spki).hexdigest()
    private = load_der_private_key(base64.b64decode(item["private_key_pkcs8"]), None)
    assert private.public_key() == certificate.public_key()
    root = x509.load_der_x509_certificate(base64.b64decode(CERTIFICATES["trust_anchor"]))
    certificate.verify_directly_issued_by(root)


def test_canonical_forms_that_rfc_8785_prints() -> None:
    """Expected values as they stand in RFC 8785, 3.2.2, 3.2.3 and appendix B; the rest by its rules."""
    found = {vector["name"]: vector for vector in listed("canonical")}
    for vector in found.values():
        assert vector["sha3_512"] == hashlib.sha3_512(vector["canonical"].encode()).hexdigest()
    order = found["members are sorted by UTF-16 code units"]["canonical"]
    assert list(json.loads(order)) == ["", "1", "A", "a", "\u20ac", "\U0001f600", "\ufb33"]
    numbers = found["numbers are written as ECMAScript does"]["canonical"]
    assert numbers == "[0,0,1,1e+21,1e-7,4.5,0.002,1e+30,333333333.3333333,5e-324]"
    integers = found["integers up to 2^53 - 1 stay as they are"]["canonical"]
    assert integers == "[9007199254740991,-9007199254740991]"


# -- by our code -------------------------------------------------------------------------------------------------------


def _anchors() -> TrustAnchors:
    root = x509.load_der_x509_certificate(base64.b64decode(CERTIFICATES["trust_anchor"]))
    return TrustAnchors(root.public_bytes(Encoding.PEM))


ANCHORS = _anchors()


@pytest.mark.parametrize("vector", listed("canonical"), ids=by_name)
def test_our_canonical_json_is_that_of_the_vectors(vector: dict[str, Any]) -> None:
    assert canonical(vector["value"]).decode() == vector["canonical"]
    assert canonical(parse_json(vector["canonical"])).decode() == vector["canonical"]


@pytest.mark.parametrize("vector", CONTRACTS.values(), ids=by_name)
def test_our_hashes_are_those_of_the_vectors(vector: dict[str, Any]) -> None:
    contract = contracts.parse(vector["content"])
    assert contract.content_hash == hashes.content_hash(vector["content"]) == vector["content_hash"]
    assert [grant.grant_hash for grant in contract.grants] == [grant["grant_hash"] for grant in vector["grants"]]
    computed = {vector["content_hash"], *(grant["grant_hash"] for grant in vector["grants"])}
    assert len(set(vector["mistakes"].values()) | computed) == len(vector["mistakes"]) + len(computed)


@pytest.mark.parametrize("vector", listed("signatures"), ids=by_name)
def test_our_verification_takes_the_signatures(vector: dict[str, Any]) -> None:
    contract = contracts.parse(CONTRACTS[vector["contract"]]["content"])
    item = PROVIDERS[vector["certificate"]]

    def verify(compact: str, kind: str) -> signatures.Signature:
        return signatures.verify(
            compact,
            contract,
            kind,
            (base64.b64decode(item["certificate"]),),
            submitter=item["peer_id"],
            anchors=ANCHORS,
            now=NOW,
            clock_skew=60,
        )

    kind = vector["payload"]["type"]
    found = verify(vector["signature"], kind)
    assert (found.peer_id, found.type, found.signed_at) == (item["peer_id"], kind, vector["payload"]["signed_at"])
    other = {"accept": "revoke", "reject": "accept", "revoke": "reject"}[kind]
    with pytest.raises(FscFault):
        verify(vector["signature"], other)
    head, payload, signature = vector["signature"].split(".")
    raw = bytearray(independent_decode(signature))
    raw[20] ^= 1
    with pytest.raises(FscFault):
        verify(f"{head}.{payload}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}", kind)


@pytest.mark.parametrize("vector", listed("tokens"), ids=by_name)
def test_our_inway_takes_the_tokens(vector: dict[str, Any]) -> None:
    certificate = Certificate.read(base64.b64decode(PROVIDERS[vector["certificate"]]["certificate"]))
    claims = tokens.verify(vector["token"], certificate)
    assert claims.to_json() == vector["claims"]
    tokens.check(
        claims,
        thumbprint=CERTIFICATES["consumer"]["x5t#S256"],
        group_id="fsc-test-vectors",
        provider=certificate.peer_id,
        audience="https://inway.example:443",
        now=vector["claims"]["nbf"] + 1.0,
    )
    with pytest.raises(TokenInvalid):
        tokens.verify(vector["token"][:-20] + "A" * 20, certificate)


# -- the vectors as a whole --------------------------------------------------------------------------------------------


def test_every_grant_type_is_there_with_every_algorithm() -> None:
    first = {name: vector["grants"][0]["type"] for name, vector in CONTRACTS.items()}
    signed = {(first[vector["contract"]], vector["header"]["alg"]) for vector in listed("signatures")}
    assert signed == {(kind, algorithm) for kind in GRANT_TYPES for algorithm in ALGORITHMS}
    given = {(first[vector["contract"]], vector["header"]["alg"]) for vector in listed("tokens")}
    connections = {kind for kind in GRANT_TYPES if kind.endswith("CONNECTION")}
    assert given == {(kind, algorithm) for kind in connections for algorithm in ALGORITHMS}


def test_the_script_makes_the_very_vectors_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    vectors = __import__("vectors")
    try:
        began = time.perf_counter()
        for name, document in vectors.documents().items():
            text = json.dumps(document, indent=1, ensure_ascii=True) + "\n"
            assert (VECTORS / name).read_text() == text, f"{name} is not what tools/vectors.py makes"
        assert time.perf_counter() - began < 60
    finally:
        sys.modules.pop("vectors", None)

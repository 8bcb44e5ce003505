"""kill -9 of the node that logs people in and steers, while it does both: no code works twice, no finding is lost."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.jwk import ECKey
from robust_siege import PATIENCE

from stelsel.base.canonical import canonical
from stelsel.base.certificates import KeyPair
from stelsel.base.errors import Fault
from stelsel.base.ids import uuid7
from stelsel.demo.cast import GEMEENTE, REGIE, Actor
from stelsel.demo.country import MUNICIPALITY, Country
from stelsel.demo.population_register.store import notable_people
from stelsel.demo.scenario.browser import Visitor
from stelsel.identity.requests import ASSERTION_TYPE, s256
from stelsel.steering.log import Entry, verify_findings

# httpcore leaves its own end open where nobody listens on a unix socket, which is what a power cut looks like.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def _keypair(country: Country, actor: Actor) -> KeyPair:
    home = country.folder / actor.key
    return KeyPair.load(home / "certificate.pem", home / "key.pem")


def _restart(country: Country) -> None:
    country.processes[REGIE.key].kill()
    country.processes[REGIE.key].start()
    country.await_node(REGIE)


@dataclass
class _Client:
    """The municipality's site as a program of its own: it holds its codes and verifiers, and may redeem them twice."""

    country: Country
    key: ECKey = field(init=False)
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=PATIENCE, trust_env=False))

    def __post_init__(self) -> None:
        key = _keypair(self.country, GEMEENTE).key
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.key = ECKey.import_key(key)

    @property
    def issuer(self) -> str:
        return self.country.web(REGIE)

    @property
    def callback(self) -> str:
        return f"{self.country.web(GEMEENTE)}/inloggen/terug"

    def log_in(self) -> dict[str, str]:
        """An official logs in; gives what redeems the code, to be used once."""
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(32)
        asked = {
            "response_type": "code",
            "client_id": GEMEENTE.key,
            "redirect_uri": self.callback,
            "scope": "openid",
            "state": state,
            "nonce": secrets.token_urlsafe(32),
            "code_challenge": s256(verifier),
            "code_challenge_method": "S256",
        }
        reader = Visitor()
        reader._client.close()
        with httpx.Client(base_url=self.issuer, timeout=PATIENCE, trust_env=False, follow_redirects=True) as browser:
            reader._show(browser.get("/oidc/authorize", params=asked))
            form, person = next(
                (form, value)
                for form in reader.forms
                for name, value, text in form.buttons
                if name == "person" and f"Medewerker van {GEMEENTE.name}" in text
            )
            answer = browser.post(form.action, data=form.fields | {"person": person}, follow_redirects=False)
        assert answer.status_code == 303, answer.text
        back = parse_qs(urlsplit(answer.headers["location"]).query)
        assert back["state"] == [state]
        return {
            "grant_type": "authorization_code",
            "code": back["code"][0],
            "redirect_uri": self.callback,
            "code_verifier": verifier,
            "client_assertion_type": ASSERTION_TYPE,
        }

    def assertion(self) -> str:
        claims: dict[str, object] = {"iss": GEMEENTE.key, "sub": GEMEENTE.key, "aud": self.issuer, "jti": uuid7()}
        claims["exp"] = int(time.time()) + 60
        return jws.serialize_compact({"alg": "ES256"}, canonical(claims), self.key)

    def redeem(self, form: dict[str, str], assertion: str | None = None) -> httpx.Response | None:
        """What the provider answers; None when the power failed before it did."""
        data = form | {"client_assertion": assertion or self.assertion()}
        try:
            return self.http.post(f"{self.issuer}/oidc/token", data=data)
        except httpx.TransportError:
            return None


@pytest.fixture
def client(besieged: Country) -> Iterator[_Client]:
    client = _Client(besieged)
    with client.http:
        yield client


def _error(answer: httpx.Response | None) -> str:
    assert answer is not None
    assert answer.status_code in (400, 401), answer.text
    return str(answer.json()["error"])


def test_no_code_works_twice_however_the_power_fails_while_codes_are_redeemed(
    besieged: Country, client: _Client
) -> None:
    """The power fails as soon as one answer is there: of the other codes some are answered, some are under way."""
    for _ in range(2):
        forms = [client.log_in() for _ in range(6)]
        assertions = [client.assertion() for _ in forms]
        first: list[httpx.Response | None] = [None] * len(forms)
        answered = threading.Event()

        def redeem(
            numbers: range,
            first: list[httpx.Response | None] = first,
            forms: list[dict[str, str]] = forms,
            assertions: list[str] = assertions,
            answered: threading.Event = answered,
        ) -> None:
            for number in numbers:
                first[number] = client.redeem(forms[number], assertions[number])
                answered.set()

        threads = [threading.Thread(target=redeem, args=(range(start, 6, 3),)) for start in range(3)]
        for thread in threads:
            thread.start()
        assert answered.wait(PATIENCE)
        besieged.processes[REGIE.key].kill()
        for thread in threads:
            thread.join(30)
        _restart(besieged)
        assert any(answer is not None and answer.status_code == 200 for answer in first)
        for number, form in enumerate(forms):
            answers = [first[number], client.redeem(form), client.redeem(form)]
            works = [answer is not None and answer.status_code == 200 for answer in answers]
            assert sum(works) <= 1, "a code worked twice"
            assert _error(answers[2]) == "invalid_grant"
            if works[0]:  # what was answered is not forgotten: neither the code nor the assertion that came with it
                assert _error(answers[1]) == "invalid_grant"
                assert _error(client.redeem(form, assertions[number])) == "invalid_client"


def test_a_code_that_was_redeemed_before_the_power_failed_stays_used_and_one_that_was_not_still_works(
    besieged: Country, client: _Client
) -> None:
    used, kept = client.log_in(), client.log_in()
    answer = client.redeem(used)
    assert answer is not None
    assert answer.status_code == 200, answer.text
    _restart(besieged)
    assert _error(client.redeem(used)) == "invalid_grant"
    later = client.redeem(kept)
    assert later is not None
    assert later.status_code == 200, later.text
    assert _error(client.redeem(kept)) == "invalid_grant"


def test_who_was_logged_in_still_is_after_a_power_cut_and_a_login_under_way_ends_or_starts_anew(
    besieged: Country,
) -> None:
    resident = notable_people(besieged.folder / "people.sqlite", 1, MUNICIPALITY)[0]
    portal = besieged.web(REGIE)
    with Visitor() as inside, Visitor() as under_way, Visitor() as after:
        inside.go(f"{portal}/inloggen?terug=/mijn-gegevens")
        inside.press(resident.name)
        under_way.go(f"{portal}/inloggen?terug=/mijn-gegevens")
        _restart(besieged)
        inside.go(f"{portal}/mijn-gegevens")
        assert inside.page is not None
        assert inside.page.status_code == 200
        assert "/uitloggen" in inside.page.text
        assert "Wie gebruikte uw gegevens?" in inside.page.text
        for visitor in (under_way, after):
            if visitor is after:
                visitor.go(f"{portal}/inloggen?terug=/mijn-gegevens")
            answer = visitor.press(resident.name)
            assert answer.status_code == 200, answer.text
            assert answer.url.path == "/mijn-gegevens"


# -- steering --------------------------------------------------------------------------------------------------------


def _log(country: Country) -> list[Entry]:
    """The steward's log as anyone may fetch it, verified from its first line as anyone may verify it."""
    answer = httpx.get(f"{country.web(REGIE)}/steering/findings", timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    return verify_findings(answer.text.splitlines(), _keypair(country, REGIE).certificate)


def test_the_chain_of_findings_holds_however_the_power_fails_while_checks_run(besieged: Country) -> None:
    chance = random.Random(5)
    steward = besieged.control(REGIE)
    acknowledged = {finding["id"]: finding["evidence_hash"] for finding in steward.post("/commands/check")}
    assert acknowledged
    before = _log(besieged)
    for _ in range(3):
        blow = threading.Timer(chance.uniform(0.02, 0.4), besieged.processes[REGIE.key].kill)
        blow.start()
        try:
            while blow.is_alive():
                found = steward.post("/commands/check")
                acknowledged |= {finding["id"]: finding["evidence_hash"] for finding in found}
        except Fault:
            pass
        blow.join()
        _restart(besieged)
        now = _log(besieged)
        assert now[: len(before)] == before, "what was published stays as it was"
        kept = {str(entry.index): entry.body["evidence_hash"] for entry in now if entry.kind == "finding"}
        assert acknowledged.items() <= kept.items(), "what was answered is in the log, with its evidence"
        before = now
    more = steward.post("/commands/check")
    assert len(_log(besieged)) >= len(before) + len(more)
    board = httpx.get(f"{besieged.web(REGIE)}/steering/board", timeout=PATIENCE, trust_env=False).json()
    assert len(board["peers"]) == 5

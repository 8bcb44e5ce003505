"""Schemathesis against a real manager over mutual TLS, by the published OpenAPI documents (see `fsc_openapi`).

Good and bad data for every operation: no answer is a mistake of ours, and each is as the document says. Contracts that
are only good on paper get no further than their signature, so the same contents are also signed and sent.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path
from typing import Any, Self

import pytest
import requests
import schemathesis
from agreements_peers import CONSUMER, DIRECTORY, OTHER, PROVIDER, make_group
from fsc_openapi import LOGGING, MANAGER, corrected
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from stelsel.agreements import signatures
from stelsel.agreements.api import routes
from stelsel.agreements.contract import parse
from stelsel.agreements.proposals import ConnectionProposal, PublicationProposal
from stelsel.agreements.service import Agreements
from stelsel.agreements.services import Service
from stelsel.agreements.terms import Terms
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.clock import SystemClock
from stelsel.base.database import Database
from stelsel.base.errors import Fault
from stelsel.base.ids import new_span_id, new_trace_id, uuid7
from stelsel.base.jose import Signer
from stelsel.base.web import application, listen, serving
from stelsel.demo.authority import Authority
from stelsel.demo.ports import free_ports
from stelsel.ledger.api import routes as ledger_routes
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger

pytestmark = [
    pytest.mark.external,
    # The manager works in a thread of this process: what it draws by chance meanwhile is not drawn inside a strategy.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning"),
]

NEVER_A_MISTAKE = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS = [
    ("manager", "/announce", "PUT"),
    ("manager", "/contracts", "POST"),
    ("manager", "/contracts", "GET"),
    ("manager", "/contracts/{hash}/accept", "PUT"),
    ("manager", "/contracts/{hash}/reject", "PUT"),
    ("manager", "/contracts/{hash}/revoke", "PUT"),
    ("manager", "/token", "POST"),
    ("manager", "/peer", "GET"),
    ("manager", "/peers", "GET"),
    ("manager", "/services", "GET"),
    ("manager", "/.well-known/jwks.json", "GET"),
    ("logging", "/logs", "GET"),
]
ASKING = [operation for operation in OPERATIONS if operation[2] == "GET" or operation[1] == "/announce"]
"""Operations of which good data suffices for a good answer: no signature and no earlier agreement is needed."""

# The same examples every time; few, for each is a real request.
few = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CONFIG = SchemathesisConfig.from_dict({"generation": {"allow-x00": False, "codec": "utf-8"}})


class Manager:
    """A provider that keeps the directory too, with its ledger, in a thread with a loop of its own."""

    def __init__(
        self, folder: Path, keypairs: dict[str, KeyPair], authority: Authority, anchors: TrustAnchors, terms: Terms
    ) -> None:
        self.folder = folder
        self.keypairs = keypairs
        self.anchors = anchors
        self.terms = terms
        self.port = free_ports(1)[0]
        self.group = make_group(folder, authority, self.port).model_copy(update={"directory_peer_id": PROVIDER})
        self._ready = threading.Event()
        self._stopping: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="manager")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping()
        self._thread.join(20)

    async def _serve(self) -> None:
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()
        self._stopping = lambda: loop.call_soon_threadsafe(stopping.set)
        own = self.keypairs[PROVIDER]
        async with AsyncExitStack() as stack:
            database = Database(self.folder / "node.sqlite")
            stack.callback(database.close)
            database.create()
            agreements = Agreements(
                database=database,
                keypair=own,
                anchors=self.anchors,
                group=self.group,
                clock=SystemClock(),
                manager_address=f"https://localhost:{self.port}",
                inway_address=f"https://localhost:{self.port + 1}",
                services=tuple(Service(name=name, endpoint="http://127.0.0.1:1") for name in ("personen", "adressen")),
                catch_up_interval=0,
            )
            ledger = Ledger(folder=self.folder / "ledger", keypair=own, clock=SystemClock())
            await ledger.start()
            stack.push_async_callback(ledger.stop)
            await agreements.start()
            stack.push_async_callback(agreements.stop)
            await self._fill(agreements, ledger)
            listener = listen(f"127.0.0.1:{self.port}")
            stack.callback(listener.close)
            app = application([*routes(agreements), *ledger_routes(ledger)])
            await stack.enter_async_context(serving(app, listener, own.server_context(self.anchors)))
            self._ready.set()
            await stopping.wait()

    async def _fill(self, agreements: Agreements, ledger: Ledger) -> None:
        await agreements.propose(PublicationProposal("personen", "Personen zoeken", personal=True))
        await agreements.propose(ConnectionProposal(PROVIDER, "personen", self.terms))
        for number in range(6):
            await ledger.append(
                Record(
                    transaction_id=uuid7(),
                    trace_id=new_trace_id(),
                    span_id=new_span_id(),
                    parent_span_id=None,
                    time=int(time.time() * 1000) - number,
                    direction="incoming",
                    event="request",
                    grant_hash="$1$4$" + "A" * 86,
                    consumer=CONSUMER,
                    provider=PROVIDER,
                    service="personen",
                    allowed=number % 3 > 0,
                    reason="allowed",
                    consumer_delegator=OTHER if number % 2 else None,
                    provider_delegator=DIRECTORY if number % 3 else None,
                )
            )


class Asker:
    """The consumer, with its certificate, and the documents by which it asks."""

    def __init__(self, manager: Manager, external_data: Path) -> None:
        self.manager = manager
        self.address = f"https://localhost:{manager.port}/v1"
        own = manager.keypairs[CONSUMER]
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.cert = (str(own.certificate_file), str(own.key_file))
        self.session.verify = str(manager.folder / "anchors.pem")
        self.schemas = {
            "manager": _schema(corrected(external_data / "fsc" / "manager-2.0.0.yaml", MANAGER)),
            "logging": _schema(corrected(external_data / "fsc" / "logging-1.1.0.yaml", LOGGING)),
        }

    def operation(self, document: str, path: str, method: str) -> Any:
        return self.schemas[document][path][method]

    def ask(self, case: Any, *checks: Any) -> Any:
        response = case.call(
            base_url=self.address, session=self.session, verify=self.session.verify, cert=self.session.cert
        )
        case.validate_response(response, checks=[*NEVER_A_MISTAKE, *checks])
        return response


def _schema(document: dict[str, Any]) -> Any:
    return schemathesis.openapi.from_dict(json.loads(json.dumps(document)), config=CONFIG)


@pytest.fixture(scope="module")
def asker(
    tmp_path_factory: pytest.TempPathFactory,
    keypairs: dict[str, KeyPair],
    authority: Authority,
    anchors: TrustAnchors,
    terms: Terms,
    external_data: Path,
) -> Iterator[Asker]:
    with Manager(tmp_path_factory.mktemp("manager"), keypairs, authority, anchors, terms) as manager:
        asker = Asker(manager, external_data)
        with asker.session:
            yield asker


def test_every_operation_of_the_documents_is_tried(asker: Asker) -> None:
    found = {
        (name, result.ok().path, result.ok().method.upper())
        for name, schema in asker.schemas.items()
        for result in schema.get_all_operations()
    }
    assert found == set(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation[2]} {operation[1]}")
def test_good_data_is_answered_as_the_document_says(asker: Asker, operation: tuple[str, str, str]) -> None:
    checks = [positive_data_acceptance] if operation in ASKING else []

    @few
    @given(case=asker.operation(*operation).as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))
    def ask(case: Any) -> None:
        asker.ask(case, *checks)

    ask()


@pytest.mark.parametrize(
    "operation",
    [operation for operation in OPERATIONS if operation[1] not in {"/peer", "/.well-known/jwks.json"}],
    ids=lambda operation: f"{operation[2]} {operation[1]}",
)
def test_bad_data_is_refused_as_the_document_says(asker: Asker, operation: tuple[str, str, str]) -> None:
    @few
    @given(case=asker.operation(*operation).as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
    def ask(case: Any) -> None:
        query = case.query or {}
        # What is asked in place of all other parameters makes that those are not looked at (4.4.1.5, 4.4.1.7); and a
        # parameter that is left empty is one that is left out. A made-up cursor can be one of ours by chance.
        instead = operation[1] != "/services" and {"grant_hash", "peer_id", "transaction_ids"} & set(query)
        chance = str(query.get("cursor", "")).isdigit()
        checks = [] if instead or chance or "" in query.values() else [negative_data_rejection]
        asker.ask(case, *checks)

    ask()


def test_contents_that_are_good_on_paper_are_taken_in_or_refused_for_a_reason_when_signed(asker: Asker) -> None:
    signer = Signer(asker.manager.keypairs[CONSUMER])
    answers: dict[int, int] = {}

    @settings(few, max_examples=50)
    @given(
        case=asker.operation("manager", "/contracts", "POST").as_strategy(
            generation_mode=schemathesis.GenerationMode.POSITIVE
        ),
        now=st.booleans(),
        peers=st.permutations((PROVIDER, CONSUMER)),
        then=st.sampled_from(("accept", "reject", "revoke")),
    )
    def ask(case: Any, now: bool, peers: list[str], then: signatures.SignatureType) -> None:
        body = json.loads(json.dumps(case.body))
        _make_ours(body["content"], cycle(peers), int(time.time()) if now else None, asker.manager)
        try:
            contract = parse(body["content"])
        except Fault:
            return
        own = asker.manager.keypairs[CONSUMER]
        body["signature"] = signatures.sign(contract, "accept", signer, own, time.time()).compact
        case.body = body
        response = asker.ask(case)
        answers[response.status_code] = answers.get(response.status_code, 0) + 1
        following = asker.operation("manager", f"/contracts/{{hash}}/{then}", "PUT").Case(
            method="PUT",
            path_parameters={"hash": contract.content_hash},
            headers=dict(case.headers),
            body=body | {"signature": signatures.sign(contract, then, signer, own, time.time()).compact},
            media_type="application/json",
        )
        answer = asker.ask(following)
        assert (answer.status_code == 201) == (response.status_code == 201)

    ask()
    assert {201, 422} <= set(answers), answers  # 400: a number in the properties that is none in I-JSON


def _make_ours(content: dict[str, Any], peers: Iterator[str], now: int | None, manager: Manager) -> None:
    """Put peers of ours in made-up content, and the present, so that it is about something."""
    content["group_id"] = manager.group.id
    if now is not None:
        content["created_at"] = now - 5
        content["validity"] = {"not_before": now - 5, "not_after": now + 86_400}
    del content["grants"][2:]
    for grant in content["grants"]:
        data = grant["data"]
        for member in sorted({"outway", "service", "directory", "delegator"} & data.keys()):
            data[member]["peer_id"] = next(peers)
        data["service"]["name"] = "adressen"
        if "delegator" in data["service"]:
            data["service"]["delegator"]["peer_id"] = next(peers)

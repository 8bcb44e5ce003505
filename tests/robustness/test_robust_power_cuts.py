"""kill -9 at any moment, under load, again and again: nothing that was answered or signed is lost."""

from __future__ import annotations

import random
import threading
import time

import pytest

from stelsel.base.errors import Fault
from stelsel.demo.cast import BENEFIT_TERMS, GEMEENTE, REGISTER, UITKERING, Actor
from stelsel.demo.country import MUNICIPALITY, Country
from stelsel.demo.population_register.store import notable_people
from stelsel.demo.scenario.calls import ask_outway, question
from stelsel.demo.scenario.play import Story


@pytest.fixture
def story(besieged: Country) -> Story:
    besieged.agree(UITKERING, REGISTER, "personen", BENEFIT_TERMS)
    return Story(besieged, notable_people(besieged.folder / "people.sqlite", 1, MUNICIPALITY)[0])


def _cut(country: Country, actor: Actor) -> None:
    country.processes[actor.key].kill()
    country.processes[actor.key].start()
    country.await_node(actor)


@pytest.mark.parametrize("victim", [REGISTER, UITKERING], ids=lambda actor: str(actor.name))
def test_what_was_answered_while_the_power_failed_is_in_both_ledgers(
    besieged: Country, story: Story, victim: Actor
) -> None:
    chance = random.Random(20261123)
    answered: list[str] = []
    ended = threading.Event()
    body = question(story, ("leeftijd",))

    def keep_asking() -> None:
        while not ended.is_set():
            try:
                answer = ask_outway(story, UITKERING, "personen/personen", body)
            except OSError:
                continue
            except Exception as error:
                if "httpx" not in type(error).__module__:
                    raise
                continue
            if answer.status_code == 200:
                answered.append(answer.headers["fsc-transaction-id"])

    askers = [threading.Thread(target=keep_asking) for _ in range(3)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(2):
            time.sleep(chance.uniform(0.1, 0.6))
            _cut(besieged, victim)
        time.sleep(0.5)
    finally:
        ended.set()
        for asker in askers:
            asker.join(40)
    assert len(answered) > 10
    _cut(besieged, victim)
    for actor in (UITKERING, REGISTER):
        control = besieged.control(actor)
        for transaction in answered:
            rows = control.post("/log", {"transaction_id": transaction})
            assert rows, f"{actor.name} lost {transaction}, one of {len(answered)}"
    assert ask_outway(story, UITKERING, "personen/personen", body).status_code == 200


# httpcore leaves its own end open where nobody listens on a unix socket, which is what a power cut looks like.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_was_signed_while_the_power_failed_stays_signed_and_reaches_the_other(besieged: Country) -> None:
    chance = random.Random(11)
    accepted: list[str] = []
    for trial in range(3):
        proposal = {"peer_id": REGISTER.peer_id, "service": "personen", "days": 30 + trial}
        proposal["properties"] = BENEFIT_TERMS.to_properties()  # type: ignore[assignment]
        content_hash = str(besieged.control(GEMEENTE).post("/agreements", proposal)["content_hash"])
        _cut(besieged, GEMEENTE)
        besieged.until(REGISTER, content_hash, {"proposed"}, seconds=30)
        blow = threading.Timer(chance.uniform(0, 0.03), besieged.processes[REGISTER.key].kill)
        blow.start()
        try:
            besieged.control(REGISTER).post(f"/agreements/{content_hash}/accept")
            accepted.append(content_hash)
        except Fault:
            pass
        blow.join()
        besieged.processes[REGISTER.key].start()
        besieged.await_node(REGISTER)
        row = besieged.until(REGISTER, content_hash, {"proposed", "valid"})
        if content_hash in accepted:
            assert row["state"] == "valid"
        elif row["state"] == "proposed":
            besieged.control(REGISTER).post(f"/agreements/{content_hash}/accept")
        besieged.until(GEMEENTE, content_hash, {"valid"}, seconds=30)
        besieged.control(REGISTER).post(f"/agreements/{content_hash}/revoke")
        besieged.until(GEMEENTE, content_hash, {"revoked"}, seconds=30)

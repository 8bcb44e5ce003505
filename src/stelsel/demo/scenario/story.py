"""The twelve steps, in order."""

from __future__ import annotations

from stelsel.demo.scenario import agreement, exchange, opendata, resident, steering
from stelsel.demo.scenario.play import Step

STEPS = (
    Step(1, "The municipality finds the service and proposes an agreement", agreement.propose),
    Step(2, "The register reads what is asked, and accepts", agreement.accept),
    Step(3, "The application asks, and gets exactly the agreed fields", exchange.ask),
    Step(4, "One field more is refused by name, and the refusal is recorded", exchange.ask_too_much),
    Step(5, "Strangers and stolen tokens are refused", exchange.strangers),
    Step(6, "Both ledgers hold it under one id; without a ledger, no call", exchange.both_ledgers),
    Step(7, "The resident logs in and sees each use", resident.sees_each_use),
    Step(8, "She takes a receipt that proves it offline", resident.proves_it_offline),
    Step(9, "The register revokes: refused within a second", agreement.revoke),
    Step(10, "Who fails an obligation gets no new contract, until it mends", steering.board_and_gate),
    Step(11, "Open data in which nobody can be recognised", opendata.release),
    Step(12, "A goal's value that anyone recomputes", steering.goal),
)

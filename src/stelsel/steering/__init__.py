"""Steering: mandatory agreements are measured, and not keeping one has a consequence that everyone can check.

An *obligation* (data, in a TOML file) names a norm, the checks that measure it, a deadline and a consequence.
A *check* probes a live endpoint (facts) and judges the facts (norm); what it found is a *finding*, hashed, chained and
signed, so that a third party can verify it. From findings, approved *explanations* and timely *appeals* follows a
*standing*, and from that the gate: refuse **new** contracts, never running ones. There is no grade: a peer "meets x of
y obligations due today". `error`, `unknown` and `not-applicable` count neither as kept nor as broken.
A *goal* is a measured promise: its indicator is computed from a ledger's counted parts, and anyone recomputes it.

Pure: `obligations`, `findings`, `goals`, `checks/*/norm`. Shell: `checks/*/probe`, `store`, `service`, `gate`, `api`.
"""

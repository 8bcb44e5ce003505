"""`stelsel check fsc`: does an implementation of FSC keep to the standard? Black box: addresses and certificates only.

Every scenario of the published FSC test suite, and refusals that it lacks (`extra`), each with the clause that it
tests. `scenarios/` says what is tried; `counterparty` plays the other peers, with key pairs, managers, an inway and a
service of their own; `documents` makes hashes and signatures from the text of the standard, apart from
`stelsel.agreements`, so that both would have to make the same mistake; `world` is what a scenario has in its hands;
`runner` runs, `report` tells. `settings` declares `fsc-target.toml`; `identities` makes test certificates.
"""

"""Privacy: may this be asked, was no more answered than was asked, and what may a resident see of it?

The core is pure: `request` reads what is asked, `decision` decides by the agreement alone (deny by default), `guard`
compares an answer with what was asked, `bsn` tests a citizen service number, `fields` says field paths in plain words,
`authzen` maps the AuthZEN 1.0 questions onto that same one decision. The shell: `subjects` keeps the key under which
this peer knows residents only by pseudonym, `insight` turns the ledger into what a resident may see (GDPR article 15),
`api` serves both over HTTP.

Nothing in this room ever shows a citizen service number: not in errors, not in `repr`, not in logs.
"""

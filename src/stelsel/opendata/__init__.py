"""Open data: tables about people in which nobody can be recognised, published so that anyone can build on them.

A dataset is declared as data (`schema`): every column of the source is classified, or nothing is published. People
are counted into a declared table (`counting`, `table`), small and telling cells are suppressed together with the
cells that would give them away (`suppression`), and an auditor that knows only what would be published (`audit`)
must find, for every suppressed cell, two tables of whole numbers that agree with everything published and differ
there by at least the minimum frequency; else more is suppressed, or nothing is published (`pipeline`).
`release`: immutable versions on disk. `catalogue`: DCAT-AP-NL 3.0. `query`, `api`: filtered JSON and CSV, read from
the safe release only. `service.OpenData` is where it all meets; `settings` is its section in the node's file.
"""

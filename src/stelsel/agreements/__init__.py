"""Agreements: what peers signed, and the only source of authority.

This room is the FSC manager of one peer (FSC Core 2.0.0). Its core: `contract` (what a contract says and which rules
it meets), `hashes`, `signatures`, `lifecycle` (its state follows from signatures and time alone), `terms` (the part
that is Stelsel's), `tokens`, `proposals`, `readable` (the same in plain words). Its shell: `store`, `outbox` (what
others must hear is kept until they heard it), `client`, `intake` (judges what others send), `token_desk`,
`directory`, `api`, and `service`, where all meet in the class `Agreements`.
The gate (`gate`) asks whether a peer keeps its obligations before a new contract of that peer is taken.
"""

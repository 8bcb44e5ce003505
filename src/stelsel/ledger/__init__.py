"""The ledger: what a peer keeps of every exchange, durable before anything is forwarded, provable afterwards.

`record` is what is kept; `commitment` and `merkle` turn records into leaves of a tree that can be published without
telling anything about a person. `journal` is where records become durable (`segments`: files), `group_commit` lets
requests share one sync, `index` has search and Merkle tiles built behind the journal (`building`, in a thread or by
`index_process`) and can always be rebuilt from it.
`checkpoint` signs the tree, `receipts` and `evidence` prove a record, or a count, to whoever holds only the group's
trust anchors. `witness` is what a peer decides about the checkpoints of others, `witnessing` gets our own cosigned,
`audit` computes all anew. `service.Ledger` is the one door for other rooms; `api` shows transactions to the peers that
took part in them (FSC Logging 1.1.0) and evidence to anyone.
"""

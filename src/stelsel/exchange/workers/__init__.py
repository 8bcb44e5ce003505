"""Workers: processes that carry the traffic of inway and outway, while the node's own process keeps the rest.

The node's own process is the *house*: agreements, manager, ledger, pages. A worker runs only `Inway` and `Outway`, over
the two ports that they have (`exchange.ports`), here at the end of a link to the house: `link` turns bytes into frames
and back (pure) and carries them over a pair of sockets; `messages` says what is in them; `remote` is what a worker has
in the place of agreements and ledger; `worker` is its process. In the house, `desk` answers one worker and `supervisor`
starts the workers, watches them and replaces them.

The house pushes its state; a worker asks nothing to authorise. It passes nothing that the house has not recorded, so a
worker without a house refuses everything, and ends.
"""

"""How an operator's commands reach a running node: JSON over a unix socket that only the node's user may open.

`api.py` is the node's side, `client.py` the command line's. Who can open the socket is the operator: that is the whole
of the authorisation, and the file system enforces it (mode 600).
"""

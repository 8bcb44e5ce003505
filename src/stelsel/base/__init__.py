"""What every room stands on, and nothing that belongs to one of them.

`errors`: the one vocabulary of faults. `canonical`: strict JSON in, canonical JSON out (RFC 8785).
`clock`, `ids`: time and names. `certificates`, `jose`: who a peer is, and what it signed.
`settings`: each setting declared once. `database`: SQLAlchemy Core with one writer.
`web`: Starlette and uvicorn glue (problem+json, limits, client certificates). `text`: hostile strings made inert.
`log`: structured logging without secrets.
"""

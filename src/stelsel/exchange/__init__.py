"""The exchange: one request, carried from a consumer's outway through a provider's inway to a service.

The core is pure: `wire` turns bytes into events and back (HTTP/1.1, strict), `headers` says which headers may pass,
`routing` finds the agreement that an application means, `facts` gathers what is recorded of one exchange. The shell is
asyncio on raw protocols: `gateway` is the server side that both gateways share, `call` one request with its answer,
`upstream` the connections behind it, `inway` and `outway` the two straight lines of an exchange. `explain` says why a
call would fail.

Nothing is forwarded that is not recorded first, and nothing authorises but an agreement that is in force now.
"""

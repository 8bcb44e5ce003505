"""The whole chain over real loopback TLS: what passes, what is refused and how, and that it is recorded first."""

from __future__ import annotations

from exchange_world import Play, World


def test_a_request_passes_the_chain_and_is_recorded_on_both_sides(play: Play) -> None:
    async def scenario(world: World) -> None:
        reply = await world.ask("/plain/v1/things?x=1", headers="X-Own: yes\r\n")
        assert reply.status == 200, reply
        assert reply.body == b"{}"
        seen = world.service.seen[0]
        assert (seen.method, seen.target) == ("GET", "/v1/things?x=1")
        assert seen.headers["x-own"] == "yes"
        [sent], [received] = world.consumer_ledger.records, world.provider_ledger.records
        assert sent.transaction_id == received.transaction_id == reply.headers["fsc-transaction-id"]
        assert seen.headers["fsc-transaction-id"] == sent.transaction_id
        assert sent.trace_id == received.trace_id == seen.headers["traceparent"].split("-")[1]
        assert received.parent_span_id == sent.span_id
        assert (sent.direction, received.direction) == ("outgoing", "incoming")
        assert sent.allowed
        assert received.allowed

    play(scenario)

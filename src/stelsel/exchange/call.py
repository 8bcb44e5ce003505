"""One request on a client's connection, and its answer: reading, passing on as a stream, answering, giving up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from stelsel.base.errors import Fault, TooLarge
from stelsel.base.moment import Moment
from stelsel.exchange.faults import GatewayTimeout, OversuppliedAnswer, TooSlow, UpstreamBroke
from stelsel.exchange.heads import RequestHead, ResponseHead
from stelsel.exchange.upstream import Pool, UpstreamConnection
from stelsel.exchange.wire import CONTINUE, LAST_CHUNK, chunk, framing, response_head

if TYPE_CHECKING:
    from stelsel.exchange.gateway import ClientConnection

_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))  # RFC 9110, section 9.2.2
_BUFFER = 64 * 1024
_RELAYED: Final = 1
"""What comes of an answer that went to the client."""

Dress = Callable[[ResponseHead], bytes]
"""Makes the header lines that the client gets out of an answer's head, without its length."""
FirstLook = Callable[[ResponseHead], bool]
"""Whether an answer may go to the client; if not, it is read to its end and dropped."""


class Call:
    """One exchange in progress at one gateway, made by the client's connection; its steps are `Gateway.carry`.

    The steps are a coroutine that the call itself moves on, from one future to the next, at once and within the turn of
    the loop in which the last was done. That is what a task does, at less cost; but there is no current
    task, so a step that needs one (`asyncio.timeout`) makes its own.
    """

    __slots__ = (
        "_body",
        "_buffered",
        "_chunked",
        "_done",
        "_dress",
        "_first_look",
        "_limit",
        "_looked_away",
        "_out",
        "_send_chunked",
        "_steps",
        "_waiter",
        "_waiting",
        "answer_begun",
        "answered",
        "began",
        "begun",
        "body_ended",
        "connection",
        "failure",
        "given_up",
        "head",
        "keep",
        "touched",
        "transaction_id",
        "upstream",
        "upstream_full",
    )

    def __init__(self, connection: ClientConnection, head: RequestHead, now: float) -> None:
        self.connection = connection
        self.head = head
        self.transaction_id = ""
        """Told in every answer once it is known."""
        self.body_ended = False
        self.answer_begun = False
        self.answered = False
        self.keep = False
        """Whether the client's connection can be used again after this."""
        self.failure: Fault | None = None
        self.begun = False
        """Whether its first step was taken."""
        self.given_up = False
        self._steps: Coroutine[Any, Any, None] | None = None
        self._waiting: asyncio.Future[Any] | Moment | None = None
        self.upstream_full = False
        """Whether the party behind takes no more of the body for now."""
        self.began = self.touched = now
        self.upstream: UpstreamConnection | None = None
        self._body: list[bytes] = []
        self._buffered = 0
        self._limit = _BUFFER
        self._waiter: asyncio.Future[None] | None = None
        self._done: Moment | None = None
        self._dress: Dress = _nothing
        self._send_chunked = False
        self._first_look: FirstLook | None = None
        self._looked_away = False
        self._chunked = False
        self._out: list[bytes] = []

    # --- its steps ---

    def start(self, steps: Coroutine[Any, Any, None]) -> None:
        """Take the steps, the first of them now."""
        self.begun = True
        self._steps = steps
        self.go_on()

    def go_on(self, waited: asyncio.Future[Any] | None = None) -> None:
        """Take the steps up to the next wait; what came of the last one, that itself tells them."""
        del waited
        self._waiting = None
        if self._steps is None:
            return
        try:
            future = self._steps.send(None)
        except StopIteration:
            self._steps = None
            return
        if future is None:  # it only lets others go first
            self.go_on_soon()
            return
        self._waiting = future
        if isinstance(future, Moment):
            future.steps = self
        else:
            future.add_done_callback(self.go_on)
        if self.given_up:
            self.give_up()

    def go_on_soon(self) -> None:
        self.connection.gateway.loop.call_soon(self.go_on)

    def give_up(self) -> None:
        """Stop carrying: what the steps wait for is cancelled."""
        self.given_up = True
        waiting = self._waiting
        if isinstance(waiting, Moment):
            waiting.fails(asyncio.CancelledError())
        elif waiting is not None:
            waiting.cancel()

    # --- the request's body, from the client's connection ---

    @property
    def wants_body(self) -> bool:
        """Whether more of the request's body can be taken now."""
        return self._buffered <= self._limit

    def body_data(self, data: bytes, now: float) -> None:
        """Part of the body came."""
        self.touched = now
        upstream = self.upstream
        if upstream is not None:
            upstream.send(chunk(data) if self._send_chunked else data)
            return
        self._body.append(data)
        self._buffered += len(data)
        if self._waiter is not None and self._buffered > self._limit and not self._waiter.done():
            self._waiter.set_result(None)

    def body_end(self) -> None:
        """The whole body has come."""
        self.body_ended = True
        if self.upstream is not None:
            self.upstream.send(LAST_CHUNK if self._send_chunked else b"", ended=True)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read_body(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes. Raises `TooLarge` without reading on."""
        length = self.head.length
        self._limit = limit
        if length is None or length <= limit:
            if not self.body_ended and self._buffered <= limit:
                self._ask_body()
                self._waiter = asyncio.get_running_loop().create_future()
                self.connection.pump()
                await self._waiter
                self._waiter = None
            if self._buffered <= limit:
                body = b"".join(self._body)
                self._body = [body] if body else []
                return body
        raise TooLarge(f"the body of this request is larger than {limit} bytes, which is as much as is read here")

    def _ask_body(self) -> None:
        if self.head.expects_continue and not self._buffered and not self.body_ended:
            self.head.expects_continue = False
            self.connection.write(CONTINUE)

    def framing(self) -> bytes:
        """The header line that says how long the forwarded body is; empty when there is none."""
        length = self.head.length
        if length is None and self.body_ended:
            length = self._buffered
        elif length == 0 and b"content-length" not in self.head.values:
            return b""
        self._send_chunked = length is None
        return framing(length)

    # --- passing on ---

    async def relay(
        self, pool: Pool, head: bytes, dress: Dress, *, reread: bool = False, first_look: FirstLook | None = None
    ) -> bool:
        """Send the request on and stream its answer back; `head` holds `framing()`.

        False when `first_look` sent the answer away. `reread`: the whole body was read by `read_body`. Raises
        `BadGateway` or `GatewayTimeout`. A connection that proves to be stale is replaced once, where sending again
        is safe: an idempotent method, no byte of an answer, the whole body at hand (RFC 9110, section 9.2.2).
        """
        replayable = self.head.method in _IDEMPOTENT and (self.body_ended or reread)
        self._dress = dress
        self._first_look = first_look
        fresh = False
        while True:
            upstream = (None if fresh else pool.take()) or await pool.acquire(fresh=fresh)
            try:
                return await self._over(upstream, head)
            except UpstreamBroke as fault:
                if not (fault.untouched and upstream.uses > 1 and replayable and not fresh):
                    raise
                fresh = True

    async def _over(self, upstream: UpstreamConnection, head: bytes) -> bool:
        self._done = Moment()
        self._looked_away = False
        self._ask_body()
        self.upstream = upstream
        whole = self.body_ended
        upstream.begin(self, self.head.method, self._first_bytes(head), ended=whole)
        if not whole:
            self._body = []
            self._buffered = 0
            self.connection.pump()
        if not self.connection.writable:
            upstream.read(False)
        try:
            return await self._done == _RELAYED
        finally:
            self.upstream = None
            self._done = None
            upstream.detach(self)

    def _first_bytes(self, head: bytes) -> bytes:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        if self._send_chunked:
            return head + (chunk(body) if body else b"") + (LAST_CHUNK if self.body_ended else b"")
        return head + body if body else head

    async def fetch(self, pool: Pool, head: bytes, limit: int) -> Answer:
        """Send the request, whose body was read, and take the whole answer. Raises as `relay` does.

        An answer larger than `limit` bytes raises `OversuppliedAnswer`: what cannot be checked is not released.
        """
        request = head + b"".join(self._body)
        fresh = False
        while True:
            upstream = (None if fresh else pool.take()) or await pool.acquire(fresh=fresh)
            sink = _Whole(self, limit)
            upstream.begin(sink, self.head.method, request, ended=True)
            try:
                await sink.done
                return sink.answer()
            except UpstreamBroke as fault:
                safe = fault.untouched and self.head.method in _IDEMPOTENT
                if not (safe and upstream.uses > 1 and not fresh):
                    raise
                fresh = True
            finally:
                upstream.detach(sink)

    # --- the answer, from upstream ---

    def answer_head(self, head: ResponseHead) -> None:
        self.touched = self.connection.gateway.tick
        if self._first_look is not None and not self._first_look(head):
            self._looked_away = True
            return
        lines = self._dress(head)
        self.keep = self.head.keep_alive and self.body_ended and not self.connection.gateway.draining
        self._chunked = False
        if not head.has_body:
            length = head.values.get(b"content-length")
            if length is not None and head.status != 204:
                lines += b"Content-Length: %b\r\n" % length
        elif head.length is not None:
            lines += b"Content-Length: %d\r\n" % head.length
        elif self.head.minor == 1:
            self._chunked = True
            lines += b"Transfer-Encoding: chunked\r\n"
        else:
            self.keep = False
        if not self.keep:
            lines += b"Connection: close\r\n"
        self.answer_begun = True
        self._out.append(response_head(head.status, head.reason, lines))

    def answer_data(self, data: bytes) -> None:
        self.touched = self.connection.gateway.tick
        if not self._looked_away:
            self._out.append(chunk(data) if self._chunked else data)

    def answer_end(self) -> None:
        if not self._looked_away:
            if self._chunked:
                self._out.append(LAST_CHUNK)
            self.answer_flush()
            self.answered = True

    def answer_over(self) -> None:
        if self._done is not None:
            self._done.comes(0 if self._looked_away else _RELAYED)

    def answer_failed(self, fault: Fault) -> None:
        self.answer_flush()
        if self._done is not None:
            self._done.fails(fault)

    def answer_flush(self) -> None:
        out = self._out
        if out:
            self._out = []
            self.connection.write(out[0] if len(out) == 1 else b"".join(out))

    def upstream_writable(self, writable: bool) -> None:
        self.upstream_full = not writable
        self.connection.pump()

    def client_writable(self, writable: bool) -> None:
        """Whether the client takes more of the answer."""
        if self.upstream is not None:
            self.upstream.read(writable)

    # --- answers of our own, and giving up ---

    def answer(self, status: int, reason: bytes, lines: bytes, body: bytes) -> None:
        """Answer with a whole body at once."""
        self.keep = self.head.keep_alive and self.body_ended and not self.connection.gateway.draining
        bodiless = status in (204, 304)
        if not bodiless:
            lines += b"Content-Length: %d\r\n" % len(body)
        if not self.keep:
            lines += b"Connection: close\r\n"
        self.answer_begun = self.answered = True
        head = response_head(status, reason, lines)
        self.connection.write(head if bodiless or self.head.method == b"HEAD" else head + body)

    def fail(self, fault: Fault) -> None:
        """Give up, for this reason."""
        if self.failure is None:
            self.failure = fault
            self.give_up()

    def check(self, now: float, silence: float, total: float) -> None:
        """Give up when it takes too long; times in seconds of the loop's clock."""
        if now - self.began > total:
            self.fail(GatewayTimeout("the exchange took longer than is allowed in all"))
        elif now - self.touched > silence:
            if self.body_ended or self.connection.paused:
                self.fail(GatewayTimeout("the party behind us was silent for too long"))
            else:
                self.fail(TooSlow("the request's body did not arrive in time"))


def _nothing(head: ResponseHead) -> bytes:
    del head
    return b""


class Answer:
    """A whole answer."""

    __slots__ = ("body", "head")

    def __init__(self, head: ResponseHead, body: bytes) -> None:
        self.head = head
        self.body = body


class _Whole:
    """Takes an answer as a whole."""

    def __init__(self, call: Call, limit: int) -> None:
        self.done = Moment()
        self._call = call
        self._limit = limit
        self._size = 0
        self._head: ResponseHead | None = None
        self._chunks: list[bytes] = []

    def answer(self) -> Answer:
        if self._head is None:
            raise UpstreamBroke("there was no answer")
        return Answer(self._head, b"".join(self._chunks))

    def answer_head(self, head: ResponseHead) -> None:
        self._head = head

    def answer_data(self, data: bytes) -> None:
        self._call.touched = self._call.connection.gateway.tick
        self._size += len(data)
        if self._size > self._limit:
            self.answer_failed(OversuppliedAnswer(f"the answer is larger than {self._limit} bytes"))
        else:
            self._chunks.append(data)

    def answer_end(self) -> None:
        """Nothing to write yet."""

    def answer_over(self) -> None:
        self.done.comes(_RELAYED)

    def answer_failed(self, fault: Fault) -> None:
        self.done.fails(fault)

    def answer_flush(self) -> None:
        """Nothing to write: the answer is kept until it is whole."""

    def upstream_writable(self, writable: bool) -> None:
        """The request was sent as a whole, so there is no more of it to hold back."""

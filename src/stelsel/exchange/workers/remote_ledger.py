"""What a worker has in the place of the ledger: its port, at the far end of a link."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from stelsel.base.errors import BadRequest, Fault
from stelsel.base.moment import FutureMoment, Moment
from stelsel.exchange.workers.link import Kind, Link
from stelsel.exchange.workers.messages import Encoded, Run, pack_records
from stelsel.ledger.commitment import Nonces
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.frames import frame
from stelsel.ledger.record import Record

_NEXT_STEP = "try again; if it lasts, the operator must look at the node: stelsel status"
_SOME = 8
"""Records that are worth a message of their own."""


class RemoteLedger:
    """The ledger of the house. What gathers in one turn of the loop goes there in one message.

    While the house has records of ours in hand, a few more wait for its answer, or until they are some: a message takes
    both ends more time than a record does, and the house would have them wait for its disk anyway.
    """

    def __init__(self, link: Link, *, deadline: float, waiting_records: int, record_bytes: int) -> None:
        """`deadline` in seconds: so long the house may be silent about a record."""
        self._link = link
        self._deadline = deadline
        self._waiting_records = waiting_records
        self._record_bytes = record_bytes
        self._loop = asyncio.get_running_loop()
        self._next = 0
        self._nonces = Nonces()
        self._gathering: list[_Offer] = []
        self._waiting: dict[int, _Offer] = {}
        """Sent, by number; those that waited too long are not in it any more."""
        self._unanswered = 0
        """Sent, and not heard of."""
        self._about_to_send = False
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def recorded(self) -> int:
        """How many records were sent so far."""
        return self._next

    def append(self, record: Record) -> asyncio.Future[int]:
        """See `stelsel.ledger.service.Ledger.append`."""
        future: asyncio.Future[int] = self._loop.create_future()
        self.append_then(record, FutureMoment(future))
        return future

    def append_then(self, record: Record, moment: Moment) -> None:
        """See `stelsel.ledger.service.Ledger.append_then`. The house that is silent, or gone, has not recorded it."""
        data = record.canonical()
        if len(data) > self._record_bytes:
            raise BadRequest(f"the record is larger than {self._record_bytes} bytes")
        if self._closed:
            raise _gone()
        if len(self._waiting) + len(self._gathering) >= self._waiting_records:
            raise LedgerUnavailable("too many records wait for the ledger", next_step=_NEXT_STEP)
        due = self._loop.time() + self._deadline
        self._gathering.append(_Offer(frame(self._nonces.take(), data), record.subject, moment, due))
        if not self._about_to_send and (not self._unanswered or len(self._gathering) >= _SOME):
            self._about_to_send = True
            self._loop.call_soon(self._send)
        if self._timer is None:
            self._timer = self._loop.call_later(self._deadline, self._expire)

    def _send(self) -> None:
        self._about_to_send = False
        first = self._next
        records: list[Encoded] = []
        for offer in self._gathering:
            if not offer.moment.over():  # else its caller went away, or waited too long
                records.append((offer.frame, offer.subject))
                self._waiting[self._next] = offer
                self._next += 1
        self._gathering = []
        self._unanswered += len(records)
        if records:
            for payload in pack_records(first, records):
                self._link.send(Kind.RECORDS, payload)

    def results(self, found: Iterable[Run]) -> None:
        """The house recorded these."""
        waiting = self._waiting
        told: list[tuple[Moment, int]] = []
        for first, count, index in found:
            for offset in range(min(count, self._next - first)):
                offer = waiting.pop(first + offset, None)
                if offer is not None:
                    told.append((offer.moment, index + offset))
            self._answered(count)
        for moment, place in told:  # at last, for those who waited go on at once, and may offer more
            moment.comes(place)

    def refused(self, first: int, count: int, fault: Fault) -> None:
        """The house did not record these."""
        for number in range(first, min(first + count, self._next)):
            offer = self._waiting.pop(number, None)
            if offer is not None:
                # A fault of its own for every caller, so that no traceback grows with the number of callers.
                offer.moment.fails(type(fault)(fault.detail, next_step=fault.next_step))
        self._answered(count)

    def _answered(self, count: int) -> None:
        self._unanswered = max(self._unanswered - count, 0)
        if self._gathering and not self._about_to_send and not self._unanswered:
            self._about_to_send = True
            self._loop.call_soon(self._send)

    def close(self) -> None:
        """The house is gone: nothing is recorded any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        offers = [*self._waiting.values(), *self._gathering]
        self._waiting, self._gathering = {}, []
        for offer in offers:
            offer.moment.fails(_gone())

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        oldest: float | None = None
        for number, offer in list(self._waiting.items()):
            if offer.due > now:
                oldest = offer.due
                break
            del self._waiting[number]
            self._too_late(offer)
        for offer in self._gathering:
            if offer.due > now:
                oldest = offer.due if oldest is None else min(oldest, offer.due)
                break
            self._too_late(offer)
        if oldest is not None:
            self._timer = self._loop.call_later(max(oldest - now, 0.01), self._expire)

    @staticmethod
    def _too_late(offer: _Offer) -> None:
        offer.moment.fails(LedgerUnavailable("the ledger did not take the record in time", next_step=_NEXT_STEP))


class _Offer:
    """A record, and who waits for it."""

    def __init__(self, frame: bytes, subject: str, moment: Moment, due: float) -> None:
        self.frame = frame
        self.subject = subject
        self.moment = moment
        self.due = due


def _gone() -> LedgerUnavailable:
    return LedgerUnavailable("the ledger of this node is not there", next_step=_NEXT_STEP)

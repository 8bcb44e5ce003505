"""Writes that the Linux kernel makes durable while we go on: io_uring(7), no more of it than a journal needs.

A thread that waits for a disk has to get the interpreter back before it can tell, in the middle of a busy event loop;
that costs more time than the disk does. Here the event loop hands a write to the kernel, which says when it is durable
(a descriptor becomes readable). Nothing in the calls below waits for a disk: the kernel does each write in a
thread of its own, which belongs to this process and ends with it (Linux 5.12). It is a pwritev2(2) with `RWF_DSYNC`: it
is done when the data, and all that is needed to read them, are on disk.

Where there is no io_uring - older systems, many containers, macOS - `open_ring` gives None, and who asks does without.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import sys
from typing import Any, Final

_SETUP, _ENTER, _REGISTER = 425, 426, 427
"""Numbers of the system calls, the same on all architectures that Python has wheels for."""
_REGISTER_EVENT = 4
_OWN_WORKERS = 1 << 9
"""A feature of the system: IORING_FEAT_NATIVE_WORKERS."""
_ENTRIES: Final = 1
_PARAMETERS = struct.Struct("<10I10I10I")
_SUBMISSION = struct.Struct("<BBHiQQIIQQQQ")
"""opcode, flags, priority, file, place, address, size, how, and what we leave zero."""
_COMPLETION = struct.Struct("<Qi")
_COMPLETION_SIZE: Final = 16
_WRITE = 23
"""IORING_OP_WRITE."""
_DURABLE = 2
"""RWF_DSYNC."""
_ELSEWHERE = 1 << 4
"""IOSQE_ASYNC: do not even try it within the call, where it might wait for the file system."""
_SUBMISSIONS_AT = 0x10000000


class Ring:
    """One write at a time, of at most `room` bytes. Used from one event loop."""

    def __init__(self, room: int) -> None:
        """Raises `OSError` when the system does not have it, or does not allow it."""
        self._call: Any = ctypes.CDLL(None, use_errno=True).syscall
        self._call.restype = ctypes.c_long
        parameters = ctypes.create_string_buffer(_PARAMETERS.size)
        self._ring = self._system(_SETUP, _ENTRIES, parameters)
        self.event = -1
        """Becomes readable when a write is done."""
        try:
            told = _PARAMETERS.unpack(parameters.raw)
            if not told[5] & _OWN_WORKERS:
                raise OSError("this system's io_uring is too old")
            self._arrange(told)
            self.event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._system(_REGISTER, self._ring, _REGISTER_EVENT, ctypes.byref(ctypes.c_int(self.event)), 1)
            self._room = mmap.mmap(-1, room)  # of its own: the kernel may still read it when all else has gone
            self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._room))
        except BaseException:
            self._let_go()
            raise
        self.room = room
        self.writing = False
        """Whether the kernel is at it."""

    def write(self, file: int, data: bytes, place: int) -> None:
        """Have `data` made durable there. Raises `OSError` when the kernel does not take it on."""
        size = len(data)
        self._room[:size] = data
        tail = self._words[self._tail]
        slot = tail & self._mask
        _SUBMISSION.pack_into(
            self._slots, slot * 64, _WRITE, _ELSEWHERE, 0, file, place, self._address, size, _DURABLE, 0, 0, 0, 0
        )
        self._words[self._order + slot] = slot
        self._words[self._tail] = (tail + 1) & 0xFFFFFFFF
        refused: OSError | None = None
        try:
            self._system(_ENTER, self._ring, 1, 0, 0, None, 0)  # the kernel looks at the ring within the call
        except OSError as error:
            refused = error
        if self._words[self._taken] == tail:  # it took nothing: take it back, or it would go along with the next
            self._words[self._tail] = tail
            raise refused or OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.writing = True
        _busy.add(self)

    def done(self) -> int | None:
        """None: it is not done. All its bytes: they are durable. Any other number: they are not (minus an error's)."""
        try:
            os.eventfd_read(self.event)
        except BlockingIOError:
            return None
        head = self._words[self._done_head]
        if not self.writing or head == self._words[self._done_tail]:
            return None
        _, result = _COMPLETION.unpack_from(self._rings, self._done_at + (head & self._done_mask) * _COMPLETION_SIZE)
        self._words[self._done_head] = (head + 1) & 0xFFFFFFFF
        self.writing = False
        _busy.discard(self)
        return int(result)

    def close(self) -> None:
        """Let go of it. What the kernel is writing it finishes."""
        self._words.release()
        self._slots.close()
        self._rings.close()
        self._let_go()

    def _arrange(self, told: tuple[int, ...]) -> None:
        """Map what we share with the kernel: the ring of what is to be done, that of what was, and the slots."""
        submissions, completions = told[0], told[1]
        to_do, was_done = told[10:20], told[20:30]
        length = max(to_do[6] + submissions * 4, was_done[5] + completions * _COMPLETION_SIZE)
        self._rings = mmap.mmap(self._ring, length, mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self._slots = mmap.mmap(
            self._ring, submissions * 64, mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=_SUBMISSIONS_AT
        )
        self._words = memoryview(self._rings)[: length // 4 * 4].cast("I")
        self._taken, self._tail, self._order = to_do[0] // 4, to_do[1] // 4, to_do[6] // 4
        self._mask = self._words[to_do[2] // 4]
        self._done_head, self._done_tail = was_done[0] // 4, was_done[1] // 4
        self._done_mask, self._done_at = self._words[was_done[2] // 4], was_done[5]

    def _system(self, *arguments: Any) -> int:
        given = int(self._call(*arguments))
        if given < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return given

    def _let_go(self) -> None:
        for file in (self._ring, self.event):
            if file >= 0:
                os.close(file)


_busy: set[Ring] = set()
"""Those from whose room the kernel still reads, whatever became of who made them."""


def open_ring(room: int) -> Ring | None:
    """A ring for writes of at most `room` bytes, or None where there is none to be had."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return Ring(room)
    except (OSError, ValueError, AttributeError):
        return None

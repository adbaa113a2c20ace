"""SIGTERM and SIGINT -> a wish to stop, kept until it is asked about: the worker ends between two turns.

It imports next to nothing, so that it can be in place before the imports that take seconds.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from select import select
from types import FrameType
from typing import final

_STOPS = (signal.SIGTERM, signal.SIGINT)


@final
class Stop:
    """Set by the first signal; `name` says which.

    A handler may interrupt its own thread anywhere, inside a wait too, so it takes no lock, which that of a
    `threading.Event` would: it writes a byte, and the byte stays.
    """

    def __init__(self) -> None:
        self.name = "idle"
        self._asked = False
        self._read, self._write = os.pipe()

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if not self._asked:
            self._asked, self.name = True, signal.Signals(number).name
            os.write(self._write, b".")

    def is_set(self) -> bool:
        """Whether there was a signal."""
        return self._asked

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for a signal, so long at most; whether there was one."""
        select([self._read], [], [], seconds)
        return self._asked


def listen() -> Stop:
    """From now on both signals ask to stop."""
    stop = Stop()
    for number in _STOPS:
        signal.signal(number, stop)
    return stop


def ignore() -> None:
    """From now on both signals do nothing: what was to be done is done."""
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def stopping() -> Iterator[Stop]:
    """While the block runs, both signals ask it to stop; so did those that came since `listen`."""
    before = [signal.getsignal(number) for number in _STOPS]
    try:
        yield before[0] if isinstance(before[0], Stop) else listen()
    finally:
        for number, handler in zip(_STOPS, before, strict=True):
            signal.signal(number, handler)

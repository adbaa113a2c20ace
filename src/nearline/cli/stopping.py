"""SIGTERM and SIGINT -> a wish to stop, kept until it is asked about: the worker ends between two turns.

It imports next to nothing, so that it can be in place before the imports that take seconds.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Signal
from types import FrameType
from typing import final

_STOPS = (signal.SIGTERM, signal.SIGINT)


@final
class Stop:
    """Set by the first signal; `name` says which."""

    def __init__(self) -> None:
        self.signal, self.name = Signal(), "idle"

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if not self.signal.is_set():
            self.name = signal.Signals(number).name
            self.signal.set()


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

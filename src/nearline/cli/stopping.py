"""Commands that go on until they are told to stop: by SIGTERM, or by an interrupt."""

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
        """Take a signal."""
        self.name = signal.Signals(number).name
        self.signal.set()


@contextmanager
def stopping() -> Iterator[Stop]:
    """While the block runs, SIGTERM and SIGINT ask it to stop."""
    stop = Stop()
    before = [signal.signal(number, stop) for number in _STOPS]
    try:
        yield stop
    finally:
        for number, handler in zip(_STOPS, before, strict=True):
            signal.signal(number, handler)

"""The last events of the log, each read and decoded once."""

from dataclasses import dataclass, field
from typing import final

import numpy as np

from nearline.arrays import Ints
from nearline.events.impression import Feedback
from nearline.events.log import EventLog
from nearline.events.wire import ImpressionHead, decode_heads

_AT_ONCE = 5_000


def _no_times() -> Ints:
    return np.zeros(0, np.int64)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Some events that follow one another in the log, its ticks and what cannot be read left out.

    Attributes
    ----------
    impressions : heads of the impressions, and `records` their bytes, in the order of the log.
    feedback : in the order of the log.
    shown_ms, given_ms : when each impression was shown and each feedback given, int64, in ms since 1970 (UTC).
    """

    impressions: tuple[ImpressionHead, ...] = ()
    records: tuple[bytes, ...] = ()
    feedback: tuple[Feedback, ...] = ()
    shown_ms: Ints = field(default_factory=_no_times)
    given_ms: Ints = field(default_factory=_no_times)


@final
class EventTail:
    """Keeps the last `most` impressions and the last `most` feedback of a log; never reads further back than that."""

    def __init__(self, log: EventLog, most: int) -> None:
        self._log, self._most = log, most
        self._position = 0
        self.events = Events()

    def refresh(self) -> Events:
        """Read what is new."""
        begin, end = self._log.begin(), self._log.end()
        after = max(self._position, end - self._most, begin - 1)
        impressions, records = list(self.events.impressions), list(self.events.records)
        feedback = list(self.events.feedback)
        while after < end:
            batch = self._log.read(after, min(_AT_ONCE, end - after))
            for record, head in zip(batch.records, decode_heads(batch.records), strict=True):
                if isinstance(head, ImpressionHead):
                    impressions.append(head)
                    records.append(record)
                elif isinstance(head, Feedback):
                    feedback.append(head)
            after = batch.last
        if after > self._position:
            self._position = after
            shown, given = tuple(impressions[-self._most :]), tuple(feedback[-self._most :])
            times = [np.array([one.time_ms for one in events], np.int64) for events in (shown, given)]
            self.events = Events(shown, tuple(records[-self._most :]), given, *times)
        return self.events

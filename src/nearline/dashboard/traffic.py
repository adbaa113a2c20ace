"""The last events -> how many came a second, and how soon feedback is in the row log."""

from dataclasses import dataclass
from typing import Final, final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.dashboard.event_tail import Events
from nearline.dashboard.row_tail import ServedRows

MOST_POINTS: Final = 60
_WIDTHS_S: Final = (1, 2, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 86_400, 604_800, 2_419_200)
_WIDEST_S: Final = 31_536_000


@final
@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Events a second by event time, in stretches of equal length.

    width_s : of a stretch. seconds: int64[g], where each begins, since 1970 (UTC).
    impressions, feedback: float64[g], per second.
    """

    width_s: int
    seconds: Ints
    impressions: Floats
    feedback: Floats


@final
@dataclass(frozen=True, slots=True, eq=False)
class Delays:
    """How long feedback took to become a row of the row log.

    joined_ms : int64[n], when the row was written, by the clock. seconds : float64[n], since the time in its feedback.
    """

    joined_ms: Ints
    seconds: Floats


@final
@dataclass(frozen=True, slots=True, eq=False)
class DelaysOverTime:
    """The same in those stretches of equal length by the clock in which rows were written.

    width_s : of a stretch. seconds: int64[g], where each begins, since 1970 (UTC).
    median, most : float64[g], the seconds that half of the rows, and 95 % of them, took at most.
    """

    width_s: int
    seconds: Ints
    median: Floats
    most: Floats


def traffic(events: Events) -> Traffic:
    """The rates; the first stretch and the one under way are left out, as they are not whole."""
    shown, given = events.shown_ms // 1000, events.given_ms // 1000
    both = np.concatenate([shown, given])
    if not len(both):
        none = np.zeros(0)
        return Traffic(1, np.zeros(0, np.int64), none, none)
    width, begin, stretches = _stretches(both)
    rates = [np.bincount(times // width - begin, minlength=stretches) / width for times in (shown, given)]
    some = slice(1, stretches - 1)
    seconds = (begin + np.arange(stretches, dtype=np.int64)) * width
    return Traffic(width, seconds[some], rates[0][some], rates[1][some])


def recent_rate(events: Events, now_ms: int, span_s: int = 60) -> float:
    """Events a second whose time is in the last `span_s` seconds by the clock."""
    times = np.concatenate([events.shown_ms, events.given_ms])
    return float(np.count_nonzero((times > now_ms - span_s * 1000) & (times <= now_ms))) / span_s


def feedback_delays(events: Events, rows: ServedRows) -> Delays:
    """Of the rows that were labelled by feedback whose event is at hand."""
    given = {one.impression: one.time_ms for one in events.feedback}
    pairs = [
        (joined, given[name])
        for name, joined in zip(rows.ids, rows.joined_ms.tolist(), strict=True)
        if name in given
    ]
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return Delays(both[:, 0], (both[:, 0] - both[:, 1]) / 1000)


def delays_over_time(delays: Delays) -> DelaysOverTime:
    """In stretches; the first and the last have what is there of them."""
    if not len(delays.joined_ms):
        none = np.zeros(0)
        return DelaysOverTime(1, np.zeros(0, np.int64), none, none)
    times = delays.joined_ms // 1000
    width, _, _ = _stretches(times)
    stretch = times // width
    some = np.unique(stretch)
    found = np.array([np.quantile(delays.seconds[stretch == one], (0.5, 0.95)) for one in some.tolist()])
    return DelaysOverTime(width, some * width, found[:, 0], found[:, 1])


def _stretches(seconds: Ints) -> tuple[int, int, int]:
    """How long a stretch is so that `MOST_POINTS` cover the times, the number of the first, and how many there are."""
    first, last = int(seconds.min()), int(seconds.max())
    width = next((one for one in _WIDTHS_S if (last - first) // one < MOST_POINTS), _WIDEST_S)
    begin = first // width
    return width, begin, last // width - begin + 1

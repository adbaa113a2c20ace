"""How long something is: a time such as "7d", or a part of a stream such as "1/10"."""

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, final

import numpy as np

from nearline.arrays import Ints
from nearline.clock import duration_ms
from nearline.errors import ConfigError

if TYPE_CHECKING:  # a configuration is read before what takes long to load
    from nearline.evaluate.replay import Stream


@final
@dataclass(frozen=True, slots=True)
class Span:
    """A length of a stream: `share` of its rows, or `ms` of time; one of the two.

    `text` is how it was written.
    """

    text: str
    share: float | None = None
    ms: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Span":
        """Read "1/10", "0.1" (both above 0 and at most 1) or "7d"; else raise a `ConfigError`."""
        try:
            share = float(Fraction(text.replace(" ", "")))
        except (ValueError, ZeroDivisionError):
            return cls(text, ms=_positive_ms(text))
        if not 0.0 < share <= 1.0:
            raise ConfigError(f"expected a part of the stream above 0 and up to 1, got {text!r}")
        return cls(text, share=share)

    def __str__(self) -> str:
        """In words."""
        return self.text if self.share is None else f"{self.text} of the stream"

    def marks(self, stream: "Stream", begin: int) -> Ints:
        """The rows after `begin` that lie whole spans behind it; never between two rows of the same time."""
        n = len(stream)
        if self.share is not None:
            step = max(1, round(self.share * n))
            rows = np.arange(begin + step, n, step)
            return np.unique(first_of_time(stream, rows, after=begin))
        assert self.ms is not None  # noqa: S101 - one of the two is given
        if begin >= n:
            return np.zeros(0, dtype=np.int64)
        times = np.arange(float(stream.time_ms[begin]) + self.ms, float(stream.time_ms[-1]) + 1.0, self.ms)
        rows = np.unique(np.searchsorted(stream.time_ms, np.ceil(times).astype(np.int64)))
        return rows[(rows > begin) & (rows < n)].astype(np.int64)

    def begins_before(self, stream: "Stream", row: int) -> int:
        """The row one span before a row; 0 where the stream does not reach back that far."""
        if self.share is not None:
            return max(0, row - max(1, round(self.share * len(stream))))
        assert self.ms is not None  # noqa: S101 - one of the two is given
        return int(np.searchsorted(stream.time_ms, stream.until_ms(row) - self.ms))


def _positive_ms(text: str) -> float:
    expected = "a part of the stream such as '1/10', or a duration such as '7d'"
    try:
        ms = duration_ms(text)
    except ConfigError as error:
        raise ConfigError(f"expected {expected}, got {text!r}") from error
    if ms == 0:
        raise ConfigError(f"expected {expected}, got {text!r}")
    return float(ms)


def first_of_time(stream: "Stream", rows: Ints, *, after: int = 0) -> Ints:
    """Each row's first companion of the same time, where it comes after the row `after`."""
    start = stream.group_start[np.searchsorted(stream.group_start, rows, side="right") - 1]
    return start[start > after].astype(np.int64)

"""The join of impressions and feedback: one run of events."""

from typing import TypeAlias, final

_Entry: TypeAlias = tuple[bytes, bytes]
_Changes: TypeAlias = tuple[list[bytes], list[_Entry]]

@final
class Run:
    """One run of events through the join (`nearline.stream.join`), whose methods are called in this order.

    Entries are those of the join's state (`nearline.stream.join_state`). Raises `ValueError` where they are damaged.

    Parameters
    ----------
    choices
        window_ms, allowed_lateness_ms, correct_within_ms, kept_ms, tick_ms or -1, policy (0 first, 1 last, 2 max),
        whether to learn at the feedback, whether no feedback is label 0.
    owners, partitions
        Those of a `Route`.
    high_ms, tick
        Of the state's progress.
    """

    def __init__(
        self,
        choices: tuple[int, ...],
        owners: tuple[tuple[str, int], ...] | None,
        partitions: int,
        high_ms: int,
        tick: int,
    ) -> None: ...
    def read(self, records: list[bytes]) -> list[int]:
        """Take the records, and return the places of those that it leaves to others to decode."""

    def tell_impression(
        self,
        place: int,
        impression: str,
        time_ms: int,
        resolves_ms: int,
        weight: float,
        partitions: tuple[int, ...],
    ) -> None:
        """What such a record says; `resolves_ms` is -1 without one. What nobody tells cannot be read."""

    def tell_feedback(
        self, place: int, impression: str, time_ms: int, label: float, weight: float, name: str
    ) -> None:
        """The same of feedback; `name` is its own id, empty without one."""

    def tell_tick(self, place: int, time_ms: int) -> None:
        """The same of a tick."""

    def span(self) -> tuple[int, int]:
        """The watermark before the run, and after it."""

    def due(
        self, closing: list[_Entry], forgotten: list[_Entry] | list[bytes], waiting: list[_Entry]
    ) -> None:
        """Take what falls due: impressions that close, impressions to be forgotten, and feedback.

        Of impressions to be forgotten keys are enough where it does not matter whether they have an answer.
        """

    def names(self) -> list[bytes]:
        """The impressions that it asks the index for."""

    def index(self, entries: list[_Entry]) -> tuple[list[bytes], list[bytes]]:
        """Take what the index has, and return the keys of the impressions and the feedback that are still needed."""

    def remembered(self, shown: list[_Entry], waiting: list[_Entry]) -> None:
        """Take these."""

    def take(self, first: int) -> None:
        """Take the events, the first of which has this position."""

    def rows(self) -> dict[int, list[bytes]]:
        """The rows of each partition that has any (`nearline.stream.joined`)."""

    def dead(self) -> list[tuple[int, int, bytes, int]]:
        """Of each dead letter: position, place of the reason in `REASONS` or -1 if it cannot be read, record, time."""

    def counted(self) -> tuple[int, ...]:
        """What is added to the counts, in the order of `JoinCounts`."""

    def clock(self) -> tuple[int, int]:
        """The latest time, and the last tick."""

    def changes(self) -> tuple[_Changes, _Changes, _Changes]:
        """Of shown, index and waiting: keys to remove, then entries to put."""

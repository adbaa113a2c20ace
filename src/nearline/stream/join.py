"""Events in the order of the log -> labelled examples: each impression with the feedback that counts.

Event time is the latest time seen minus the allowed lateness, the watermark. It moves with every event, never with a
clock or with how much is read at once. Before an event is looked at, everything due by then is done, in the order of
time and id. So the same log gives the same examples in the same order however it is cut, and, with
``learn_at="close"``, whatever the order of arrival within the allowed lateness.

A run of events is joined by a kernel; `reference_join` is the same, slow and in Python, and defines the answer.
"""

from collections.abc import Sequence
from typing import TypeAlias, final

import msgspec

from nearline.errors import ConfigError, DataError
from nearline.events.dead_letters import DeadLetter
from nearline.events.impression import Feedback
from nearline.events.wire import ImpressionHead, decode_head
from nearline.kernels._join import Run
from nearline.stream.join_routes import Route
from nearline.stream.join_rules import REASONS
from nearline.stream.join_settings import JoinSettings
from nearline.stream.join_state import TABLES, Changes, JoinState, Progress
from nearline.stream.joined import JoinCounts, Joined

_POLICIES = ("first", "last", "max")  # in the order of the kernel's
_Faults: TypeAlias = dict[int, str]
"""Place of a record among those of a run to why it cannot be read."""


@final
class Join:
    """Joins impressions with their feedback.

    `settings` are the choices, `route` says which partitions an impression goes to.
    """

    def __init__(self, settings: JoinSettings, route: Route) -> None:
        self.settings = settings
        self._route = route
        self._written = msgspec.json.encode(settings).decode()
        self._choices = (
            settings.window_ms,
            settings.allowed_lateness_ms,
            settings.correct_within_ms,
            settings.kept_ms,
            -1 if settings.tick_ms is None else settings.tick_ms,
            _POLICIES.index(settings.policy),
            settings.learn_at == "feedback",
            settings.without_feedback == "zero",
        )
        self._answers_matter = settings.correct_within_ms > 0 and settings.without_feedback != "zero"

    def push(self, first: int, records: Sequence[bytes], state: JoinState) -> Joined:
        """Return what comes of the records at positions first, first + 1, ... of the log, and save the new state.

        Parameters
        ----------
        records : of events; one that cannot be read becomes a dead letter.
        state : what was remembered; records at positions it contains are passed over.

        Raises
        ------
        DataError
            Positions are missing between the state and `first`, or the state is damaged.
        ConfigError
            The state was made with other settings.
        """
        progress = state.progress()
        first, records = following(first, records, progress, self._written)
        if not len(records):
            return Joined({}, [], progress.counts)
        route = self._route
        run = Run(self._choices, route.owners, route.partitions, progress.high_ms, progress.tick)
        faults = _read(run, records, route)
        try:
            self._recall(run, state)
            run.take(first)
            rows = run.rows()
        except ValueError as error:
            raise DataError(f"join: {error}; join the log anew into an empty folder") from error
        dead = [
            DeadLetter(position, faults[position - first] if reason < 0 else REASONS[reason], record, high_ms)
            for position, reason, record, high_ms in run.dead()
        ]
        counts = JoinCounts(
            *(before + more for before, more in zip(_fields(progress.counts), run.counted(), strict=True))
        )
        changes = zip(TABLES, run.changes(), strict=True)
        state.save(
            Progress(first + len(records) - 1, *run.clock(), counts, self._written),
            {table: Changes(gone, put) for table, (gone, put) in changes},
        )
        return Joined(rows, dead, counts)

    def _recall(self, run: Run, state: JoinState) -> None:
        """Give a run what it needs of the state: what falls due, and what its events are about."""
        begin_ms, end_ms = run.span()
        kept_ms = self.settings.kept_ms
        forgotten = begin_ms - kept_ms, end_ms - kept_ms
        run.due(
            state.between("shown", begin_ms, end_ms),
            state.between("shown", *forgotten)
            if self._answers_matter
            else state.keys_between("shown", *forgotten),
            state.between("waiting", begin_ms, end_ms),
        )
        shown, waiting = run.index(state.get_many("index", run.names()))
        run.remembered(state.get_many("shown", shown), state.get_many("waiting", waiting))


def following(
    first: int, records: Sequence[bytes], progress: Progress, settings: str
) -> tuple[int, Sequence[bytes]]:
    """Those of the records at first, first + 1, ... that follow what was joined, and where they begin.

    Raises what `Join.push` does; `settings` are as the state keeps them.
    """
    if progress.settings not in ("", settings):
        raise ConfigError(
            f"join: expected the settings that its state was made with, {progress.settings}, got {settings}; "
            "put them back, or join the log anew into an empty folder"
        )
    if progress.position and first > progress.position + 1:
        raise DataError(f"join: expected position {progress.position + 1} of the log, got {first}")
    known = max(0, progress.position + 1 - first) if progress.position else 0
    return first + known, records[known:]


def _fields(counts: JoinCounts) -> tuple[int, ...]:
    return msgspec.structs.astuple(counts)


def _read(run: Run, records: Sequence[bytes], route: Route) -> _Faults:
    """Give a run its records; those that the kernel leaves alone are decoded here. Returns what cannot be read."""
    faults: _Faults = {}
    for place in run.read(list(records)):
        try:
            head = decode_head(records[place])
        except DataError as error:
            faults[place] = str(error)
            continue
        if isinstance(head, ImpressionHead):
            resolves_ms = -1 if head.resolves_ms is None else head.resolves_ms
            run.tell_impression(place, head.id, head.time_ms, resolves_ms, head.weight, route(head))
        elif isinstance(head, Feedback):
            run.tell_feedback(place, head.impression, head.time_ms, head.label, head.weight, head.id or "")
        else:
            run.tell_tick(place, head.time_ms)
    return faults

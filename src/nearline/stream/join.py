"""Events in the order of the log -> labelled examples: each impression with the feedback that counts.

Event time is the latest time seen minus the allowed lateness, the watermark. It moves with every event, never with a
clock or with how much is read at once. Before an event is looked at, everything due by then is done, in the order of
time and id. So the same log gives the same examples in the same order however it is cut, and, with
``learn_at="close"``, whatever the order of arrival within the allowed lateness.
"""

from collections.abc import Sequence
from typing import final

import msgspec

from nearline.errors import ConfigError, DataError
from nearline.stream.join_routes import Route
from nearline.stream.join_run import Heard, JoinRun
from nearline.stream.join_settings import JoinSettings
from nearline.stream.join_state import JoinState
from nearline.stream.joined import Joined


@final
class Join:
    """Joins impressions with their feedback.

    Parameters
    ----------
    settings : the choices.
    route : which partitions an impression goes to.
    partitions : how many there are: all of them get the ticks.
    """

    def __init__(self, settings: JoinSettings, route: Route, partitions: int = 1) -> None:
        self.settings = settings
        self._route = route
        self._all = tuple(range(partitions))
        self._written = msgspec.json.encode(settings).decode()

    def push(
        self, first: int, records: Sequence[bytes], events: Sequence[Heard | DataError], state: JoinState
    ) -> Joined:
        """Return what comes of the events at positions first, first + 1, ... of the log, and save the new state.

        Parameters
        ----------
        records, events : what the log gave, and the same decoded; an error stands for a record that cannot be read.
        state : what was remembered; events at positions it contains are passed over.

        Raises
        ------
        DataError
            Positions are missing between the state and `first`.
        ConfigError
            The state was made with other settings.
        """
        progress = state.progress()
        if progress.settings not in ("", self._written):
            raise ConfigError(
                f"join: expected the settings that its state was made with, {progress.settings}, got {self._written}; "
                "put them back, or join the log anew into an empty folder"
            )
        if progress.position and first > progress.position + 1:
            raise DataError(f"join: expected position {progress.position + 1} of the log, got {first}")
        known = max(0, progress.position + 1 - first) if progress.position else 0
        if known:
            first, records, events = first + known, records[known:], events[known:]
        if not len(records):
            return Joined([], [], progress.counts)
        run = JoinRun(self.settings, self._route, self._all, state, progress, events)
        run.take(first, records, events)
        state.save(run.changes(first + len(records) - 1, self._written))
        return Joined(run.examples, run.dead, run.counts())

"""A deployment, looked at again and again: what its pages are made from, read at most once a second."""

from dataclasses import dataclass
from threading import Lock
from typing import Final, final

from nearline.clock import Clock, SystemClock
from nearline.dashboard.deployment import Deployment
from nearline.dashboard.event_tail import Events, EventTail
from nearline.dashboard.quality import Judged, judge
from nearline.dashboard.row_tail import RowTail, ServedRows
from nearline.dashboard.standing import DeploymentStanding, standing
from nearline.model.game import GameModel

TAIL: Final = 20_000
"""So many of the last events, and of the last rows, are looked at."""
FRESH_MS: Final = 1_000


@final
@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What there was to see at one time.

    Attributes
    ----------
    now_ms : when that was.
    generation, model : the live one, without entities.
    events, rows : the last of each. judged : the rows that can be judged.
    """

    now_ms: int
    generation: int
    model: GameModel
    standing: DeploymentStanding
    events: Events
    rows: ServedRows
    judged: Judged


@final
class Watched:
    """Looks at a deployment; may be used by several threads.

    Parameters
    ----------
    most : so many of the last events and rows are kept in memory.
    """

    def __init__(self, deployment: Deployment, *, clock: Clock | None = None, most: int = TAIL) -> None:
        self.deployment = deployment
        self._clock, self._most = clock or SystemClock(), most
        self._lock = Lock()
        self._events = EventTail(deployment.log, most)
        self._rows: RowTail | None = None
        self._last: Look | None = None

    def look(self) -> Look:
        """What there is to see, at most a second old.

        Raises
        ------
        ModelError
            No generation is live.
        """
        with self._lock:
            now_ms = self._clock.now_ms()
            if self._last is None or not 0 <= now_ms - self._last.now_ms < FRESH_MS:
                self._last = self._new(now_ms)
            return self._last

    def _new(self, now_ms: int) -> Look:
        store = self.deployment.store
        number = store.generations().serving().number
        if self._rows is None or self._last is None or self._last.generation != number:
            model = store.model(number)
            self._rows = RowTail(self.deployment.rows, model, number, store.partitions, self._most)
        else:
            model = self._last.model
        before, rows = self._rows.rows, self._rows.refresh()
        judged = (
            self._last.judged
            if self._last is not None and rows is before
            else judge(rows, model.outcome, model.noise_variance)
        )
        events = self._events.refresh()
        return Look(now_ms, number, model, standing(self.deployment, number), events, rows, judged)

"""One run of events through the join, slow and in Python: the answer that the kernel is held to.

Everything that is due before an event is done before the event is looked at.
"""

from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from typing import final

import msgspec

from nearline.errors import DataError
from nearline.events.dead_letters import DeadLetter
from nearline.events.impression import Feedback
from nearline.events.wire import EventHead, ImpressionHead, decode_heads
from nearline.stream.join import following
from nearline.stream.join_routes import Route
from nearline.stream.join_rules import (
    NO_FEEDBACK_ID,
    NO_ID,
    NO_IMPRESSION,
    NO_NUMBER,
    TOO_EARLY,
    is_name,
)
from nearline.stream.join_settings import JoinSettings
from nearline.stream.join_state import JoinState, Progress
from nearline.stream.joined import JoinCounts, JoinedExample, Kind
from nearline.stream.reference_join_state import (
    Answer,
    Changed,
    Due,
    Held,
    Late,
    Orphan,
    Payload,
    Remembered,
    Shown,
    Turn,
    due_late,
    due_orphan,
)


def _answer_of(orphan: Orphan) -> tuple[Answer, int]:
    """What feedback that waits for its impression is ordered by."""
    return orphan.answer, orphan.position


def _is_first(new: Answer, old: Answer) -> bool:
    return new < old


def _is_last(new: Answer, old: Answer) -> bool:
    return new > old


def _is_higher(new: Answer, old: Answer) -> bool:
    return new[2] > old[2] if new[2] != old[2] else new < old


_WINS: Mapping[str, Callable[[Answer, Answer], bool]] = {
    "first": _is_first,
    "last": _is_last,
    "max": _is_higher,
}
"""By policy: whether a new answer counts in place of an old one."""


def push(
    settings: JoinSettings, route: Route, first: int, records: Sequence[bytes], state: JoinState
) -> tuple[list[JoinedExample], list[DeadLetter], JoinCounts]:
    """Do what `Join.push` does; return the examples in order, the dead letters, and all counts so far."""
    progress, written = state.progress(), msgspec.json.encode(settings).decode()
    first, records = following(first, records, progress, written)
    if not len(records):
        return [], [], progress.counts
    remembered, events = Remembered(state), decode_heads(records)
    run = JoinRun(settings, route, remembered, progress, events)
    run.take(first, records, events)
    remembered.save(
        Progress(first + len(records) - 1, run.high, run.tick, run.counts(), written), run.changed()
    )
    return run.examples, run.dead, run.counts()


@final
class JoinRun:
    """One run of events: what they need of the state, and what they change."""

    def __init__(
        self,
        settings: JoinSettings,
        route: Route,
        state: Remembered,
        progress: Progress,
        events: Sequence[EventHead | DataError],
    ) -> None:
        self._settings, self._route = settings, route
        self._wins = _WINS[settings.policy]
        self._at_once = settings.learn_at == "feedback"
        self._zero = settings.without_feedback == "zero"
        self._window_ms, self._kept_ms = settings.window_ms, settings.kept_ms
        self._corrects = settings.correct_within_ms > 0
        self._before = progress.counts
        self.high = progress.high_ms
        self.watermark = self.high - settings.allowed_lateness_ms
        self.tick = progress.tick
        ids, latest = _ids_and_latest(events, self.high)
        self._end = latest - settings.allowed_lateness_ms
        self._due = state.due(
            max(self.watermark, 0), max(self._end, 0), settings.kept_ms, answered=not self._at_once
        )
        self._next = 0
        ids.update([item[2] for item in self._due if item[3] is not None])
        self._held: dict[str, Held] = state.get_many(ids)
        self._fresh: list[Due] = []
        self._shown: dict[str, Shown] = {}
        self._answered: dict[str, Shown] = {}
        self._forgotten: dict[str, int] = {}
        self._late: dict[int, Late] = {}
        self._applied: list[Late] = []
        self._orphans: dict[int, Orphan] = {}
        self._settled: list[Orphan] = []
        self._touched: set[str] = set()
        self.examples: list[JoinedExample] = []
        self.dead: list[DeadLetter] = []
        self._received = self._learned = self._duplicate = self._too_late = self._unanswered = 0
        self._waiting = self._corrected = 0

    def take(self, first: int, records: Sequence[bytes], events: Sequence[EventHead | DataError]) -> None:
        """Take the events one after the other."""
        self._received += len(events)
        for position, (event, record) in enumerate(zip(events, records, strict=True), first):
            if isinstance(event, DataError):
                self._refuse(position, str(event), record)
                continue
            if event.time_ms > self.high:
                self.high = event.time_ms
                self.watermark = event.time_ms - self._settings.allowed_lateness_ms
                self._do_what_is_due()
                if self._settings.tick_ms is not None:
                    self._say_time(self._settings.tick_ms)
            if isinstance(event, ImpressionHead):
                self._take_impression(event, position, record)
            elif isinstance(event, Feedback):
                self._take_feedback(event, position, record)
            else:
                self._received -= 1  # a tick is no event

    def _refuse(self, position: int, reason: str, record: bytes) -> None:
        self.dead.append(DeadLetter(position, reason, record, self.high))

    def _say_time(self, tick_ms: int) -> None:
        tick = self.watermark // tick_ms
        if tick > self.tick:
            self.tick = tick
            self.examples.append(
                JoinedExample(b"", 0.0, 0.0, tick * tick_ms, Kind.TICK, tuple(range(self._route.partitions)))
            )

    # What is due

    def _do_what_is_due(self) -> None:
        """Do everything with a time before the watermark: what the state had and what this run added, in order."""
        due, fresh, watermark = self._due, self._fresh, self.watermark
        place, count = self._next, len(due)
        while True:
            if place < count and due[place][0] < watermark:
                if fresh and fresh[0] < due[place]:
                    item = heappop(fresh)
                else:
                    item = due[place]
                    place += 1
            elif fresh and fresh[0][0] < watermark:
                item = heappop(fresh)
            else:
                break
            time_ms, turn, name, _, payload = item
            if turn is Turn.CLOSE:
                self._close(payload)  # type: ignore[arg-type]
            elif turn is Turn.FORGET:
                self._forget(name, time_ms - self._kept_ms, payload is True)
            else:
                self._do_feedback(name, payload)
        self._next = place

    def _do_feedback(self, name: str, payload: Payload) -> None:
        """Feedback from after the close counts now, or feedback without impression is given up."""
        if type(payload) is Late:
            if self._late.pop(payload.position, None) is None:
                self._applied.append(payload)
            shown = self._held[name]
            assert type(shown) is Shown  # noqa: S101 - kept at least as long as it can be corrected
            self._waiting -= 1
            self._correct(shown, payload.answer)
        elif type(payload) is Orphan and not payload.is_settled:
            waiting = self._held[name]
            assert type(waiting) is list  # noqa: S101 - it would be settled
            mine = next(orphan for orphan in waiting if orphan.position == payload.position)
            waiting.remove(mine)
            if not waiting:
                del self._held[name]
            self._settle(mine)
            self.dead.append(DeadLetter(mine.position, NO_IMPRESSION, mine.record, self.high))

    def _close(self, shown: Shown) -> None:
        answer = shown.answer
        if answer is None:
            if self._zero:
                self._learn(shown, 0.0, shown.weight, shown.close_ms)
                self._learned += 1
                self._waiting -= 1
            elif not self._settings.correct_within_ms:
                self._unanswered += 1
                self._waiting -= 1
        elif not self._at_once:
            self._learn(shown, answer[2], shown.weight * answer[3], shown.close_ms)
            self._learned += 2
            self._waiting -= 2

    def _forget(self, name: str, close_ms: int, has_answer: bool) -> None:
        shown = self._held.get(name)
        if type(shown) is Shown and shown.close_ms == close_ms:
            has_answer = shown.answer is not None
            del self._held[name]
        self._answered.pop(name, None)
        if self._shown.pop(name, None) is None:
            self._forgotten[name] = close_ms
        if self._corrects and not self._zero and not has_answer:
            self._unanswered += 1
            self._waiting -= 1

    # Events

    def _take_impression(self, event: ImpressionHead, position: int, record: bytes) -> None:
        name, time_ms = event.id, event.time_ms
        before = self._held.get(name)
        if type(before) is Shown:
            self._duplicate += 1
            return
        if not is_name(name):
            self._refuse(position, NO_ID, record)
            return
        close_ms = event.resolves_ms
        if close_ms is None:
            close_ms = time_ms + self._window_ms
        elif close_ms < time_ms:
            close_ms = time_ms
        if close_ms < self.watermark:
            self._too_late += 1
            return
        shown = Shown(close_ms, name, time_ms, event.weight, self._route(event), record)
        self._held[name] = self._shown[name] = shown
        self._waiting += 1
        if close_ms < self._end:
            heappush(self._fresh, (close_ms, Turn.CLOSE, name, None, shown))
            if close_ms + self._kept_ms < self._end:
                heappush(self._fresh, (close_ms + self._kept_ms, Turn.FORGET, name, None, False))
        if before is not None:
            for orphan in sorted(before, key=_answer_of):
                self._settle(orphan)
                self._answer(shown, orphan.answer, orphan.position, orphan.record)

    def _take_feedback(self, event: Feedback, position: int, record: bytes) -> None:
        label, weight, name = event.label, event.weight, event.impression
        # A number minus itself is 0 unless it is infinite or none.
        if label - label != 0.0 or weight - weight != 0.0 or weight < 0.0:
            self._refuse(position, NO_NUMBER, record)
            return
        if event.id and not is_name(event.id):
            self._refuse(position, NO_FEEDBACK_ID, record)
            return
        answer: Answer = (event.time_ms, event.id or "", label, weight)
        shown = self._held.get(name)
        if type(shown) is Shown:
            self._answer(shown, answer, position, record)
        elif is_name(name):
            self._wait_for_impression(name, answer, position, record, shown)
        else:
            self._refuse(position, NO_ID, record)

    def _wait_for_impression(
        self, name: str, answer: Answer, position: int, record: bytes, others: list[Orphan] | None
    ) -> None:
        due_ms = answer[0] + self._window_ms
        if due_ms < self.watermark:
            self._refuse(position, NO_IMPRESSION, record)
            return
        self._waiting += 1
        orphan = self._orphans[position] = Orphan(due_ms, name, position, answer, record)
        self._touched.add(name)
        if others is None:
            self._held[name] = [orphan]
        else:
            others.append(orphan)
        if due_ms < self._end:
            heappush(self._fresh, due_orphan(orphan))

    def _settle(self, orphan: Orphan) -> None:
        """A feedback no longer waits for its impression."""
        self._waiting -= 1
        orphan.is_settled = True
        self._touched.add(orphan.impression)
        if self._orphans.pop(orphan.position, None) is None:
            self._settled.append(orphan)

    def _answer(self, shown: Shown, answer: Answer, position: int, record: bytes) -> None:
        """Take feedback for an impression that is known."""
        time_ms, close_ms = answer[0], shown.close_ms
        if time_ms > close_ms + self._kept_ms:
            # Whether the impression is still remembered here depends on the order of arrival: do not let it matter.
            self._refuse(position, NO_IMPRESSION, record)
        elif time_ms > close_ms:
            self._answer_late(shown, answer, position)
        elif close_ms < self.watermark:
            if close_ms + self._settings.correct_within_ms < self.watermark:
                self._too_late += 1
            else:
                self._correct(shown, answer)
        elif time_ms < shown.time_ms - self._window_ms:
            self._refuse(position, TOO_EARLY, record)
        elif shown.answer is None:
            shown.answer = answer
            self._answered[shown.id] = shown
            if self._at_once:
                self._learn(shown, answer[2], shown.weight * answer[3], time_ms)
                self._learned += 2
                self._waiting -= 1
            else:
                self._waiting += 1
        elif self._at_once:
            self._correct(shown, answer)
        else:
            if self._wins(answer, shown.answer):
                shown.answer = answer
                self._answered[shown.id] = shown
            self._duplicate += 1

    def _answer_late(self, shown: Shown, answer: Answer, position: int) -> None:
        """Feedback from after the close counts at its own time, so that the order of arrival does not matter."""
        last_ms = shown.close_ms + self._settings.correct_within_ms
        if answer[0] > last_ms or last_ms < self.watermark:
            self._too_late += 1
        elif answer[0] < self.watermark:
            self._correct(shown, answer)
        else:
            late = self._late[position] = Late(shown.id, position, answer)
            self._waiting += 1
            if answer[0] < self._end:
                heappush(self._fresh, due_late(late))

    def _correct(self, shown: Shown, answer: Answer) -> None:
        """Replace what an impression was learned with, if the policy prefers this feedback and it says otherwise."""
        old, weight = shown.answer, shown.weight
        if old is not None and (answer == old or (answer[1] and answer[1] == old[1])):
            self._duplicate += 1
            return
        if old is not None and not self._wins(answer, old):
            self._overruled(shown)
            return
        shown.answer = answer
        self._answered[shown.id] = shown
        if old is None and not self._zero:
            self._learn(shown, answer[2], weight * answer[3], answer[0])
            self._learned += 2
            self._waiting -= 1
            return
        label, times = (0.0, 1.0) if old is None else old[2:]
        if (label, times) == answer[2:]:
            self._overruled(shown)
            return
        self._take_back(shown, label, weight * times, answer[0])
        self._learn(shown, answer[2], weight * answer[3], answer[0])
        self._learned += 1
        self._corrected += 1

    def _overruled(self, shown: Shown) -> None:
        if shown.close_ms < self.watermark:
            self._too_late += 1
        else:
            self._duplicate += 1

    # What comes of it

    def _learn(self, shown: Shown, label: float, weight: float, time_ms: int) -> None:
        self.examples.append(
            JoinedExample(shown.record, label, weight, time_ms, Kind.LEARN, shown.partitions)
        )

    def _take_back(self, shown: Shown, label: float, weight: float, time_ms: int) -> None:
        self.examples.append(
            JoinedExample(shown.record, label, weight, time_ms, Kind.TAKE_BACK, shown.partitions)
        )

    def counts(self) -> JoinCounts:
        """All counts, those from before included."""
        before = self._before
        return JoinCounts(
            received=before.received + self._received,
            learned=before.learned + self._learned,
            duplicate=before.duplicate + self._duplicate,
            late=before.late + self._too_late,
            dead=before.dead + len(self.dead),
            unanswered=before.unanswered + self._unanswered,
            waiting=before.waiting + self._waiting,
            corrected=before.corrected + self._corrected,
        )

    def changed(self) -> Changed:
        """What the state is to keep."""
        waiting_for: dict[str, list[Orphan]] = {}
        for name in self._touched:
            held = self._held.get(name)
            waiting_for[name] = held if type(held) is list else []
        return Changed(
            shown=self._shown.values(),
            answered=[one for name, one in self._answered.items() if name not in self._shown],
            forgotten=self._forgotten,
            late=self._late.values(),
            applied=self._applied,
            orphans=self._orphans.values(),
            settled=self._settled,
            waiting_for=waiting_for,
        )


def _ids_and_latest(events: Sequence[EventHead | DataError], high_ms: int) -> tuple[set[str], int]:
    """The impressions that events are about, and the latest time there will be after them."""
    ids: set[str] = set()
    for event in events:
        if isinstance(event, DataError):
            continue
        if isinstance(event, ImpressionHead):
            ids.add(event.id)
        elif isinstance(event, Feedback):
            ids.add(event.impression)
        high_ms = max(high_ms, event.time_ms)
    return ids, high_ms

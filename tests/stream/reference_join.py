"""The join again, slow and obvious: one event at a time, every list searched, nothing kept in order but by sorting."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from nearline.errors import DataError
from nearline.events.impression import MAX_TIME_MS, Event, Feedback, Impression, Tick
from nearline.stream.join_settings import JoinSettings

Said = tuple[str, str, float, float, int]
"""learn or take back, id, label, weight, time."""


@dataclass
class Open:
    impression: Impression
    position: int
    close_ms: int
    in_time: list[tuple[int, Feedback]] = field(default_factory=list)
    late: list[tuple[int, Feedback]] = field(default_factory=list)
    learned: tuple[float, float] | None = None
    chosen: Feedback | None = None
    is_closed: bool = False


def order(feedback: Feedback) -> tuple[int, str, float, float]:
    return feedback.time_ms, feedback.id or "", feedback.label, feedback.weight


def best(policy: str, answers: Sequence[Feedback]) -> Feedback:
    ranked = sorted(answers, key=order)
    if policy == "max":
        return max(ranked, key=lambda a: (a.label, -a.time_ms))
    return ranked[0] if policy == "first" else ranked[-1]


class ReferenceJoin:
    def __init__(self, settings: JoinSettings) -> None:
        self.settings = settings
        self.high_ms, self.position = -1, 0
        self.known: dict[str, Open] = {}
        self.orphans: list[tuple[int, Feedback]] = []
        self.status: dict[int, str] = {}
        self.said: list[Said] = []
        self.corrected = 0

    @property
    def watermark(self) -> int:
        return self.high_ms - self.settings.allowed_lateness_ms

    def push(self, event: Event | DataError) -> None:
        self.position += 1
        if isinstance(event, DataError) or not 0 <= event.time_ms < MAX_TIME_MS:
            self.status[self.position] = "dead"
            return
        self.high_ms = max(self.high_ms, event.time_ms)
        self.do_what_is_due()
        if isinstance(event, Impression):
            self.show(event)
        elif isinstance(event, Feedback):
            self.answer(self.position, event)
        else:
            assert isinstance(event, Tick)

    def do_what_is_due(self) -> None:
        """Look through everything for what is due first, do it, and look again."""
        kept = self.settings.kept_ms
        while True:
            due: list[tuple[int, int, str, tuple[object, ...], int]] = []
            for name, shown in self.known.items():
                if not shown.is_closed:
                    due.append((shown.close_ms, 0, name, (), 0))
                due.extend((f.time_ms, 1, name, order(f), at) for at, f in shown.late)
                due.append((shown.close_ms + kept, 3, name, (), 0))
            due.extend(
                (f.time_ms + self.settings.window_ms, 2, f.impression, order(f), at) for at, f in self.orphans
            )
            if not due or min(due)[0] >= self.watermark:
                return
            _, turn, name, _, at = min(due)
            if turn == 0:
                self.close(self.known[name])
            elif turn == 1:
                shown = self.known[name]
                [late] = [item for item in shown.late if item[0] == at]
                shown.late.remove(late)
                self.correct(shown, *late)
            elif turn == 2:
                self.orphans = [item for item in self.orphans if item[0] != at]
                self.status[at] = "dead"
            else:
                shown = self.known.pop(name)
                if self.status[shown.position] == "waiting":
                    self.status[shown.position] = "unanswered"

    def show(self, event: Impression) -> None:
        if event.id in self.known:
            self.status[self.position] = "duplicate"
            return
        close_ms = (
            event.resolves_ms if event.resolves_ms is not None else event.time_ms + self.settings.window_ms
        )
        if close_ms < self.watermark:
            self.status[self.position] = "late"
            return
        self.known[event.id] = Open(event, self.position, close_ms)
        self.status[self.position] = "waiting"
        mine = [item for item in self.orphans if item[1].impression == event.id]
        self.orphans = [item for item in self.orphans if item[1].impression != event.id]
        for at, feedback in sorted(mine, key=lambda item: (order(item[1]), item[0])):
            self.answer(at, feedback)

    def answer(self, at: int, feedback: Feedback) -> None:
        shown = self.known.get(feedback.impression)
        window = self.settings.window_ms
        if shown is None:
            given_up = feedback.time_ms + window < self.watermark
            self.status[at] = "dead" if given_up else "waiting"
            if not given_up:
                self.orphans.append((at, feedback))
        elif feedback.time_ms > shown.close_ms + self.settings.kept_ms:
            self.status[at] = "dead"
        elif shown.is_closed or feedback.time_ms > shown.close_ms:
            last = shown.close_ms + self.settings.correct_within_ms
            if feedback.time_ms > last or self.watermark > last:
                self.status[at] = "late"
            elif feedback.time_ms >= self.watermark:
                self.status[at] = "waiting"
                shown.late.append((at, feedback))
            else:
                self.correct(shown, at, feedback)
        elif feedback.time_ms < shown.impression.time_ms - window:
            self.status[at] = "dead"
        elif self.settings.learn_at == "close":
            shown.in_time.append((at, feedback))
            self.status[at] = "waiting"
        elif shown.chosen is None:
            self.learn_first(shown, at, feedback)
        else:
            self.correct(shown, at, feedback)

    def close(self, shown: Open) -> None:
        shown.is_closed = True
        if shown.learned is not None:
            return
        if shown.in_time:
            shown.chosen = best(self.settings.policy, [feedback for _, feedback in shown.in_time])
            place = [feedback for _, feedback in shown.in_time].index(shown.chosen)
            for number, (at, _) in enumerate(shown.in_time):
                self.status[at] = "learned" if number == place else "duplicate"
            self.learn(shown, shown.chosen.label, shown.chosen.weight, shown.close_ms)
        elif self.settings.without_feedback == "zero":
            self.learn(shown, 0.0, 1.0, shown.close_ms)
        elif not self.settings.correct_within_ms:
            self.status[shown.position] = "unanswered"

    def learn_first(self, shown: Open, at: int, feedback: Feedback) -> None:
        shown.chosen = feedback
        self.status[at] = "learned"
        self.learn(shown, feedback.label, feedback.weight, feedback.time_ms)

    def learn(self, shown: Open, label: float, weight: float, time_ms: int) -> None:
        self.status[shown.position] = "learned"
        shown.learned = label, weight
        self.said.append(("learn", shown.impression.id, label, weight * shown.impression.weight, time_ms))

    def correct(self, shown: Open, at: int, feedback: Feedback) -> None:
        unused = "late" if shown.close_ms < self.watermark else "duplicate"
        if shown.chosen is not None and order(feedback) == order(shown.chosen):
            self.status[at] = "duplicate"
        elif (
            shown.chosen is not None and best(self.settings.policy, [shown.chosen, feedback]) is shown.chosen
        ):
            self.status[at] = unused
        elif shown.learned is None:
            self.learn_first(shown, at, feedback)
        else:
            shown.chosen = feedback
            self.status[at] = unused
            if shown.learned != (feedback.label, feedback.weight):
                label, weight = shown.learned
                said = shown.impression.id, label, weight * shown.impression.weight, feedback.time_ms
                self.said.append(("take back", *said))
                self.learn_first(shown, at, feedback)
                self.corrected += 1

    def counts(self) -> Counter[str]:
        """Where every event is; feedback that waits behind a better one of the same impression is a duplicate."""
        status = dict(self.status)
        for shown in self.known.values():
            if not shown.is_closed and shown.in_time:
                answers = [feedback for _, feedback in shown.in_time]
                place = answers.index(best(self.settings.policy, answers))
                for number, (at, _) in enumerate(shown.in_time):
                    status[at] = "waiting" if number == place else "duplicate"
        return Counter(status.values())

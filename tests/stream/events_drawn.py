"""Events that Hypothesis draws: few ids and short times, so that everything meets everything."""

import warnings
from collections.abc import Sequence

from hypothesis import strategies as st

from nearline.errors import DataError
from nearline.events.impression import Event, Feedback, Impression, Tick
from nearline.stream.join_settings import EarlyLabelsWarning, JoinSettings

LABELS, WEIGHTS = (0.0, 1.0, 2.0), (1.0, 1.0, 3.0)
Draw = tuple[int, int, int, int, int]


def quiet_settings(**choices: object) -> JoinSettings:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EarlyLabelsWarning)
        return JoinSettings(**choices)  # type: ignore[arg-type]


def settings_drawn(*learn_at: str) -> st.SearchStrategy[JoinSettings]:
    return st.builds(
        lambda correct, remember, **choices: quiet_settings(
            correct_within_ms=correct, remember_ms=None if remember is None else correct + remember, **choices
        ),
        st.sampled_from([0, 0, 5, 15]),
        st.sampled_from([None, 0, 20]),
        window_ms=st.sampled_from([0, 3, 10]),
        allowed_lateness_ms=st.sampled_from([0, 2, 8]),
        policy=st.sampled_from(["first", "last", "max"]),
        without_feedback=st.sampled_from(["zero", "skip"]),
        learn_at=st.sampled_from(learn_at or ["close", "feedback"]),
    )


def impression(number: int, time_ms: int, resolves: int, weight: int) -> Impression:
    name = f"i{number}"
    resolves_ms = time_ms + resolves if resolves < 25 else None
    return Impression(name, time_ms, {"user": name}, resolves_ms=resolves_ms, weight=WEIGHTS[weight] / 2)


def feedback(number: int, time_ms: int, label: int, weight: int) -> Feedback:
    name = f"{time_ms}-{WEIGHTS[weight]}" if label == 2 else None  # the same id only where all is the same
    return Feedback(f"i{number}", time_ms, LABELS[label], WEIGHTS[weight], name)


def stream(draws: Sequence[Draw]) -> list[Event | DataError]:
    """Any order of anything, some of it twice; time goes up by and large."""
    events: list[Event | DataError] = []
    for place, (kind, number, shift, one, other) in enumerate(draws):
        time_ms = max(0, place + shift)
        if kind < 4:
            events.append(impression(number % 6, time_ms, one, other))
        elif kind < 9:
            events.append(feedback(number % 6, time_ms, one % 3, other))
        elif kind == 9 and events:
            events.append(events[number % len(events)])
        elif kind == 10:
            events.append(Tick(time_ms))
        else:
            events.append(DataError("damaged"))
    return events


_DRAW = st.tuples(
    st.integers(0, 11), st.integers(0, 40), st.integers(-12, 12), st.integers(0, 40), st.integers(0, 2)
)
streams_drawn = st.lists(_DRAW, max_size=40).map(stream)


def life(draws: Sequence[tuple[int, int, int, list[tuple[int, int, int, bool]]]]) -> list[Event]:
    """Every impression once, at its own time, feedback around it, and some of all that again: a set, not an order."""
    events: list[Event] = []
    for number, (time_ms, resolves, weight, answers) in enumerate(draws):
        shown = impression(number, time_ms, resolves, weight)
        events.append(shown)
        for shift, label, other, is_again in answers:
            answer = feedback(number, max(0, time_ms + shift), label, other)
            events += [answer, answer if other else shown] if is_again else [answer]
    return events


_ANSWERS = st.lists(
    st.tuples(st.integers(-15, 45), st.integers(0, 2), st.integers(0, 2), st.booleans()), max_size=4
)
life_drawn = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 2), _ANSWERS), min_size=1, max_size=6
).map(life)


def arrived(events: Sequence[Event], delays_ms: Sequence[int]) -> list[Event]:
    """Events in the order of their time plus a delay each."""
    order = sorted(range(len(events)), key=lambda place: (events[place].time_ms + delays_ms[place], place))
    return [events[place] for place in order]

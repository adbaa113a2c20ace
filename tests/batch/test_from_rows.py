"""The row log as examples: every labelled example once, corrections applied, the offset the request's own."""

import numpy as np
from deployments import EFFECTS, model
from hypothesis import given
from hypothesis import strategies as st

from nearline.batch.from_rows import cut_at, cut_before_last, examples_up_to, read_range, standing
from nearline.events.impression import Impression
from nearline.events.log import MemoryLog
from nearline.events.wire import encode_event
from nearline.stream.drift_watch import route_of
from nearline.stream.joined import JoinedExample, Kind, decode_rows, encode_row, rows_by_partition

_USERS, _ITEMS = st.integers(-1, 4), st.integers(-1, 3)
_LABELS = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=3)
shown = st.lists(st.tuples(_USERS, _ITEMS, _LABELS), max_size=25)


def row_log(draws, partitions: int) -> tuple[MemoryLog, list[float]]:
    """A row log as the join writes it, and the labels that count in the end, of impression 0, 1, ..."""
    log, route, labels = MemoryLog(partitions=partitions), route_of(model(), partitions), []
    for number, (user, item, given_labels) in enumerate(draws):
        entities = {kind: f"{kind}{n}" for kind, n in (("user", user), ("item", item)) if n >= 0}
        event = Impression(f"i{number}", number, entities, offset=float(number), fixed=7.0, generation=1)
        examples, before = [], None
        for i, label in enumerate(given_labels):
            time_ms = 10 * number + i
            if before is not None:
                examples.append((before, time_ms, Kind.TAKE_BACK))
            examples.append((label, time_ms, Kind.LEARN))
            before = label
        made = [
            JoinedExample(encode_event(event), label, 1.0, time_ms, kind, route(event))
            for label, time_ms, kind in examples
        ]
        for partition, rows in rows_by_partition(made).items():
            log.append(rows, partition)
        if entities:
            labels.append((float(number), given_labels[-1]))
    return log, labels


@given(shown, st.integers(1, 4))
def test_every_example_comes_once_with_the_label_it_has_in_the_end(draws, partitions):
    log, labels = row_log(draws, partitions)
    ranges = [read_range(log, partition) for partition in range(partitions)]
    examples = examples_up_to(ranges, cut_before_last(ranges, 0.0), model())
    assert sorted(zip(examples.offset.tolist(), examples.response.tolist(), strict=True)) == labels
    assert set(EFFECTS.values()) <= set(examples.entities)


@given(shown, st.integers(1, 4), st.floats(0.0, 0.99))
def test_a_cut_leaves_the_latest_rows_and_what_it_takes_is_in_every_partition(draws, partitions, held_back):
    log, _ = row_log(draws, partitions)
    ranges = [read_range(log, partition) for partition in range(partitions)]
    cut = cut_before_last(ranges, held_back)
    taken, left = [], []
    for one, position in zip(ranges, cut.positions, strict=True):
        inside = one.position <= position
        taken += one.rows.time_ms[inside].tolist()
        left += one.rows.time_ms[~inside].tolist()
    assert all(time_ms <= cut.horizon_ms for time_ms in taken)
    assert all(time_ms > cut.horizon_ms for time_ms in left)
    assert len(taken) >= round((1.0 - held_back) * (len(taken) + len(left)))
    if taken:
        assert cut_at(ranges, cut.positions) == cut


def test_what_cannot_be_taken_out_is_passed_over():
    event = encode_event(Impression("i", 5, {"user": "u"}))
    learn, back = (
        encode_row(JoinedExample(event, 1.0, 1.0, 9, kind, (0,))) for kind in (Kind.LEARN, Kind.TAKE_BACK)
    )
    tick = encode_row(JoinedExample(b"", 0.0, 0.0, 9, Kind.TICK, (0,)))
    assert standing(decode_rows([back, learn, tick])).tolist() == [1]
    assert standing(decode_rows([back, learn, back, tick, learn])).tolist() == [4]
    np.testing.assert_array_equal(standing(decode_rows([])), [])

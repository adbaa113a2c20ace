"""Mini-batches against an obviously right version that looks at one row at a time."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline.arrays import Ints
from nearline.errors import ConfigError, DataError
from nearline.stream.minibatch import MiniBatches, Resume
from nearline.stream.minibatch_borders import expected_gain
from nearline.stream.minibatch_settings import MiniBatchSettings

Row = tuple[str | None, int, bool]
"""Entity, time in ms, whether the next row belongs to it."""
Batches = dict[str, list[list[int]]]

choices_drawn = st.builds(
    MiniBatchSettings,
    rows=st.integers(1, 5),
    age_ms=st.sampled_from([None, 1, 4, 15]),
    information=st.sampled_from([None, 0.4, 1.0]),
    max_waiting=st.sampled_from([2, 5, 9, 100]),
)


def rows_from(draws: Sequence[tuple[int, int, bool]]) -> list[Row]:
    """Rows of five entities and ticks; after a row that must not end a mini-batch comes one of the same entity."""
    rows: list[Row] = []
    for place, (entity, shift, is_pair) in enumerate(draws):
        name = None if entity == 5 else f"e{entity}"
        time_ms = max(0, place + shift)
        if is_pair and name is not None:
            rows.append((name, time_ms, True))
        rows.append((name, time_ms, False))
    return rows


rows_drawn = st.lists(
    st.tuples(st.integers(0, 5), st.integers(-3, 6), st.sampled_from([False] * 5 + [True])), max_size=60
).map(rows_from)


class Teaching:
    """Stands for the learner: a row teaches the less the more its entity has learned."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.batches: Batches = {}

    def gain_of(self, position: int) -> float:
        name = self.rows[position - 1][0]
        assert name is not None
        learned = sum(len(batch) for batch in self.batches.get(name, []))
        return 1.0 / (1.0 + learned) + 0.01 * (position % 3)

    def gain(self, position: Ints) -> np.ndarray:
        return np.array([self.gain_of(int(one)) for one in position])

    def learn(self, name: str, batch: list[int]) -> None:
        self.batches.setdefault(name, []).append(batch)


def obvious(choices: MiniBatchSettings, rows: Sequence[Row]) -> tuple[Batches, dict[str, list[int]]]:
    teaching = Teaching(rows)
    waiting: dict[str, list[tuple[int, int]]] = {}
    clock = -1

    def learn(name: str) -> None:
        teaching.learn(name, [position for position, _ in waiting.pop(name)])

    for position, (name, time_ms, unfinished) in enumerate(rows, 1):
        clock = max(clock, time_ms)
        if choices.age_ms is not None:
            for old in [n for n, items in waiting.items() if items[0][1] + choices.age_ms <= clock]:
                learn(old)
        if name is None:
            continue
        waiting.setdefault(name, []).append((position, clock))
        if unfinished:
            continue
        whole = [at for at, _ in waiting[name] if not rows[at - 1][2]]
        gain = sum(round(teaching.gain_of(at) * 2**32) for at in whole)
        enough = choices.information is not None and gain >= round(choices.information * 2**32)
        if len(whole) >= choices.rows or enough:
            learn(name)
        if sum(map(len, waiting.values())) >= choices.max_waiting:
            while sum(map(len, waiting.values())) > choices.max_waiting // 2:
                learn(min(waiting, key=lambda n: waiting[n][0][0]))
    return teaching.batches, {name: [at for at, _ in items] for name, items in waiting.items()}


def pushed(
    batches: MiniBatches,
    teaching: Teaching,
    begin: int,
    end: int,
    learned: dict[str, int] | None = None,
    *,
    apart: bool = False,
) -> int:
    """Push rows begin + 1 to end, learn what is due, and return the most rows that ever waited."""
    rows = teaching.rows[begin:end]
    known = learned or {}
    entities = [
        None if name is None or known.get(name, 0) >= at else name
        for at, (name, _, _) in enumerate(rows, begin + 1)
    ]
    for due in batches.push(
        np.arange(begin + 1, end + 1, dtype=np.int64),
        np.array([time_ms for _, time_ms, _ in rows], dtype=np.int64),
        entities,
        unfinished=np.array([unfinished for _, _, unfinished in rows], dtype=np.bool_),
        gain=teaching.gain,
        apart=apart,
    ):
        assert len(set(due.entities)) == len(due.entities)
        one_each = apart or batches.settings.information is not None
        assert not one_each or np.diff(due.batch_start).tolist() == [1] * len(due.entities)
        for number, name in enumerate(due.entities):
            for batch in range(due.batch_start[number], due.batch_start[number + 1]):
                teaching.learn(name, due.position[due.start[batch] : due.start[batch + 1]].tolist())
    return len(batches)


def borders(cuts: Sequence[int], size: int) -> list[tuple[int, int]]:
    at = sorted({0, size, *(cut % (size + 1) for cut in cuts)})
    return list(itertools.pairwise(at))


@settings(max_examples=250)
@given(choices_drawn, rows_drawn, st.lists(st.integers(0, 80), max_size=8), st.booleans())
def test_however_rows_are_cut_the_mini_batches_are_the_obvious_ones(
    choices: MiniBatchSettings, rows: list[Row], cuts: list[int], apart: bool
) -> None:
    batches, teaching = MiniBatches(choices), Teaching(rows)
    for begin, end in borders(cuts, len(rows)):
        waiting = pushed(batches, teaching, begin, end, apart=apart)
        assert waiting < choices.max_waiting or rows[end - 1][2]
    expected, left = obvious(choices, rows)
    assert teaching.batches == expected
    assert len(batches) == sum(map(len, left.values()))


@settings(max_examples=150)
@given(choices_drawn, rows_drawn, st.lists(st.integers(0, 80), min_size=1, max_size=8))
def test_a_restart_needs_only_where_to_resume_and_what_each_entity_learned(
    choices: MiniBatchSettings, rows: list[Row], cuts: list[int]
) -> None:
    teaching, resume = Teaching(rows), Resume(0, -1)
    for begin, end in borders(cuts, len(rows)):
        batches = MiniBatches(choices, resume)
        learned = {name: done[-1][-1] for name, done in teaching.batches.items()}
        before = {name: list(done) for name, done in teaching.batches.items()}
        if resume.position < begin:
            pushed(batches, teaching, resume.position, begin, learned)
        assert teaching.batches == before
        pushed(batches, teaching, begin, end)
        resume = batches.resume
    assert teaching.batches == obvious(choices, rows)[0]


def test_a_new_entity_learns_every_row_and_a_settled_one_waits() -> None:
    rows: list[Row] = [("a", number, False) for number in range(200)]
    teaching = Teaching(rows)
    pushed(MiniBatches(MiniBatchSettings(rows=64, information=0.2)), teaching, 0, 200)
    sizes = [len(batch) for batch in teaching.batches["a"]]
    assert sizes[:4] == [1, 1, 1, 1]
    assert max(sizes) >= 8
    assert sorted(sizes[-6:])[0] > 4


def test_the_expected_gain_is_the_entropy_that_the_belief_loses() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5))
    precision, x, curvature, weight = root @ root.T + np.eye(5), rng.normal(size=5), 0.2, 3.0
    after = precision + weight * curvature * np.outer(x, x)
    lost = 0.5 * (np.linalg.slogdet(after)[1] - np.linalg.slogdet(precision)[1])
    variance = x @ np.linalg.solve(precision, x)
    np.testing.assert_allclose(
        expected_gain(np.array([variance]), np.array([curvature]), np.array([weight])), [lost], rtol=1e-12
    )


def test_positions_that_do_not_ascend_are_refused() -> None:
    batches = MiniBatches(MiniBatchSettings())
    list(batches.push(np.array([1, 2]), np.array([0, 0]), ["a", "b"]))
    with pytest.raises(DataError, match="ascending positions above 2"):
        list(batches.push(np.array([2, 3]), np.array([0, 0]), ["a", "b"]))


@pytest.mark.parametrize(
    ("name", "value"), [("rows", 0), ("age_ms", 0), ("information", 0.0), ("max_waiting", 1)]
)
def test_settings_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"minibatch.{name}: expected"):
        MiniBatchSettings(**{name: value})  # type: ignore[arg-type]

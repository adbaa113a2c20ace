"""One coordinate at a time: its rows, its prior, and that nothing is learned but what is asked for."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline.batch.coordinates import FixedCoordinate, RandomCoordinate, Target
from nearline.batch.entity_rows import GroupedRows, number_entities, rows_to_learn
from nearline.batch.settings import FixedSettings, RandomSettings
from nearline.model.examples import EntityColumn
from nearline.posterior.outcomes import Outcome
from simulated import SETTINGS, USER, examples, trained

codes = st.lists(st.integers(-1, 4), min_size=1, max_size=60).map(lambda c: np.array(c, dtype=np.int64))


@given(codes, st.integers(1, 4), st.integers(0, 6))
def test_the_cap_and_the_lower_bound_count_rows_of_each_entity(entity, least, more):
    how = RandomSettings("e", "k", min_rows=least, max_rows=least + more)
    before = np.array([0, 0, 3, 0, 1])
    learned = rows_to_learn(entity, before, how)
    count, kept = Counter(entity.tolist()), Counter(entity[learned].tolist())
    assert kept[-1] == 0
    for e in range(5):
        enough = count[e] + before[e] >= least
        assert kept[e] == (min(count[e], least + more) if enough else 0)


@given(codes, st.integers(0, 5))
def test_more_rows_at_the_end_do_not_change_which_of_the_earlier_ones_compete(entity, cap):
    """The sample is by place: a row that falls to the cap falls to rows of its entity alone."""
    how = RandomSettings("e", "k", max_rows=cap + 1)
    alone = rows_to_learn(entity, np.zeros(5, np.int64), how)
    others = rows_to_learn(np.append(entity, np.full(7, 4)), np.zeros(5, np.int64), how)
    unaffected = entity != 4
    np.testing.assert_array_equal(others[: len(entity)][unaffected], alone[unaffected])


@given(codes)
def test_grouped_rows_go_back_to_their_places(entity):
    values = np.arange(1.0, len(entity) + 1)
    matrix = examples(len(entity)).bags["b"].matrix
    grouped = GroupedRows(matrix, entity, 5)
    np.testing.assert_array_equal(grouped.put(grouped.take(values)), np.where(entity >= 0, values, 0.0))
    assert grouped.rows.rows_per_entity.tolist() == [np.count_nonzero(entity == e) for e in range(5)]


@given(st.lists(st.sampled_from(["ann", "bob", "", "ünï", None]), min_size=1, max_size=20))
def test_entities_keep_their_old_numbers_and_new_ones_follow(names):
    start = trained(20)[0].random[0]
    encoded = pa.array(names, pa.string()).dictionary_encode()
    column = EntityColumn(
        encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32), encoded.dictionary
    )
    numbered, entity = number_entities(column, start)
    assert numbered.to_pylist()[: start.entities] == start.names.to_pylist()
    assert [None if e < 0 else numbered[int(e)].as_py() for e in entity] == names
    assert len(set(numbered.to_pylist())) == len(numbered)


@given(st.integers(1, 39), st.sampled_from(["full", "diagonal"]))
@settings(max_examples=10)
def test_evidence_of_two_parts_is_that_of_the_whole(cut, precision):
    rows = examples(40, users=4, outcome=Outcome.NORMAL)
    how = replace(USER, prior_variance=0.7, precision=precision)

    def learned(some, start):
        coordinate = RandomCoordinate(some, how, start, anchored=start is not None)
        target = Target(Outcome.NORMAL, some.response, some.weight / 0.3)
        coordinate.update(target, some.offset, prior_steps=1, threads=1)
        return coordinate.effect(threads=1)

    whole = learned(rows, None)
    parts = learned(rows.take(np.arange(cut, 40)), learned(rows.take(np.arange(cut)), None))
    for name in whole.names.to_pylist():
        one, other = whole.belief(name)[0], parts.belief(name)[0]
        order = [parts.registry.column(*key) for key in _keys(whole)]
        at = {column: i for i, column in enumerate(parts.belief(name)[1].tolist())}
        place = [at[order[column]] for column in whole.belief(name)[1].tolist()]
        if precision == "full":
            np.testing.assert_allclose(other.mean[place], one.mean, atol=1e-9)
            np.testing.assert_allclose(other.precision[np.ix_(place, place)], one.precision, atol=1e-9)
        else:
            np.testing.assert_allclose(other.precision[place], one.precision, atol=1e-9)


def _keys(effect):
    table = effect.registry.to_table()
    return list(zip(*(table.column(name).to_pylist() for name in ("bag", "name", "term")), strict=True))


def test_a_locked_fixed_effect_without_a_start_is_nothing():
    rows = examples(20)
    coordinate = FixedCoordinate(rows, FixedSettings(("b",), locked=True), None, anchored=False)
    coordinate.update(Target(Outcome.BERNOULLI, rows.response, rows.weight), rows.offset, np.zeros(20), 1)
    np.testing.assert_array_equal(coordinate.contribution(), np.zeros(20))


def test_the_fixed_effect_says_when_its_fit_has_no_finite_optimum():
    rows = examples(40)
    separated = replace(rows, response=(rows.bags["b"].matrix[:, [0]].toarray().ravel() > 0.0).astype(float))
    coordinate = FixedCoordinate(separated, FixedSettings(("b",), l2=0.0), None, anchored=False)
    target = Target(Outcome.BERNOULLI, separated.response, separated.weight)
    coordinate.update(target, np.zeros(40), np.zeros(40), 1)
    assert "give l2 > 0" in coordinate.unsettled
    held = FixedCoordinate(separated, SETTINGS.fixed, None, anchored=False)
    held.update(target, np.zeros(40), np.zeros(40), 1)
    assert held.unsettled is None

"""The table gives back what was put, and rows grouped for a step are the rows asked for."""

import numpy as np
import pytest
from scipy.sparse import random_array

from nearline.posterior.blocks import group_rows, stack
from nearline.posterior.gaussian import Gaussian
from nearline.stream.effect_rows import EffectRows
from nearline.stream.known_table import WHOLE_COLUMNS, KnownTable
from nearline.stream.update import NEVER, Known


@pytest.mark.parametrize("columns", [3, WHOLE_COLUMNS + 1])
@pytest.mark.parametrize("full", [True, False])
def test_what_is_put_comes_back_in_any_order(columns: int, full: bool) -> None:
    rng = np.random.default_rng(0)
    table = KnownTable(columns, full=full)
    size = columns if columns == 3 else 2
    column = np.arange(size, dtype=np.int32)
    one = [rng.normal(size=(size, size) if full else size) for _ in range(3)]
    precision = [a @ a.T if full else a**2 for a in one]
    evidence = stack([Gaussian(rng.normal(size=size), p) for p in precision], [column] * 3)
    table.put(np.array([5, 200, 1]), Known(evidence, np.array([10, 20, 30])))
    back = table.take(np.array([1, 7, 5, 5]))
    assert back.as_of_ms.tolist() == [30, NEVER, 10, 10]
    np.testing.assert_array_equal(back.evidence.belief(0).precision, evidence.belief(2).precision)
    np.testing.assert_array_equal(back.evidence.belief(3).mean, evidence.belief(0).mean)
    assert not np.any(back.evidence.belief(1).mean)


def test_rows_of_a_step_are_the_rows_asked_for() -> None:
    rng = np.random.default_rng(1)
    matrix = random_array((50, 6), density=0.4, rng=rng, format="csr")
    entity = rng.integers(-1, 5, 50)
    some = rng.permutation(50)[:20]
    got = EffectRows(matrix, entity).at(some)
    want = group_rows(matrix[some], np.searchsorted(np.unique(entity[some]), entity[some]) - 1, 5)
    assert want.row is not None
    assert got.rows.row is not None
    np.testing.assert_array_equal(got.rows.row, want.row)
    np.testing.assert_array_equal(got.rows.values, matrix[some].tocsr().data)
    np.testing.assert_array_equal(got.entity, np.unique(entity[some])[1:])


def test_grouped_by_time_an_entity_comes_once_for_each_of_its_times() -> None:
    matrix = random_array((6, 2), density=1.0, rng=np.random.default_rng(2), format="csr")
    rows = EffectRows(matrix, np.array([0, 0, 1, 0, -1, 1]))
    got = rows.at(np.arange(6), np.array([1, 2, 3, 1, 4, 3]))
    assert got.entity.tolist() == [0, 0, 1]
    assert got.time_ms.tolist() == [1, 2, 3]
    assert got.rows.row_start.tolist() == [0, 2, 3, 5]

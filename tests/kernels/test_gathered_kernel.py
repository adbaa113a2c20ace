"""Candidates scored by places in tables: as their rows and beliefs say, made one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline.kernels import _posterior
from nearline.kernels._names import Names
from nearline.posterior.blocks import pack

FORMS = ("of all", "of each", "by entry")


def problem(seed, count, columns, full, slots):
    """Parts of every form, kept rows and beliefs at random."""
    rng = np.random.default_rng(seed)
    parts = []
    for form in rng.choice(FORMS, rng.integers(0, 4)):
        known = int(rng.integers(1, 6))
        table = rng.integers(-1, columns, known + 1)
        table[-1] = -1  # of what is unknown
        m = int(rng.integers(0, 5)) if form != "by entry" else int(rng.integers(0, 2 * count))
        number = rng.integers(-1, known, m)
        shape = {"of all": (1, m), "of each": (count, m), "by entry": (m,)}[form]
        row = rng.integers(0, count, m) if form == "by entry" else None
        parts.append((table, number, rng.normal(size=shape), row))
    kept, at = None, None
    if rng.integers(2):
        kept, at = rng.normal(size=(4, columns)), rng.integers(-1, 4, count)
    mean = rng.normal(size=(slots, columns))
    root = rng.normal(size=(slots, columns, columns + 1))
    precision = root @ root.transpose(0, 2, 1) + np.eye(columns)
    numbers = np.array([pack(one) if full else np.diag(one) for one in precision])
    if not full:
        precision = np.array([np.diag(np.diag(one)) for one in precision])
    slot = rng.integers(0, slots, count if rng.integers(2) else 1)
    places = rng.integers(0, count, rng.integers(1, count + 1)) if rng.integers(2) else None
    return parts, kept, at, mean, numbers, precision, slot, places


def plain_rows(parts, kept, at, count, columns):
    """The definition, feature by feature."""
    x = np.zeros((count, columns))
    x[:, 0] = 1.0
    for c in range(count):
        if kept is not None and at[c] >= 0:
            x[c] += kept[at[c]]
        for table, number, values, row in parts:
            for j, n in enumerate(number):
                if table[n] < 0:
                    continue
                if row is None:
                    x[c, table[n]] += values[c if len(values) > 1 else 0, j]
                elif row[j] == c:
                    x[c, table[n]] += values[j]
    return x


PROBLEM = {
    "seed": st.integers(0, 2**32 - 1),
    "count": st.integers(2, 9),
    "columns": st.integers(1, 20),
    "full": st.booleans(),
    "slots": st.integers(1, 4),
}


@given(**PROBLEM)
def test_scores_are_those_of_rows_and_beliefs_made_one_by_one(seed, count, columns, full, slots):
    parts, kept, at, mean, numbers, precision, slot, places = problem(seed, count, columns, full, slots)
    expected = plain_rows(parts, kept, at, count, columns)
    x = np.empty((count, columns))
    _posterior.gather_rows(parts, kept, at, count, columns, x)
    np.testing.assert_allclose(x, expected, rtol=1e-12, atol=1e-12)
    wanted = np.arange(count) if places is None else places
    of_each = np.broadcast_to(slot, (count,))[wanted]
    score, variance = np.empty(len(wanted)), np.empty(len(wanted))
    arguments = (parts, kept, at, count, mean, numbers, slot, columns, full, places)
    assert _posterior.score_gathered(*arguments, score, variance) == -1
    np.testing.assert_allclose(score, np.einsum("ij,ij->i", expected[wanted], mean[of_each]), atol=1e-9)
    solved = [x @ np.linalg.solve(precision[s], x) for x, s in zip(expected[wanted], of_each, strict=True)]
    np.testing.assert_allclose(variance, solved, rtol=1e-7, atol=1e-12)
    alone = np.empty(len(wanted))
    assert _posterior.score_gathered(*arguments, alone, None) == -1
    np.testing.assert_array_equal(alone, score)


@given(**PROBLEM)
def test_the_fixed_effect_is_the_sum_of_coefficients_and_values(seed, count, columns, full, slots):
    parts, kept, at, *_ = problem(seed, count, columns, full, slots)
    rng = np.random.default_rng(seed)
    expected = rng.normal(size=count)
    out = expected.copy()
    coefficients = [
        (rng.normal(size=len(table)), number, values, row) for table, number, values, row in parts
    ]
    for table, number, values, row in coefficients:
        if row is None:
            expected += np.broadcast_to(values @ table[number], (count,))
        else:
            np.add.at(expected, row, table[number] * values)
    if kept is not None:
        kept = kept[:, 0].copy()
        expected += np.where(at >= 0, kept[at], 0.0)
    _posterior.add_linear(coefficients, kept, at, out)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)


def good():
    part = (np.array([1, 0, -1]), np.array([0, -1]), np.ones((3, 2)), None)
    return {
        "parts": [part],
        "kept": np.ones((2, 2)),
        "at": np.array([0, 1, -1]),
        "count": 3,
        "mean": np.ones((2, 2)),
        "precision": np.ones((2, 2)),
        "slots": np.array([0, 1, 1]),
        "columns": 2,
        "full": False,
        "places": np.array([2, 0]),
        "mean_out": np.empty(2),
        "variance_out": np.empty(2),
    }


def test_a_belief_that_is_not_positive_definite_is_named():
    wrong = good() | {"precision": np.array([[1.0, 1.0], [1.0, -1.0]])}
    assert _posterior.score_gathered(**good()) == -1
    assert _posterior.score_gathered(**wrong) == 1


table, number, values = np.array([1, 0, -1]), np.array([0, -1]), np.ones((3, 2))


@pytest.mark.parametrize(
    "changed",
    [
        {"parts": [(table, number, values)]},
        {"parts": [(table, np.array([0, 2]), values, None)]},
        {"parts": [(table, np.array([0, -2]), values, None)]},
        {"parts": [(np.array([2, 0, -1]), number, values, None)]},
        {"parts": [(table[:0], number, values, None)]},
        {"parts": [(table, number, np.ones((2, 2)), None)]},
        {"parts": [(table, number, np.ones(2), np.array([0, 3]))]},
        {"parts": [(table, number, np.ones(2), np.array([0]))]},
        {"parts": [(table.astype(np.int32), number, values, None)]},
        {"at": np.array([0, 2, -1])},
        {"at": np.array([0, -2, -1])},
        {"at": np.array([0, 1])},
        {"at": None},
        {"kept": np.ones(3)},
        {"mean": np.ones(3)},
        {"precision": np.ones(3)},
        {"full": True},
        {"slots": np.array([0, 2, 1])},
        {"slots": np.array([0, -1, 1])},
        {"slots": np.array([0, 1])},
        {"columns": 0},
        {"columns": -1},
        {"places": np.array([3, 0])},
        {"places": np.array([-1, 0])},
        {"places": None},
        {"mean_out": np.empty(3)},
        {"variance_out": np.empty(1)},
    ],
)
def test_arguments_that_do_not_fit_are_refused(changed):
    with pytest.raises(ValueError, match=r"."):
        _posterior.score_gathered(**(good() | changed))


def test_an_effect_without_columns_is_refused() -> None:
    names, beliefs, numbers, slots = Names(), np.ones(4), np.zeros(8), np.zeros(1, np.int64)
    names.put("a", 0)
    effect = ([], beliefs, beliefs, beliefs, 0, False, names, np.zeros(1, np.uint8), slots, None)
    with pytest.raises(ValueError, match="has an intercept"):
        _posterior.highest(
            ["a"], [], None, slots, 0.0, [effect], numbers[:1], 0.0, slots.copy(), slots.copy(), numbers
        )

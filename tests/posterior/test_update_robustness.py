"""Bad rows, bad beliefs, empty and odd shapes: what is left is learned, and nothing crashes."""

import resource
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import Problem, assert_identical, assert_same, brief, draw, fit, outcomes, problems, sparse

from nearline.errors import DataError
from nearline.posterior import Gaussian, Outcome, Status, group_rows, reference, update_many, update_one
from nearline.posterior.blocks import share, stack
from nearline.posterior.update import Labels, Method

BAD = {
    "response": [np.nan, np.inf, -np.inf],
    "feature": [np.nan, np.inf, -np.inf],
    "weight": [np.nan, np.inf, -np.inf, -1.0, -1e-300],
    "offset": [np.nan, np.inf, -np.inf],
}


def spoil(problem: Problem, where: str, value: float, row: int) -> Problem:
    field = {"response": "y", "feature": "x"}.get(where, where)
    array = getattr(problem, field).copy()
    array[(row, -1) if where == "feature" else row] = value
    return replace(problem, **{field: array})


def learned_without(problem: Problem, row: int, *, is_sparse: bool) -> None:
    """The spoilt row is reported, and the rest is learned to the last bit as if it were absent."""
    labels = Labels(problem.y, problem.weight, problem.offset)
    features = sparse(problem.x) if is_sparse else problem.x
    full = not problem.belief.is_diagonal
    done = update_many(group_rows(features), labels, share(problem.belief), problem.outcome, full=full)
    np.testing.assert_array_equal(done.set_aside, np.arange(problem.n) == row)
    clean = problem.rows(np.arange(problem.n) != row)
    features = sparse(clean.x) if is_sparse else clean.x
    labels = Labels(clean.y, clean.weight, clean.offset)
    alone = update_many(group_rows(features), labels, share(problem.belief), problem.outcome, full=full)
    assert_identical(done.beliefs.belief(0), alone.beliefs.belief(0))
    assert done.report.status[0] == alone.report.status[0]


@pytest.mark.parametrize(("where", "value"), [(w, v) for w, values in BAD.items() for v in values])
@brief
@given(problem=problems(rows=(2, 20)), row=st.integers(0, 100), is_sparse=st.booleans())
def test_a_row_with_a_value_not_allowed_is_set_aside_and_the_rest_learned(
    where: str, value: float, problem: Problem, row: int, is_sparse: bool
) -> None:
    row %= problem.n
    learned_without(spoil(problem, where, value, row), row, is_sparse=is_sparse)


@pytest.mark.parametrize(
    ("outcome", "value"),
    [
        (Outcome.BERNOULLI, -1e-9),
        (Outcome.BERNOULLI, 1.0 + 1e-9),
        (Outcome.BERNOULLI, 2.0),
        (Outcome.POISSON, -1e-9),
        (Outcome.POISSON, -3.0),
    ],
)
def test_a_response_outside_its_family_is_set_aside(outcome: Outcome, value: float) -> None:
    learned_without(spoil(draw(1, 8, 3, outcome), "response", value, 5), 5, is_sparse=False)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_an_entity_whose_rows_are_all_bad_keeps_its_belief(outcome: Outcome) -> None:
    problem = draw(2, 3, 4, outcome)
    belief, status = update_one(problem.belief, problem.x, np.full(3, np.nan), outcome)
    assert status is Status.NO_ROWS
    assert belief is problem.belief


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("offset", [-800.0, 800.0])
def test_offsets_beyond_the_range_of_exp_stay_finite(method: Method, outcome: Outcome, offset: float) -> None:
    problem = replace(draw(4, 10, 3, outcome), offset=np.full(10, offset))
    belief, status = update_one(
        problem.belief, problem.x, problem.y, outcome, offset=problem.offset, method=method
    )
    assert np.isfinite(belief.mean).all()
    assert np.isfinite(belief.precision).all()
    assert status in {Status.LEARNED, Status.NOT_CONVERGED}
    if status is Status.NOT_CONVERGED:
        assert outcome is Outcome.POISSON
        assert belief is problem.belief


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("full", [True, False], ids=["full", "diagonal"])
def test_features_that_are_all_zero_teach_nothing(outcome: Outcome, full: bool) -> None:
    problem = draw(5, 6, 4, outcome, full=full)
    for features in (np.zeros((6, 4)), sparse(np.zeros((6, 4)))):
        assert_identical(fit(problem, features=features), problem.belief)


def test_entities_without_rows_keep_their_beliefs() -> None:
    beliefs = [draw(e, 0, 3, Outcome.NORMAL).belief for e in range(4)]
    rows = group_rows(np.ones((2, 3)), np.array([2, 2]), 4)
    done = update_many(rows, Labels(np.ones(2)), stack(beliefs), Outcome.NORMAL)
    assert done.report.status.tolist() == [Status.NO_ROWS, Status.NO_ROWS, Status.LEARNED, Status.NO_ROWS]
    for e in (0, 1, 3):
        assert_identical(done.beliefs.belief(e), beliefs[e])


def test_no_entities_and_no_rows_are_no_error() -> None:
    rows = group_rows(np.zeros((0, 3)), np.zeros(0, np.int64), 0)
    for threads in (1, 4):
        done = update_many(
            rows,
            Labels(np.zeros(0)),
            share(draw(0, 0, 3, Outcome.NORMAL).belief),
            Outcome.NORMAL,
            threads=threads,
        )
        assert done.beliefs.entities == 0
        assert done.report.count(Status.LEARNED) == 0


def test_no_columns_are_no_error() -> None:
    nothing = Gaussian(np.zeros(0), np.zeros((0, 0)))
    belief, status = update_one(nothing, np.zeros((3, 0)), np.ones(3), Outcome.NORMAL)
    assert status is Status.LEARNED
    assert belief.mean.shape == (0,)


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize(
    "precision",
    [
        np.array([1.0, 0.0, 1.0]),
        np.array([1.0, -0.5, 1.0]),
        np.array([1.0, np.nan, 1.0]),
        np.array([1.0, np.inf, 1.0]),
        np.diag([1.0, 0.0, 1.0]),
        np.diag([1.0, -0.5, 1.0]),
        np.diag([1.0, np.nan, 1.0]),
        np.array([[1.0, 9.0, 0.0], [9.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    ],
    ids=["zero", "negative", "nan", "inf", "zero full", "negative full", "nan full", "indefinite"],
)
def test_a_prior_that_is_not_positive_definite_is_refused_and_kept(
    method: Method, outcome: Outcome, is_sparse: bool, precision: np.ndarray
) -> None:
    belief = Gaussian(np.array([0.1, 0.2, 0.3]), precision)
    x = np.random.default_rng(0).normal(size=(12, 3))
    features = sparse(x) if is_sparse else x
    full = precision.ndim == 2
    labels = Labels(np.ones(12))
    done = update_many(
        group_rows(features), labels, share(belief), outcome, full=full, method=method, max_steps=50
    )
    assert done.report.status[0] == Status.NOT_POSITIVE_DEFINITE
    kept = done.beliefs.belief(0)
    np.testing.assert_array_equal(kept.mean, belief.mean)
    np.testing.assert_array_equal(kept.precision, belief.precision)


def test_an_entity_that_fails_does_not_spoil_its_neighbours() -> None:
    good = draw(1, 4, 3, Outcome.NORMAL)
    bad = Gaussian(good.belief.mean, -np.eye(3))
    rows = group_rows(np.tile(good.x, (3, 1)), np.repeat([0, 1, 2], 4), 3)
    labels = Labels(np.tile(good.y, 3), np.tile(good.weight, 3), np.tile(good.offset, 3))
    done = update_many(rows, labels, stack([good.belief, bad, good.belief]), Outcome.NORMAL)
    assert done.report.status.tolist() == [Status.LEARNED, Status.NOT_POSITIVE_DEFINITE, Status.LEARNED]
    assert_identical(done.beliefs.belief(0), fit(good))
    assert_identical(done.beliefs.belief(1), bad)
    assert_identical(done.beliefs.belief(2), fit(good))


@brief
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(0, 12),
    d=st.integers(1, 12),
    outcome=outcomes,
    full=st.booleans(),
    exponents=st.tuples(*[st.integers(-320, 308)] * 4),
)
def test_values_of_any_size_end_in_a_status_and_a_sound_belief(
    seed: int, n: int, d: int, outcome: Outcome, full: bool, exponents: tuple[int, int, int, int]
) -> None:
    problem = draw(seed, n, d, outcome, full=full)
    with np.errstate(all="ignore"):
        sizes = 10.0 ** np.array(exponents, dtype=float)
        problem = replace(
            problem,
            x=problem.x * sizes[0],
            weight=problem.weight * sizes[1],
            offset=problem.offset * sizes[2],
            belief=Gaussian(problem.belief.mean, problem.belief.precision * sizes[3]),
        )
    for method in Method:
        for features in (problem.x, sparse(problem.x)):
            belief, status = update_one(
                problem.belief,
                features,
                problem.y,
                outcome,
                weight=problem.weight,
                offset=problem.offset,
                method=method,
            )
            if status is Status.LEARNED:
                assert np.isfinite(belief.mean).all()
                assert np.isfinite(belief.precision).all()
            else:
                assert belief is problem.belief


@pytest.mark.parametrize("full", [True, False], ids=["full", "diagonal"])
def test_ten_thousand_ragged_entities_are_learned_each_by_itself(full: bool) -> None:
    rng = np.random.default_rng(7)
    entity = np.repeat(np.arange(10_000), rng.poisson(2.0, 10_000))
    rng.shuffle(entity)
    problem = draw(7, len(entity), 6, Outcome.BERNOULLI, full=full)
    rows = group_rows(problem.x, entity, 10_000)
    labels = Labels(problem.y, problem.weight, problem.offset)
    done = update_many(rows, labels, share(problem.belief), Outcome.BERNOULLI, full=full, threads=2)
    assert done.report.count(Status.LEARNED) == len(np.unique(entity))
    assert done.report.count(Status.NO_ROWS) == 10_000 - len(np.unique(entity))
    for e in range(0, 10_000, 500):
        own = problem.rows(entity == e)
        exact = reference.update(own.belief, own.x, own.y, own.outcome, own.weight, own.offset)
        assert_same(done.beliefs.belief(e), exact, 1e-9)


def test_a_feature_outside_the_block_is_said_and_the_belief_kept() -> None:
    belief = draw(0, 0, 2, Outcome.NORMAL).belief
    prior = stack([belief], [np.array([1, 3], np.int32)])
    rows = group_rows(sparse(np.eye(5)))
    done = update_many(rows, Labels(np.ones(5)), prior, Outcome.NORMAL)
    assert done.report.status[0] == Status.FEATURE_OUTSIDE_BLOCK
    assert_identical(done.beliefs.belief(0), belief)


def test_without_steps_to_take_an_update_says_so() -> None:
    problem = draw(0, 5, 3, Outcome.BERNOULLI)
    labels = Labels(problem.y)
    for method in Method:
        done = update_many(
            group_rows(problem.x),
            labels,
            share(problem.belief),
            problem.outcome,
            max_steps=0,
            method=method,
        )
        assert done.report.status[0] == Status.NOT_CONVERGED
        assert_identical(done.beliefs.belief(0), problem.belief)


def test_features_of_an_unfit_form_are_refused() -> None:
    with pytest.raises(DataError, match="rows by columns"):
        group_rows(np.ones(3))
    with pytest.raises(DataError, match="CSR"):
        group_rows(sparse(np.eye(3)).tocsc())


def in_a_process_short_of_memory(program: str) -> subprocess.CompletedProcess[str]:
    """Run with some 200 MB of address space to spare."""
    limit = """
import resource
pages = int(open('/proc/self/statm').read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 200 * 2**20,) * 2)
"""
    imports = """
import numpy as np
from nearline.posterior import *
from nearline.posterior.blocks import share
from nearline.posterior.update import Labels, Method
"""
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", imports + limit + program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.skipif(
    not hasattr(resource, "RLIMIT_AS") or sys.platform != "linux", reason="needs Linux limits"
)
def test_threads_the_system_refuses_are_done_without() -> None:
    done = in_a_process_short_of_memory("""
rows = group_rows(np.ones((300, 2)), np.arange(300), 300)
prior = share(Gaussian(np.zeros(2), np.eye(2)))
print(update_many(rows, Labels(np.ones(300)), prior, Outcome.NORMAL, threads=200).report.count(Status.LEARNED))
""")
    assert (done.returncode, done.stdout) == (0, "300\n"), done.stderr


@pytest.mark.skipif(
    not hasattr(resource, "RLIMIT_AS") or sys.platform != "linux", reason="needs Linux limits"
)
def test_memory_that_runs_out_in_a_thread_is_an_error_in_python() -> None:
    done = in_a_process_short_of_memory("""
rows = group_rows(np.ones((9000, 1)), np.arange(9000) // 8000, 2)
prior = share(Gaussian(np.zeros(1), np.eye(1)))
try:
    update_many(rows, Labels(np.ones(9000)), prior, Outcome.NORMAL, method=Method.DUAL, threads=2)
except MemoryError:
    print("MemoryError")
""")
    assert (done.returncode, done.stdout) == (0, "MemoryError\n"), done.stderr


def unaligned(array):
    room = np.empty(array.nbytes + 1, np.uint8)
    moved = room[1:].view(array.dtype).reshape(array.shape)
    moved[:] = array
    return moved


FORMS = {
    "the other byte order": lambda array: array.astype(array.dtype.newbyteorder()),
    "by columns": np.asfortranarray,
    "every second": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "whole numbers": lambda array: array.astype(np.int32),
    "half precision": lambda array: array.astype(np.float16),
    "unaligned": unaligned,
}


@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_other_forms_are_read_as_what_they_hold(form):
    belief, x, y = Gaussian(np.zeros(2), np.eye(2)), np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([1.0, 0.0])
    expected, _ = update_one(belief, x, y, Outcome.BERNOULLI)
    found, status = update_one(belief, FORMS[form](x), FORMS[form](y), Outcome.BERNOULLI)
    assert status is Status.LEARNED
    np.testing.assert_array_equal(found.mean, expected.mean)


@pytest.mark.parametrize(
    "wrong", [[1.0, 0.0], np.array(["1", "0"]), np.array([1j, 0.0]), np.array([1, 0], object)]
)
def test_what_is_no_array_of_real_numbers_is_refused(wrong):
    belief = Gaussian(np.zeros(2), np.eye(2))
    with pytest.raises(ValueError, match="real numbers"):
        update_one(belief, np.eye(2), wrong, Outcome.BERNOULLI)

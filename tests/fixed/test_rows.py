"""The passes over sparse rows against dense NumPy, and what they promise about threads and bad input."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array, random_array

from nearline.kernels._rows import Rows
from nearline.posterior import outcomes
from nearline.posterior.outcomes import Outcome


def sparse(n: int, p: int, density: float, seed: int) -> csr_array:
    return random_array((n, p), density=density, format="csr", rng=np.random.default_rng(seed))


def kernel(x: csr_array) -> Rows:
    return Rows(x.indptr.astype(np.int64), x.indices.astype(np.int32), x.data, x.shape[1])


def response(outcome: Outcome, rng: np.random.Generator, n: int) -> np.ndarray:
    match outcome:
        case Outcome.BERNOULLI:
            return rng.integers(0, 2, n).astype(float)
        case Outcome.NORMAL:
            return rng.normal(size=n)
        case Outcome.POISSON:
            return rng.poisson(3.0, n).astype(float)


@given(
    st.integers(0, 40), st.integers(1, 30), st.floats(0, 1), st.sampled_from(Outcome), st.integers(0, 10_000)
)
def test_passes_agree_with_dense_matrices(n, p, density, outcome, seed):
    x, rng = sparse(n, p, density, seed), np.random.default_rng(seed)
    rows, dense = kernel(x), x.toarray()
    b, offset, weight = rng.normal(size=p), rng.normal(size=n), rng.exponential(size=n)
    y = response(outcome, rng, n)
    eta = dense @ b + offset
    slope, curvature = weight * (outcomes.mean(outcome, eta) - y), weight * outcomes.curvature(outcome, eta)
    loss, gradient, found_curvature, margin = rows.loss(b, offset, y, weight, int(outcome))
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(loss, np.sum(weight * outcomes.loss(outcome, y, eta)), **close)
    np.testing.assert_allclose(gradient, dense.T @ slope, **close)
    np.testing.assert_allclose(found_curvature, curvature, **close)
    np.testing.assert_allclose(margin, eta, **close)
    np.testing.assert_allclose(rows.margins(b, offset), eta, **close)
    np.testing.assert_allclose(
        rows.curvature_product(curvature, b), dense.T @ (curvature * (dense @ b)), **close
    )
    np.testing.assert_allclose(rows.curvature_diagonal(curvature), curvature @ dense**2, **close)
    np.testing.assert_allclose(rows.curvature_matrix(curvature), (dense.T * curvature) @ dense, **close)


def large(dtype: type = np.float64) -> tuple[Rows, np.ndarray, np.ndarray, np.ndarray]:
    x, rng = sparse(20_000, 500, 0.02, 1), np.random.default_rng(2)
    x.data = x.data.astype(dtype)
    return kernel(x), rng.normal(size=500), rng.normal(size=20_000), rng.integers(0, 2, 20_000).astype(float)


def test_any_number_of_threads_gives_the_same_bits():
    rows, b, offset, y = large()
    one = [*rows.loss(b, offset, y, np.ones_like(y), 0, threads=1)]
    c = one[2]
    one += [rows.curvature_product(c, b), rows.curvature_diagonal(c), rows.curvature_matrix(c)]
    for threads in (2, 3, 7, 64):
        many = [*rows.loss(b, offset, y, np.ones_like(y), 0, threads=threads)]
        many += [
            rows.curvature_product(c, b, threads=threads),
            rows.curvature_diagonal(c, threads=threads),
            rows.curvature_matrix(c, threads=threads),
        ]
        for a, other in zip(one, many, strict=True):
            assert np.asarray(a).tobytes() == np.asarray(other).tobytes()


def test_python_threads_may_share_one_matrix():
    rows, b, offset, _ = large()
    expected = rows.margins(b, offset)
    found: list[np.ndarray] = []
    workers = [
        threading.Thread(target=lambda: found.append(rows.margins(b, offset, threads=2))) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    assert all(np.array_equal(expected, each) for each in found)


def test_single_precision_values_are_read_as_they_are():
    single, b, offset, y = large(np.float32)
    x = sparse(20_000, 500, 0.02, 1)
    x.data = x.data.astype(np.float32).astype(np.float64)
    double = kernel(x)
    weight = np.ones_like(y)
    for a, other in zip(
        single.loss(b, offset, y, weight, 0), double.loss(b, offset, y, weight, 0), strict=True
    ):
        np.testing.assert_array_equal(a, other)


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("eta", [-800.0, -30.0, 0.0, 30.0, 800.0])
def test_losses_are_finite_and_right_far_out(outcome, eta):
    rows = kernel(csr_array(np.array([[1.0]])))
    for y in (0.0, 1.0):
        loss, gradient, curvature, _ = rows.loss(
            np.array([eta]), np.zeros(1), np.array([y]), np.ones(1), int(outcome)
        )
        at = np.array([eta])
        assert np.isfinite([loss, gradient[0], curvature[0]]).all()
        np.testing.assert_allclose(loss, outcomes.loss(outcome, np.array([y]), at)[0], rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(curvature[0], outcomes.curvature(outcome, at)[0], rtol=1e-13, atol=1e-300)


def test_a_sure_and_right_prediction_keeps_its_small_loss_and_slope():
    rows = kernel(csr_array(np.array([[1.0]])))
    loss, gradient, _, _ = rows.loss(np.array([100.0]), np.zeros(1), np.ones(1), np.ones(1), 0)
    np.testing.assert_allclose([loss, gradient[0]], [np.exp(-100.0), -np.exp(-100.0)], rtol=1e-13)


def test_a_row_of_weight_zero_is_absent_even_where_it_overflows():
    rows = kernel(csr_array(np.array([[1.0], [1.0]])))
    y, offset = np.array([0.0, 1.0]), np.array([1e308, 0.0])
    loss, gradient, curvature, _ = rows.loss(np.array([0.5]), offset, y, np.array([0.0, 1.0]), 1)
    assert (loss, gradient[0], curvature[0]) == (0.125, -0.5, 0.0)


@pytest.mark.parametrize(
    ("indptr", "indices", "values", "columns", "message"),
    [
        ([0, 1], [3], [1.0], 3, "indices"),
        ([0, 1], [-1], [1.0], 3, "indices"),
        ([0, 2, 1], [0], [1.0], 3, "decrease"),
        ([0, 2], [0], [1.0], 3, "indptr"),
        ([1, 1], [0], [1.0], 3, "indptr"),
        ([], [], [], 3, "indptr"),
        ([0, 1], [0], [1.0, 2.0], 3, "values"),
        ([0, 1], [0], [np.nan], 3, "finite"),
        ([0, 1], [0], [np.inf], 3, "finite"),
        ([0, 0], [], [], 0, "columns"),
    ],
)
def test_wrong_rows_are_refused(indptr, indices, values, columns, message):
    with pytest.raises(ValueError, match=message):
        Rows(np.array(indptr, np.int64), np.array(indices, np.int32), np.array(values, np.float64), columns)


def test_vectors_of_a_wrong_length_are_refused():
    rows = kernel(sparse(4, 3, 1.0, 0))
    with pytest.raises(ValueError, match="coefficients: expected length 3, got 2"):
        rows.margins(np.zeros(2), np.zeros(4))
    with pytest.raises(ValueError, match="curvature"):
        rows.curvature_product(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="outcome"):
        rows.loss(np.zeros(3), np.zeros(4), np.zeros(4), np.ones(4), 3)


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("count", [1, 63, 64, 65, 131])
def test_losses_of_whole_and_broken_blocks_of_rows_are_exact(outcome, count):
    eta = np.concatenate([[0.0, -0.0, 1e-9, -40.0, 40.0, -690.0, 690.0], np.linspace(-30.0, 30.0, 131)])[
        :count
    ]
    y = np.where(np.arange(count) % 3 == 0, 0.25, np.arange(count) % 2)
    rows = Rows(np.arange(count + 1), np.zeros(count, np.int32), np.ones(count), 1)
    loss, gradient, curvature, margin = rows.loss(np.zeros(1), eta, y, np.ones(count), int(outcome))
    np.testing.assert_array_equal(margin, eta)
    np.testing.assert_allclose(curvature, outcomes.curvature(outcome, eta), rtol=1e-14)
    np.testing.assert_allclose(loss, outcomes.loss(outcome, y, eta).sum(), rtol=1e-13)
    np.testing.assert_allclose(gradient[0], np.sum(outcomes.mean(outcome, eta) - y), rtol=1e-13, atol=1e-12)

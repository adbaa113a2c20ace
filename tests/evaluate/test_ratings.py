"""Predictions that are averaged while a stream is walked depend on the rows before alone."""

import numpy as np
from benchmarks.ratings import averaged
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm


def some(seed: int, rows: int, alternatives: int) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=rows)
    return y, [y * rng.uniform() + rng.normal(size=rows) for _ in range(alternatives)]


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 4), st.floats(0.1, 5.0))
def test_a_row_and_those_after_it_have_no_say_in_its_prediction(
    seed: int, rows: int, alternatives: int, noise: float
) -> None:
    y, predicted = some(seed, rows, alternatives)
    at = seed % rows
    other = np.where(np.arange(rows) < at, y, y + 3.0)
    before, after = (
        averaged(y, predicted, noise_variance=noise),
        averaged(other, predicted, noise_variance=noise),
    )
    np.testing.assert_array_equal(before[0][: at + 1], after[0][: at + 1])
    np.testing.assert_array_equal(before[1][:, : at + 1], after[1][:, : at + 1])


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 4), st.floats(0.5, 5.0))
def test_shares_are_the_posterior_of_alternatives_that_are_equally_likely_at_first(
    seed: int, rows: int, alternatives: int, noise: float
) -> None:
    y, predicted = some(seed, rows, alternatives)
    mean, share = averaged(y, predicted, noise_variance=noise)
    for row in range(rows):
        density = [norm.pdf(y[:row], one[:row], np.sqrt(noise)).prod() for one in predicted]
        posterior = np.array(density) / np.sum(density)
        np.testing.assert_allclose(share[:, row], posterior, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(mean[row], posterior @ [one[row] for one in predicted], rtol=1e-9)


def test_a_worse_prediction_loses_its_share() -> None:
    y = np.zeros(200)
    mean, share = averaged(y, [np.full(200, 0.1), np.full(200, 1.0)], noise_variance=1.0)
    np.testing.assert_allclose(share[:, 0], 0.5)
    assert mean[0] == 0.55
    np.testing.assert_allclose(mean[-1], 0.1)

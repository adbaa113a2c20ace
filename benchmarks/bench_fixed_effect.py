"""CPU time of the linear fixed effect to a given test log loss, against scikit-learn's sag and lbfgs.

Rows have an intercept and up to 39 positive features whose ids are drawn by Zipf's law, as clicks on a
catalogue have. All solvers minimise the same objective (logistic loss, L2 of 10, intercept not shrunk) in
double precision.

How the losses are matched: each solver stops early, ours by its tolerance and the peers after a fixed number
of passes, chosen so that a peer's test loss is at best MATCH below ours. The peers are thus given no more
work than they need to draw level, and every run checks that they were not given too much either. Run it with
OPENBLAS_NUM_THREADS=1, which spares the peers the cost of idle BLAS threads.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import csr_array, csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from nearline.arrays import Floats
from nearline.fixed.linear import fit_linear

ROWS, TEST_ROWS, COLUMNS, ENTRIES, L2 = 1_000_000, 200_000, 100_000, 40, 10.0
TOLERANCE = 1e-3
SAG_EPOCHS, LBFGS_ITERATIONS = 11, 220
MATCH = 2e-4
"""Nats a row by which a peer's test loss may be below ours."""
ROUNDS = 3
SAG_BAR, LBFGS_BAR = 1.6, 6.0

Sparse: TypeAlias = "csr_array[Any, tuple[int, int]]"


def draw_rows(rng: np.random.Generator, truth: Floats, rows: int) -> tuple[Sparse, Floats]:
    """Return rows x COLUMNS with ones in column 0, and Bernoulli responses drawn from `truth`."""
    share = np.cumsum(1.0 / np.arange(1, COLUMNS))
    drawn = 1 + np.searchsorted(share, share[-1] * rng.random((rows, ENTRIES - 1)))
    columns = np.zeros((rows, ENTRIES), dtype=np.int32)
    columns[:, 1:] = np.sort(np.minimum(drawn, COLUMNS - 1), axis=1)
    values = rng.exponential(size=(rows, ENTRIES))
    values[:, 0] = 1.0
    starts = np.arange(rows + 1, dtype=np.int64) * ENTRIES
    x = csr_array((values.ravel(), columns.ravel(), starts), shape=(rows, COLUMNS))
    x.sum_duplicates()
    probability = 1.0 / (1.0 + np.exp(-np.asarray(x @ truth)))
    return x, (rng.random(rows) < probability).astype(np.float64)


def without_intercept(x: Sparse) -> Any:
    """Return the features alone, for the peers, which add an intercept of their own."""
    features = csr_matrix(x)[:, 1:]
    features.indptr = features.indptr.astype(np.int32)
    features.indices = features.indices.astype(np.int32)
    return features


def log_loss(score: Floats, y: Floats) -> float:
    return float(np.mean(np.logaddexp(0.0, score) - y * score))


def peer(solver: str, iterations: int, x: Any, y: Floats) -> Floats:
    """Return scikit-learn's coefficients, the intercept first."""
    model = LogisticRegression(C=1.0 / L2, solver=solver, max_iter=iterations, tol=1e-12, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    return np.concatenate([model.intercept_, model.coef_[0]])


def timed(fit: Callable[[], Floats]) -> tuple[float, Floats]:
    """Return CPU seconds, of all threads, and the coefficients."""
    start = time.process_time()
    coefficients = fit()
    return time.process_time() - start, coefficients


def measure() -> tuple[dict[str, float], dict[str, float]]:
    """Return median CPU seconds and test log losses by solver; the solvers take turns."""
    rng = np.random.default_rng(0)
    truth = 0.3 * rng.normal(size=COLUMNS)
    truth[0] = -0.5
    (x, y), (test_x, test_y) = draw_rows(rng, truth, ROWS), draw_rows(rng, truth, TEST_ROWS)
    features = without_intercept(x)
    solvers: dict[str, Callable[[], Floats]] = {
        "nearline": lambda: fit_linear(x, y, l2=L2, tolerance=TOLERANCE).coefficients,
        "sag": lambda: peer("sag", SAG_EPOCHS, features, y),
        "lbfgs": lambda: peer("lbfgs", LBFGS_ITERATIONS, features, y),
    }
    seconds: dict[str, list[float]] = {name: [] for name in solvers}
    losses: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, fit in solvers.items():
            taken, coefficients = timed(fit)
            seconds[name].append(taken)
            losses[name] = log_loss(test_x @ coefficients, test_y)
    return {name: statistics.median(taken) for name, taken in seconds.items()}, losses


def run() -> list[dict[str, object]]:
    """Return rows of name, value, unit, bar, baseline; AssertionError where a peer did too much work."""
    seconds, losses = measure()
    ours = losses["nearline"]
    rows: list[dict[str, object]] = [
        row("CPU time", seconds["nearline"], "s", None, None),
        row("test log loss", ours, "nats", None, None),
    ]
    for name, bar in (("sag", SAG_BAR), ("lbfgs", LBFGS_BAR)):
        assert losses[name] >= ours - MATCH, f"{name}: {losses[name]:.6f} is too far below {ours:.6f}"
        rows.append(row(f"test log loss of {name}", losses[name], "nats", None, ours))
        rows.append(
            row(f"times less CPU than {name}", seconds[name] / seconds["nearline"], "x", bar, seconds[name])
        )
    return rows


def row(name: str, value: float, unit: str, bar: float | None, baseline: float | None) -> dict[str, object]:
    return {"name": f"fixed effect: {name}", "value": value, "unit": unit, "bar": bar, "baseline": baseline}


if __name__ == "__main__":
    for line in run():
        print(line)

"""Another label for what is learned: exact for Normal outcomes, near the refit for Bernoulli ones."""

import numpy as np
from scipy.sparse import csr_array

from nearline.arrays import Floats
from nearline.posterior.blocks import Blocks, group_rows
from nearline.stream.relabel import relabel


def packed(precision: Floats) -> Floats:
    return precision[np.triu_indices(len(precision))]


def block(shift: Floats, precision: Floats, columns: list[int]) -> Blocks:
    size = len(columns)
    start = np.array([0, size], np.int64)
    packed_start = np.array([0, size * (size + 1) // 2], np.int64)
    return Blocks(start, shift, packed(precision), np.array(columns, np.int32), packed_start)


def test_a_normal_row_with_another_label_is_as_if_it_had_been_learned_with_it() -> None:
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=(6, 3)), 0.7
    old = rng.normal(size=6)
    new = old.copy()
    new[4] += 2.5
    evidence = block(x.T @ old / noise, x.T @ x / noise, [0, 2, 5])
    wide = np.zeros((6, 7))
    wide[:, [0, 2, 5]] = x
    rows = group_rows(csr_array(wide[4:5]), np.array([0]))
    changed, could = relabel(evidence, rows, np.array([2.5 / noise]))
    assert could.all()
    np.testing.assert_allclose(changed.mean, x.T @ new / noise, atol=1e-12)
    assert changed.precision is evidence.precision


def mode(x: Floats, y: Floats, prior: Floats) -> tuple[Floats, Floats]:
    """Mode of a logistic posterior with prior N(0, prior^-1), and its precision, by Newton's method."""
    b = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-x @ b))
        precision = prior + x.T @ (x * (p * (1 - p))[:, None])
        b = b - np.linalg.solve(precision, prior @ b - x.T @ (y - p))
    return b, precision


def test_a_late_positive_brings_a_bernoulli_belief_next_to_the_refit() -> None:
    rng = np.random.default_rng(2)
    x = np.column_stack([np.ones(40), rng.normal(size=(40, 2))])
    y = (rng.random(40) < 0.4).astype(float)
    row = int(np.flatnonzero(y == 0)[3])
    right = y.copy()
    right[row] = 1.0
    prior = np.eye(3)
    before, precision = mode(x, y, prior)
    after, _ = mode(x, right, prior)
    evidence = block(precision @ before, precision - prior, [0, 1, 2])
    changed, could = relabel(evidence, group_rows(x[row : row + 1]), np.array([1.0]))
    assert could.all()
    corrected = np.linalg.solve(precision, changed.mean)
    assert np.linalg.norm(corrected - after) < 0.1 * np.linalg.norm(before - after)


def test_a_row_that_its_entity_never_learned_changes_nothing() -> None:
    evidence = block(np.array([1.0, 2.0]), np.eye(2), [0, 3])
    wide = np.zeros((2, 5))
    wide[0, [0, 1]] = 1.0
    wide[1, [0, 3]] = 2.0
    changed, could = relabel(evidence, group_rows(csr_array(wide), np.array([0, 0])), np.array([1.0, 1.0]))
    assert could.tolist() == [False, True]
    np.testing.assert_array_equal(changed.mean, [3.0, 4.0])

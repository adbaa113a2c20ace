"""Requests to test policies with: users and items with beliefs of any form."""

import numpy as np
from scipy.sparse import csr_array

from nearline.bandit import Candidates, EffectTerm, entity_keys
from nearline.posterior import Gaussian, group_rows
from nearline.posterior.blocks import Blocks, stack


def belief(rng: np.random.Generator, d: int, *, diagonal: bool = False, certainty: float = 1.0) -> Gaussian:
    """A random belief about d coefficients, well correlated unless diagonal."""
    if diagonal:
        return Gaussian(rng.normal(size=d), certainty * rng.uniform(0.5, 3.0, d))
    half = rng.normal(size=(d, d + 2))
    return Gaussian(rng.normal(size=d), certainty * (half @ half.T / d + 0.2 * np.eye(d)))


def user_term(
    rng: np.random.Generator, count: int, d: int, *, diagonal: bool = False, name: str = "u1"
) -> EffectTerm:
    """One user, whose belief scores all candidates."""
    rows = group_rows(rng.normal(size=(count, d)))
    return EffectTerm(
        "per-user", rows, stack([belief(rng, d, diagonal=diagonal)]), entity_keys("per-user", [name])
    )


def item_term(rng: np.random.Generator, item: np.ndarray, d: int, *, diagonal: bool = False) -> EffectTerm:
    """Items, candidate c of item[c], each with a belief of its own."""
    items = int(item.max(initial=-1)) + 1
    names = [f"i{i}" for i in range(items)]
    beliefs = stack([belief(rng, d, diagonal=diagonal) for _ in range(items)])
    rows = group_rows(rng.normal(size=(len(item), d)), item.astype(np.int64), items)
    return EffectTerm("per-item", rows, beliefs, entity_keys("per-item", names))


def sparse_term(
    rng: np.random.Generator, count: int, columns: int, *, diagonal: bool = False, taken: int = 6
) -> EffectTerm:
    """One user with sparse features, whose block holds some of the columns."""
    column = np.sort(rng.choice(columns, taken, replace=False)).astype(np.int32)
    dense = np.zeros((count, columns))
    dense[:, column] = rng.normal(size=(count, taken)) * (rng.random((count, taken)) < 0.5)
    one = stack([belief(rng, taken, diagonal=diagonal)], [column])
    return EffectTerm("per-user", group_rows(csr_array(dense)), one, entity_keys("per-user", ["u1"]))


def request(rng: np.random.Generator, count: int, *, d: int = 4, items: int | None = None) -> Candidates:
    """Candidates with an offset, a user and items."""
    items = count if items is None else items
    item = np.concatenate([np.arange(items), rng.integers(items, size=max(count - items, 0))])[:count]
    return Candidates(0.3 * rng.normal(size=count), (user_term(rng, count, d), item_term(rng, item, 3)))


def alone(means: np.ndarray, variances: np.ndarray, names: list[str] | None = None) -> Candidates:
    """Candidates with scores that are independent of each other: one intercept an item."""
    count = len(means)
    blocks = Blocks(np.arange(count + 1, dtype=np.int64), means, 1.0 / variances, full=False)
    keys = entity_keys("per-item", names or [f"i{i}" for i in range(count)])
    rows = group_rows(np.ones((count, 1)), np.arange(count), count)
    return Candidates(np.zeros(count), (EffectTerm("per-item", rows, blocks, keys),))

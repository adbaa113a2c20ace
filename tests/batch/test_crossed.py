"""Beliefs of several random effects beside the joint posterior, as one dense matrix."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from nearline.arrays import Floats, Ints
from nearline.batch.crossed import reduced_weights
from nearline.batch.descent import fit_game
from nearline.batch.settings import FixedSettings, RandomSettings, TrainingSettings
from nearline.model.examples import EntityColumn, Examples
from nearline.model.features import Bag
from nearline.model.game import GameModel
from nearline.posterior import outcomes
from nearline.posterior.outcomes import Outcome

VARIANCE = 0.7


class Data(NamedTuple):
    x: Floats
    user: Ints
    item: Ints
    examples: Examples


def draw(seed: int, outcome: Outcome, user: Ints, item: Ints) -> Data:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(len(user), 1))
    eta = rng.normal(size=9)[user % 9] + rng.normal(size=9)[item % 9] * x[:, 0]
    y = {
        Outcome.BERNOULLI: (rng.random(len(eta)) < 0.5 + 0.4 * np.tanh(eta)).astype(float),
        Outcome.NORMAL: eta + rng.normal(size=len(eta)),
        Outcome.POISSON: rng.poisson(np.exp(np.clip(eta, -2.0, 2.0))).astype(float),
    }[outcome]
    column = {
        kind: EntityColumn(codes.astype(np.int32), pa.array([f"{kind}{i}" for i in range(codes.max() + 1)]))
        for kind, codes in (("user", user), ("item", item))
    }
    bag = Bag(csr_array(x), pa.array(["x"]), pa.array([""]))
    return Data(x, user, item, Examples(y, rng.uniform(0.5, 2.0, len(y)), bags={"x": bag}, entities=column))


def unique_pairs(seed: int) -> tuple[Ints, Ints]:
    """Users and items that meet at most once."""
    met = np.random.default_rng(seed).random((7, 5)) < 0.6
    met[0], met[:, 0] = True, True
    user, item = np.nonzero(met)
    return user.astype(np.int64), item.astype(np.int64)


def fit(data: Data, outcome: Outcome, precision: str = "full", sweeps: int = 100) -> GameModel:
    effects = tuple(
        RandomSettings(kind, kind, ("x",), prior_variance=VARIANCE, precision=precision)  # type: ignore[arg-type]
        for kind in ("user", "item")
    )
    asked = TrainingSettings(
        outcome, FixedSettings(), effects, noise_variance=1.0, sweeps=sweeps, tolerance=1e-14, threads=1
    )
    return fit_game(data.examples, asked).model


def joint_precision(data: Data, model: GameModel) -> Floats:
    """Precision of all users' and items' coefficients at the model's means, the fixed effect known."""
    rows = np.column_stack([np.ones(len(data.x)), data.x])
    blocks = []
    for codes in (data.user, data.item):
        design = np.zeros((len(rows), codes.max() + 1, 2))
        design[np.arange(len(rows)), codes] = rows
        blocks.append(design.reshape(len(rows), -1))
    z = np.hstack(blocks)
    linear = model.score(data.examples).linear
    weight = data.examples.weight * outcomes.curvature(model.outcome, linear)
    return np.asarray((z.T * weight) @ z + np.eye(z.shape[1]) / VARIANCE)


def blocks_of(data: Data) -> dict[str, slice]:
    users, items = int(data.user.max()) + 1, int(data.item.max()) + 1
    at = {f"user{u}": slice(2 * u, 2 * u + 2) for u in range(users)}
    return at | {f"item{i}": slice(2 * (users + i), 2 * (users + i) + 2) for i in range(items)}


def belief_precision(model: GameModel, name: str) -> Floats:
    return model.effect(name[:4]).belief(name)[0].precision


def assert_at_most(a: Floats, b: Floats) -> None:
    """b - a is positive semidefinite."""
    assert np.linalg.eigvalsh(b - a).min() > -1e-5


@pytest.mark.parametrize("outcome", list(Outcome))
def test_an_item_whose_users_have_one_row_each_has_its_exact_marginal(outcome: Outcome) -> None:
    rows = 25
    data = draw(4, outcome, np.arange(rows), np.zeros(rows, np.int64))
    model = fit(data, outcome, sweeps=400)
    at = blocks_of(data)["item0"]
    exact = np.linalg.inv(np.linalg.inv(joint_precision(data, model))[at, at])
    np.testing.assert_allclose(belief_precision(model, "item0"), exact, rtol=1e-5)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6), outcome=st.sampled_from(list(Outcome)))
def test_a_belief_is_its_effects_marginal_given_the_effects_other_entities(
    seed: int, outcome: Outcome
) -> None:
    data = draw(seed, outcome, *unique_pairs(seed))
    model = fit(data, outcome, sweeps=2_000)  # until the beliefs of both effects are at one mode
    joint = joint_precision(data, model)
    split = 2 * (int(data.user.max()) + 1)
    users, items = slice(0, split), slice(split, None)
    marginal = joint.copy()
    for own, other in ((users, items), (items, users)):
        marginal[own, own] -= joint[own, other] @ np.linalg.solve(joint[other, other], joint[other, own])
    covariance = np.linalg.inv(joint)
    for name, at in blocks_of(data).items():
        found = belief_precision(model, name)
        np.testing.assert_allclose(found, marginal[at, at], rtol=1e-4, atol=1e-6)
        assert_at_most(np.eye(2) / VARIANCE, found)
        assert_at_most(found, joint[at, at])
        assert_at_most(np.linalg.inv(covariance[at, at]), found)


@settings(deadline=None, max_examples=10)
@given(
    seed=st.integers(0, 10**6),
    outcome=st.sampled_from(list(Outcome)),
    precision=st.sampled_from(["full", "diagonal"]),
)
def test_what_is_not_known_of_others_lowers_a_precision_but_never_below_the_prior(
    seed: int, outcome: Outcome, precision: str
) -> None:
    rng = np.random.default_rng(seed)
    data = draw(seed, outcome, rng.integers(0, 6, 60), rng.integers(0, 4, 60))
    model = fit(data, outcome, precision)
    joint = joint_precision(data, model)
    for name, at in blocks_of(data).items():
        place = model.effect(name[:4]).names.to_pylist()
        if name not in place:
            continue
        if precision == "full":
            assert_at_most(np.eye(2) / VARIANCE, belief_precision(model, name))
            assert_at_most(belief_precision(model, name), joint[at, at])
        else:
            found = belief_precision(model, name)
            assert np.all(found >= 1.0 / VARIANCE - 1e-9)
            assert np.all(found <= np.diag(joint[at, at]) + 1e-5)


def test_the_means_are_the_mode_of_the_joint_posterior() -> None:
    data = draw(8, Outcome.BERNOULLI, *unique_pairs(8))
    model = fit(data, Outcome.BERNOULLI)
    residual = data.examples.weight * (
        data.examples.response - 1.0 / (1.0 + np.exp(-model.score(data.examples).linear))
    )
    rows = np.column_stack([np.ones(len(data.x)), data.x])
    for kind, codes in (("user", data.user), ("item", data.item)):
        for e in range(int(codes.max()) + 1):
            pull = rows[codes == e].T @ residual[codes == e]
            mean = model.effect(kind).belief(f"{kind}{e}")[0].mean
            np.testing.assert_allclose(pull, mean / VARIANCE, atol=1e-4)


def test_a_row_counts_the_less_the_less_is_known_of_its_other_entity() -> None:
    weight, own = np.full(3, 2.0), np.full(3, 0.1)
    first, second = reduced_weights([weight, weight], [own, np.array([0.0, 0.1, 0.4])])
    np.testing.assert_allclose(first, weight * (1.0 - weight * [0.0, 0.1, 0.4]))
    np.testing.assert_allclose(second, weight * (1.0 - weight * own))
    assert np.all(np.diff(first) < 0.0)


def test_a_row_that_the_other_effect_did_not_learn_meets_its_whole_variance() -> None:
    first, second = reduced_weights([np.array([2.0]), np.array([0.0])], [np.array([0.1]), np.array([3.0])])
    np.testing.assert_allclose(first, 2.0 / (1.0 + 2.0 * 3.0))
    np.testing.assert_array_equal(second, 0.0)


def test_three_effects_add_what_is_not_known_of_the_other_two() -> None:
    weight, variance = [np.ones(1)] * 3, [np.array([v]) for v in (0.2, 0.5, 0.75)]
    found = np.concatenate(reduced_weights(weight, variance))
    np.testing.assert_allclose(found, [1 / (1 + 1 + 3), 1 / (1 + 0.25 + 3), 1 / (1 + 0.25 + 1)])

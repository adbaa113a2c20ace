"""Batch training: what is learned, what is kept, and that how it is asked for does not matter."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from nearline.batch.descent import fit_game, validation_loss
from nearline.batch.settings import FixedSettings, RandomSettings, TrainingSettings
from nearline.batch.tables import TableMapping, examples_from_table
from nearline.errors import ConfigError, DataError
from nearline.model.examples import EntityColumn, Examples
from nearline.model.features import Bag
from nearline.posterior.outcomes import Outcome
from simulated import (
    FILM,
    MAPPING,
    NORMAL,
    SETTINGS,
    USER,
    assert_same_effect,
    assert_same_model,
    evidence_of,
    examples,
    table,
    trained,
)

GIVEN = replace(
    NORMAL,
    random=(replace(USER, prior_variance=0.5),),
    fixed=FixedSettings(("b",), locked=True),
    noise_variance=0.3,
    sweeps=1,
)


def together(one, other):
    """The rows of both tables, as examples."""
    return examples_from_table(pa.concat_tables([one, other]), MAPPING)


def test_every_thread_count_gives_the_same_model_bit_for_bit():
    rows = examples(400, users=40)
    assert_same_model(fit_game(rows, SETTINGS).model, fit_game(rows, replace(SETTINGS, threads=3)).model)


@settings(max_examples=10)
@given(st.integers(1, 40), st.sampled_from(list(Outcome)))
def test_weight_two_is_the_row_twice(heavy, outcome):
    how = replace(SETTINGS, outcome=outcome, random=(replace(USER, prior_variance=0.5),), tolerance=0.0)
    weight = np.where(np.arange(80) < heavy, 2.0, 1.0)
    weighted = examples(80, outcome=outcome, weight=weight)
    rows = examples(80, outcome=outcome)
    doubled = rows.take(np.concatenate([np.arange(80), np.arange(heavy)]))
    one, other = fit_game(weighted, how).model, fit_game(doubled, how).model
    np.testing.assert_allclose(one.fixed.coefficients, other.fixed.coefficients, atol=1e-4)
    np.testing.assert_allclose(one.noise_variance, other.noise_variance, rtol=1e-6)
    np.testing.assert_allclose(one.score(rows).linear, other.score(rows).linear, atol=1e-4)


@given(st.floats(-3, 3))
@settings(max_examples=5)
def test_an_offset_on_every_row_moves_the_intercept_by_as_much_and_nothing_else(shift):
    rows = examples(100)
    moved = replace(rows, offset=rows.offset + shift)
    how = replace(SETTINGS, random=(replace(USER, prior_variance=0.5),), sweeps=10, tolerance=0.0)
    one, other = fit_game(rows, how).model, fit_game(moved, how).model
    difference = one.fixed.coefficients - other.fixed.coefficients
    np.testing.assert_allclose(difference, [shift, 0, 0, 0, 0], atol=2e-4)


@given(st.permutations(range(60)))
@settings(max_examples=5)
def test_the_order_of_rows_does_not_matter(order):
    rows = examples(60, outcome=Outcome.NORMAL)
    shuffled = rows.take(np.array(order))
    one, other = fit_game(rows, NORMAL).model, fit_game(shuffled, NORMAL).model
    np.testing.assert_allclose(one.score(rows).linear, other.score(rows).linear, atol=1e-4)


BAD = st.sampled_from(["response", "weight", "offset"])


@given(st.dictionaries(st.integers(0, 59), BAD, max_size=10), st.sampled_from([np.nan, np.inf]))
@settings(max_examples=10)
def test_bad_rows_are_counted_and_the_rest_learned_exactly_as_without_them(bad, value):
    rows = examples(60)
    spoilt = {name: getattr(rows, name).copy() for name in ("response", "weight", "offset")}
    for row, column in bad.items():
        spoilt[column][row] = value
    training = fit_game(replace(rows, **spoilt), SETTINGS)
    counts = Counter(f"{column} is not a finite number" for column in bad.values())
    assert training.rows_set_aside == counts
    rest = np.setdiff1d(np.arange(60), list(bad))
    assert_same_model(training.model, fit_game(rows.take(rest), SETTINGS).model)


def test_responses_the_outcome_does_not_allow_are_set_aside():
    rows = examples(60)
    response = rows.response.copy()
    response[:3] = [5.0, -1.0, 2.0]
    training = fit_game(replace(rows, response=response), SETTINGS)
    assert training.rows_set_aside == {"response is not one a Bernoulli outcome allows": 3}


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("precision", ["full", "diagonal"])
def test_a_warm_start_reaches_the_same_model_as_a_cold_one(outcome, precision):
    random = (replace(USER, precision=precision), replace(FILM, prior_variance=0.3, precision=precision))
    how = replace(SETTINGS, outcome=outcome, random=random, sweeps=60, tolerance=0.0)
    rows = examples(300, outcome=outcome)
    cold = fit_game(rows, how).model
    strange = replace(how, sweeps=2, random=(replace(USER, prior_variance=9.0), FILM))
    warm = fit_game(rows, how, start=fit_game(examples(100, outcome=outcome, seed=3), strange).model).model
    np.testing.assert_allclose(warm.score(rows).linear, cold.score(rows).linear, atol=2e-2)
    np.testing.assert_array_equal(warm.effect("per-film").prior.std, np.full(5, np.sqrt(0.3)))


def test_a_given_prior_variance_goes_before_the_prior_of_a_warm_start():
    start, rows = trained()
    given_ = replace(SETTINGS, random=(replace(USER, prior_variance=0.1), FILM))
    np.testing.assert_allclose(fit_game(rows, given_, start=start).model.random[0].prior.std, np.sqrt(0.1))


def test_locked_effects_stay_bit_for_bit():
    start, _ = trained()
    how = replace(
        SETTINGS, fixed=FixedSettings(("b",), locked=True), random=(replace(USER, locked=True), FILM)
    )
    for incremental in (False, True):
        model = fit_game(examples(200, seed=5, users=30), how, start=start, incremental=incremental).model
        np.testing.assert_array_equal(model.fixed.coefficients, start.fixed.coefficients)
        np.testing.assert_array_equal(model.fixed.precision, start.fixed.precision)
        assert_same_effect(model.random[0], start.random[0])
        assert not np.array_equal(model.random[1].evidence.mean, start.random[1].evidence.mean)


def test_the_update_sequence_is_obeyed():
    rows = examples(200)
    by_itself = fit_game(
        rows, replace(SETTINGS, random=(USER,), sequence=("per-user", "fixed"), sweeps=1)
    ).model
    last = fit_game(rows, replace(SETTINGS, random=(USER,), sequence=("fixed", "per-user"), sweeps=1)).model
    alone = fit_game(rows, replace(SETTINGS, random=(), sweeps=1)).model
    np.testing.assert_array_equal(last.fixed.coefficients, alone.fixed.coefficients)
    assert not np.allclose(by_itself.fixed.coefficients, alone.fixed.coefficients)
    twice = replace(SETTINGS, random=(USER,), sequence=("fixed", "per-user") * 2, sweeps=1)
    assert_same_model(
        fit_game(rows, twice).model,
        fit_game(rows, replace(twice, sequence=("fixed", "per-user"), sweeps=2, tolerance=0.0)).model,
    )


def test_a_sequence_that_leaves_an_effect_out_is_refused():
    with pytest.raises(
        ConfigError, match=r"training.sequence: expected each of \['fixed', 'per-user', 'per-film'\]"
    ):
        replace(SETTINGS, sequence=("fixed",))


def test_the_best_sweep_by_validation_is_what_comes_back():
    rows, held_out = examples(60, users=20), examples(60, users=20, seed=1)
    how = replace(SETTINGS, sweeps=12, tolerance=0.0)
    training = fit_game(rows, how, validation=held_out)
    losses = [sweep.validation_loss for sweep in training.sweeps]
    assert training.best_sweep == 1 + int(np.argmin(losses)) < 12
    assert validation_loss(training.model, held_out) == min(losses)
    assert_same_model(training.model, fit_game(rows, replace(how, sweeps=training.best_sweep)).model)


def test_a_share_of_the_rows_can_be_held_out_to_choose_the_sweep():
    rows = examples(200)
    training = fit_game(rows, replace(SETTINGS, validation_fraction=0.25, seed=3))
    assert all(sweep.validation_loss is not None for sweep in training.sweeps)
    assert training.model.random[0].row_count.sum() == 150
    with pytest.raises(DataError, match="no row can be validated on: none given"):
        fit_game(rows.take(np.arange(4)), replace(SETTINGS, validation_fraction=0.1))


def test_a_bad_validation_row_does_not_decide_which_sweep_is_best():
    rows, held_out = examples(60, users=20), examples(60, users=20, seed=1)
    response = held_out.response.copy()
    response[0] = np.nan
    spoilt = fit_game(rows, SETTINGS, validation=replace(held_out, response=response))
    clean = fit_game(rows, SETTINGS, validation=held_out.take(np.arange(1, 60)))
    assert spoilt.sweeps == clean.sweeps


@given(st.integers(1, 8))
@settings(max_examples=8)
def test_the_cap_on_rows_keeps_as_many_and_always_the_same(cap):
    rows = examples(120, users=6)
    how = replace(SETTINGS, random=(replace(USER, max_rows=cap),), sweeps=1)
    model = fit_game(rows, how).model
    counts = Counter(rows.entities["user"].names.take(pa.array(rows.entities["user"].codes)).to_pylist())
    for name, learned in zip(model.random[0].names.to_pylist(), model.random[0].row_count, strict=True):
        assert learned == min(cap, counts[name])
    assert_same_model(model, fit_game(rows, how).model)


def test_entities_below_the_lower_bound_are_left_to_the_population_prior():
    user = pa.array(["often"] * 50 + ["twice"] * 2 + ["often"] * 8)
    rows = examples(60, user=user)
    model = fit_game(rows, replace(SETTINGS, random=(replace(USER, min_rows=3),))).model
    effect = model.random[0]
    assert dict(zip(effect.names.to_pylist(), effect.row_count, strict=True)) == {"often": 58, "twice": 0}
    assert len(evidence_of(effect, "twice")[0]) == 0
    belief, _ = effect.belief("twice")
    np.testing.assert_allclose(belief.precision, effect.prior.precision)


def test_rows_learned_before_count_towards_the_lower_bound():
    how = replace(NORMAL, random=(replace(USER, min_rows=3),))
    start, _ = trained(30, how, user=pa.array(["ann"] * 30))
    new = examples(2, seed=2, outcome=Outcome.NORMAL, user=pa.array(["ann", "bob"]))
    effect = fit_game(new, how, start=start, incremental=True).model.random[0]
    assert dict(zip(effect.names.to_pylist(), effect.row_count, strict=True)) == {"ann": 31, "bob": 0}


def test_an_entity_keeps_only_the_features_of_its_rows():
    rows = examples(80, user=pa.array(["ann", "bob"] * 40), genre=pa.array(["drama", "comedy"] * 40))
    for precision in ("full", "diagonal"):
        effect = fit_game(rows, replace(SETTINGS, random=(replace(USER, precision=precision),))).model.random[
            0
        ]
        for user, genre in (("ann", "drama"), ("bob", "comedy")):
            expected = {0, effect.registry.column("b", "x"), effect.registry.column("b", "genre", genre)}
            assert set(evidence_of(effect, user)[0].tolist()) == expected


def test_more_than_64_columns_get_a_diagonal_prior_and_full_beliefs_over_their_own_columns():
    tags = pa.array([[f"t{i % 90}", f"t{i * 7 % 90}"] for i in range(270)])
    rows = examples_from_table(table(270, tags=tags), replace(MAPPING, bags={"b": ("tags",)}))
    model = fit_game(rows, replace(SETTINGS, random=(USER,))).model
    effect = model.random[0]
    assert len(effect.registry) == 91
    assert effect.prior.is_diagonal
    assert effect.is_full
    used = rows.bags["b"].matrix[rows.entities["user"].codes == 0].indices
    assert len(effect.evidence.columns_of(0)) == 1 + len(np.unique(used))
    assert np.isfinite(model.score(rows).variance).all()


def closed_form(y, group, x, start):
    """Log likelihood of y = intercept + slope x + u_group + noise, and its maximum over all four, by brute force."""
    from scipy.optimize import minimize

    design = np.column_stack([np.ones_like(x), x])
    same = group[:, None] == group[None, :]

    def cost(p):
        cov = np.exp(p[0]) * same + np.exp(p[1]) * np.eye(len(y))
        solved = np.linalg.solve(cov, np.column_stack([design, y]))
        beta = np.linalg.solve(design.T @ solved[:, :2], design.T @ solved[:, 2])
        return -multivariate_normal(design @ beta, cov).logpdf(y), beta

    found = minimize(
        lambda p: cost(p)[0], start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}
    )
    return np.exp(found.x), cost(found.x)[1]


def test_one_grouping_factor_agrees_with_the_closed_form_linear_mixed_model():
    rng = np.random.default_rng(3)
    group, x = rng.integers(12, size=60), rng.normal(size=60)
    y = 1.0 + 0.5 * x + rng.normal(scale=0.8, size=12)[group] + rng.normal(scale=0.6, size=60)
    rows = examples_from_table(
        pa.table({"y": y, "x": x, "group": pa.array(group)}),
        TableMapping("y", entities={"group": "group"}, bags={"b": ("x",)}),
    )
    how = TrainingSettings(
        Outcome.NORMAL,
        FixedSettings(("b",), l2=0.0),
        (RandomSettings("by-group", "group"),),
        sweeps=400,
        tolerance=0.0,
        threads=1,
    )
    model = fit_game(rows, how).model
    (variance, noise), beta = closed_form(y, group, x, np.log([0.6, 0.4]))
    np.testing.assert_allclose(model.fixed.coefficients, beta, rtol=1e-4)
    np.testing.assert_allclose(model.noise_variance, noise, rtol=1e-4)
    np.testing.assert_allclose(model.random[0].prior.std[0] ** 2, variance, rtol=1e-3)


def test_the_estimated_prior_recovers_the_covariance_the_coefficients_were_drawn_from():
    rng = np.random.default_rng(5)
    entities, each = 600, 20
    covariance = np.array([[0.8, 0.3], [0.3, 0.5]])
    mean = np.array([0.4, -0.6])
    drawn = rng.multivariate_normal(mean, covariance, size=entities)
    who, x = np.repeat(np.arange(entities), each), rng.normal(size=entities * each)
    y = drawn[who, 0] + drawn[who, 1] * x + rng.normal(scale=0.7, size=len(x))
    rows = examples_from_table(
        pa.table({"y": y, "x": x, "who": who}),
        TableMapping("y", entities={"who": "who"}, bags={"b": ("x",), "none": ()}),
    )
    effect = RandomSettings("own", "who", ("b",), estimate_prior_mean=True)
    how = TrainingSettings(Outcome.NORMAL, FixedSettings((), locked=True), (effect,), sweeps=30, threads=1)
    model = fit_game(rows, how).model
    # Four standard errors of a covariance of 600 draws: sqrt((s11 s22 + s12^2) / 600).
    np.testing.assert_allclose(model.random[0].prior.covariance, covariance, atol=4 * 0.8 * np.sqrt(2 / 600))
    np.testing.assert_allclose(model.random[0].prior.mean, mean, atol=4 * np.sqrt(0.8 / 600))
    np.testing.assert_allclose(model.noise_variance, 0.49, rtol=0.06)


def test_a_poisson_model_explains_its_rates():
    model, rows = trained(600, replace(SETTINGS, outcome=Outcome.POISSON, sweeps=6))
    scores = model.score(rows)
    np.testing.assert_allclose(scores.mean.sum(), rows.response.sum(), rtol=0.05)
    assert np.corrcoef(scores.mean, rows.response)[0, 1] > 0.3


def test_two_half_batches_are_one_batch_for_normal_outcomes_where_nothing_else_moves():
    start, _ = trained(100, replace(GIVEN, fixed=FixedSettings(("b",))), seed=9)
    first, second = (table(60, outcome=Outcome.NORMAL, seed=seed, users=15) for seed in (1, 2))
    whole = fit_game(together(first, second), GIVEN, start=start, incremental=True).model
    half = fit_game(examples_from_table(first, MAPPING), GIVEN, start=start, incremental=True).model
    both = fit_game(examples_from_table(second, MAPPING), GIVEN, start=half, incremental=True).model
    for name in whole.random[0].names.to_pylist():
        one, columns = whole.random[0].belief(name)
        other, same = both.random[0].belief(name)
        np.testing.assert_array_equal(columns, same)
        np.testing.assert_allclose(other.precision, one.precision, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(other.mean, one.mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("precision", ["full", "diagonal"])
@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_refit_learns_new_entities_and_features_and_keeps_vanished_ones_bit_for_bit(outcome, precision):
    random = (replace(USER, precision=precision), replace(FILM, precision=precision))
    how = replace(SETTINGS, outcome=outcome, random=random)
    start, _ = trained(150, how)
    new = examples(
        40,
        outcome=outcome,
        seed=8,
        user=pa.array([f"u{i % 3}" for i in range(38)] + ["newcomer", None]),
        genre=pa.array(["brand new"] * 40),
    )
    refitted = fit_game(new, how, start=start, incremental=True).model
    old, now = start.effect("per-user"), refitted.effect("per-user")
    assert now.names.to_pylist()[: old.entities] == old.names.to_pylist()
    assert now.names.to_pylist()[old.entities :] == ["newcomer"]
    for name in ("u4", "u5", "u9"):
        for before, after in zip(evidence_of(old, name), evidence_of(now, name), strict=True):
            np.testing.assert_array_equal(after, before)
    brand_new = now.registry.column("b", "genre", "brand new")
    assert brand_new == len(old.registry)
    assert brand_new in evidence_of(now, "u0")[0]
    assert set(evidence_of(old, "u0")[0]) <= set(evidence_of(now, "u0")[0])
    np.testing.assert_array_equal(now.prior.mean[:brand_new], old.prior.mean)


def test_one_row_does_not_decide_the_noise_of_a_refitted_model():
    start, rows = trained(300, NORMAL)
    one = rows.take(np.arange(1))
    expected = replace(one, response=start.score(one).mean)
    noise = fit_game(expected, NORMAL, start=start, incremental=True).model.noise_variance
    np.testing.assert_allclose(noise, start.noise_variance, rtol=2 / 301)


def test_new_features_of_a_refit_start_from_the_given_prior_variance():
    how = replace(SETTINGS, random=(replace(USER, prior_variance=0.1),))
    start, _ = trained(100, how)
    new = examples(20, seed=2, genre=pa.array(["brand new"] * 20))
    model = fit_game(new, how, start=start, incremental=True).model
    np.testing.assert_allclose(model.random[0].prior.std, np.sqrt(0.1))


def test_refitting_twice_from_the_same_model_leaves_that_model_alone():
    start, _ = trained()
    copy, _ = trained()
    new = examples(30, seed=4, genre=pa.array(["brand new"] * 30))
    one = fit_game(new, SETTINGS, start=start, incremental=True).model
    other = fit_game(new, SETTINGS, start=start, incremental=True).model
    assert_same_model(one, other)
    assert_same_model(start, copy)


def test_the_intercept_of_the_fixed_effect_is_held_by_its_data_alone():
    rows = examples(100, outcome=Outcome.NORMAL)
    fixed = fit_game(rows, replace(NORMAL, random=(), fixed=FixedSettings(("b",), l2=1e6))).model
    np.testing.assert_allclose(fixed.fixed.precision[0], 100 / fixed.noise_variance, rtol=1e-2)


def test_a_start_that_does_not_fit_the_settings_is_refused_by_path():
    start, rows = trained()
    cases = [
        (replace(SETTINGS, outcome=Outcome.NORMAL), False, "outcome: expected bernoulli"),
        (replace(SETTINGS, random=(replace(USER, kind="film"),)), False, "per-user.entity: expected 'user'"),
        (replace(SETTINGS, random=(USER,)), True, r"random_effects: expected \['per-film'\] too"),
        (
            replace(SETTINGS, random=(replace(USER, precision="diagonal"), FILM)),
            True,
            "per-user.precision: expected 'full'",
        ),
        (
            replace(SETTINGS, random=(USER, FILM, RandomSettings("more", "user", locked=True))),
            False,
            "more.locked: expected a model to start from",
        ),
    ]
    for how, incremental, message in cases:
        with pytest.raises(ConfigError, match=message):
            fit_game(rows, how, start=start, incremental=incremental)


def test_rows_that_cannot_be_learned_from_are_refused_with_the_reason():
    rows = examples(20)
    with pytest.raises(DataError, match="no row can be learned from: none given"):
        fit_game(examples(0), SETTINGS)
    with pytest.raises(DataError, match="none has a weight above 0"):
        fit_game(replace(rows, weight=np.zeros(20)), NORMAL)
    with pytest.raises(DataError, match="'response is not a finite number': 20"):
        fit_game(replace(rows, response=np.full(20, np.nan)), SETTINGS)


@pytest.mark.parametrize(
    ("outcome", "value"), [(Outcome.BERNOULLI, 1.0), (Outcome.BERNOULLI, 0.0), (Outcome.POISSON, 0.0)]
)
def test_responses_that_are_all_at_their_limit_are_learned_finitely_and_said_to_be_so(outcome, value):
    rows = replace(examples(20), response=np.full(20, value))
    how = replace(SETTINGS, outcome=outcome)
    training = fit_game(rows, how)
    assert training.fixed_unsettled.startswith(f"every response is {value:g}")
    linear = training.model.score(rows).linear
    assert np.all(np.abs(linear) < 30.0)
    assert np.all(linear > 1.0) if value == 1.0 else np.all(linear < -1.0)
    mixed = examples(200, outcome=outcome, seed=4)
    recovered = fit_game(mixed, how, start=training.model, incremental=True)
    assert recovered.fixed_unsettled is None
    assert abs(recovered.model.score(mixed).linear.mean()) < 1.5


def test_all_equal_normal_responses_are_learned_as_they_are():
    rows = replace(examples(30, offset=np.zeros(30)), response=np.full(30, 3.0))
    model = fit_game(rows, NORMAL).model
    np.testing.assert_allclose(model.score(rows).mean, 3.0, atol=1e-6)


def test_two_effects_of_one_kind_of_entity_live_side_by_side():
    rows = examples(200)
    how = replace(SETTINGS, random=(replace(USER, bags=()), replace(USER, name="taste", bags=("b",))))
    model = fit_game(rows, how).model
    assert model.effect("per-user").entities == model.effect("taste").entities == 10
    assert len(model.effect("per-user").registry) == 1


def test_names_may_be_anything_also_where_arrow_makes_them_large_strings():
    strange = ["ünï/cødé", "", "a b\n", "../x", "人"]
    user = pa.array([*strange, None] * 20)
    rows = examples(120, user=user)
    column = rows.entities["user"]
    large = EntityColumn(column.codes, column.names.cast(pa.large_string()))
    model = fit_game(replace(rows, entities={**rows.entities, "user": large}), SETTINGS).model
    assert set(model.random[0].names.to_pylist()) == set(strange)
    assert model.random[0].row_count.tolist() == [20] * 5
    np.testing.assert_array_equal(model.score(rows).linear, fit_game(rows, SETTINGS).model.score(rows).linear)


@given(st.integers(1, 3), st.integers(0, 4))
@example(1, 0)
@settings(max_examples=6)
def test_an_effect_without_any_entity_in_the_rows_is_the_population_prior(kinds, rows_with):
    n = 12
    codes = np.full(n, -1, dtype=np.int32)
    codes[:rows_with] = 0
    column = EntityColumn(codes, pa.array(["ann"]))
    rows = Examples(
        np.arange(n) % 2.0, bags={"b": Bag.empty(n)}, entities={f"k{i}": column for i in range(kinds)}
    )
    random = tuple(RandomSettings(f"e{i}", f"k{i}", prior_variance=1.0) for i in range(kinds))
    scores = fit_game(rows, TrainingSettings(random=random, threads=1)).model.score(rows)
    np.testing.assert_allclose(scores.variance[rows_with:], kinds)

"""How near a model came to the truth, beside the slow obvious comparison."""

from dataclasses import replace

import numpy as np
import pytest

from nearline.batch.descent import fit_game
from nearline.batch.settings import FixedSettings, RandomSettings, TrainingSettings
from nearline.batch.tables import examples_from_table
from nearline.datasets.generated import MAPPING, generate
from nearline.evaluate.recovery import compare
from nearline.model.features import feature_labels


def fitted(precision):
    generated = generate(3000, seed=2)
    effects = (
        RandomSettings("per-user", "user", ("of_item",), precision=precision),
        RandomSettings("per-item", "item", ("of_user",), precision=precision),
    )
    how = TrainingSettings(fixed=FixedSettings(("context",)), random=effects, sweeps=3, threads=1)
    return fit_game(examples_from_table(generated.table, MAPPING), how).model, generated.truth


@pytest.mark.parametrize("precision", ["full", "diagonal"])
def test_a_coefficient_of_every_entity_is_that_of_its_belief(precision):
    model, _ = fitted(precision)
    for effect in model.random:
        for column in range(len(effect.registry)):
            means, stds = effect.coefficient(column)
            for place, name in enumerate(effect.names.to_pylist()):
                belief, columns = effect.belief(name)
                at = np.flatnonzero(columns == column)
                mean, std = (
                    (belief.mean[at], belief.std[at])
                    if at.size
                    else (effect.prior.mean[column], effect.prior.std[column])
                )
                np.testing.assert_allclose(means[place], mean, atol=1e-10)
                np.testing.assert_allclose(stds[place], std, rtol=1e-9)


def test_the_comparison_is_with_the_true_coefficients_of_the_same_entity():
    model, truth = fitted("full")
    found = {(row.effect, row.feature): row for row in compare(model, truth)}
    effect = model.effect("per-item")
    column = feature_labels(effect.registry).index("age")
    means = np.array([effect.belief(name)[0].mean[column] for name in effect.names.to_pylist()])
    true = np.array(
        [truth["per-item"].coefficients["age"][int(name[5:])] for name in effect.names.to_pylist()]
    )
    row = found["per-item", "age"]
    np.testing.assert_allclose(row.rms_error, np.sqrt(np.mean((means - true) ** 2)))
    np.testing.assert_allclose(row.correlation, np.corrcoef(means, true)[0, 1])
    assert row.entities == effect.entities
    assert {feature for name, feature in found if name == "per-user"} == set(truth["per-user"].coefficients)


def test_effects_without_a_known_truth_are_left_out():
    model, truth = fitted("full")
    assert {row.effect for row in compare(model, {"per-user": truth["per-user"]})} == {"per-user"}


def test_with_many_rows_the_truth_is_found_again():
    generated = generate(40_000, seed=4)
    effects = (
        RandomSettings("per-user", "user", ("of_item",)),
        RandomSettings("per-item", "item", ("of_user",)),
    )
    how = TrainingSettings(fixed=FixedSettings(("context",)), random=effects, sweeps=5)
    model = fit_game(examples_from_table(generated.table, MAPPING), how).model
    for row in compare(model, generated.truth):
        assert abs(row.prior_std - row.true_std) < 0.1
        assert row.rms_error < row.rms_of_prior_mean
        assert row.covered > 0.82
    assert np.mean([row.covered for row in compare(model, generated.truth)]) > 0.87
    wrong = {
        name: replace(effect, coefficients={k: -v for k, v in effect.coefficients.items()})
        for name, effect in generated.truth.items()
    }
    assert all(row.covered < 0.9 and row.correlation < 0.0 for row in compare(model, wrong))

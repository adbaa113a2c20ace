"""LinkedIn's own fixture for Lambda Learner: one MovieLens user, 1,146 rows to learn and 154 to predict."""

import numpy as np
import pytest

from nearline import datasets
from nearline.batch.tables import examples_from_table
from nearline.model.effects import design
from nearline.model.features import ColumnRegistry
from nearline.posterior.blocks import group_rows, share
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.gaussian import Gaussian, discount
from nearline.posterior.outcomes import Outcome
from nearline.posterior.prior import moments
from nearline.posterior.update import Labels, update_many, update_one

pytestmark = pytest.mark.data
PENALTY = 10.0


class Part:
    """Features (an intercept first), ratings, the shared model's scores, and times of the rows of one file."""

    def __init__(self, name, directory, registry):
        loaded = datasets.load(name, directory)
        examples = examples_from_table(loaded.table, loaded.mapping)
        self.x = design(registry, ("user",), examples, grow=True).toarray()
        self.y, self.offset, self.time_ms = examples.response, examples.offset, examples.time_ms

    def rmse(self, coefficients):
        return float(np.sqrt(np.mean((self.y - self.offset - self.x @ coefficients) ** 2)))


@pytest.fixture(scope="module")
def parts(data_directory):
    registry = ColumnRegistry(intercept=True)
    names = ("lambda_learner_u359", "lambda_learner_u359_test")
    return tuple(Part(name, data_directory, registry) for name in names)


def isotropic(precision):
    return Gaussian(np.zeros(31), precision * np.eye(31))


def test_the_expected_coefficients_and_rmse_are_reproduced(parts, data_directory):
    train, test = parts
    expected = np.loadtxt(data_directory / "lambda_learner_u359" / "movie-lense-final-model-u359")
    belief, _ = update_one(isotropic(PENALTY), train.x, train.y, Outcome.NORMAL, offset=train.offset)
    assert np.abs(belief.mean - expected).max() <= 1e-5
    assert test.rmse(belief.mean) == pytest.approx(0.69985, abs=5e-6)
    assert test.rmse(np.zeros(31)) == pytest.approx(0.70536, abs=5e-6)


def estimated(train, keep):
    """Belief, prior precision and noise variance that maximise the marginal likelihood of rows weighted by `keep`."""
    rows, noise, precision = group_rows(train.x), 1.0, PENALTY
    for _ in range(200):
        labels = Labels(train.y, keep / noise, train.offset)
        beliefs = update_many(rows, labels, share(isotropic(precision)), Outcome.NORMAL).beliefs
        found = moments(rows, labels, beliefs, np.zeros(31), Outcome.NORMAL)
        mean = beliefs.belief(0).mean
        residual = train.y - train.offset - train.x @ mean
        noise = float(keep @ (residual**2 + found.leverage) / keep.sum())
        precision = 31.0 / float(np.trace(found.covariance + found.square))
    return mean, precision, noise


def log_predictive(train, forgetting, precision, noise, skip=200):
    """Mean log density of each rating under the belief of the moment before it, the first `skip` left out."""
    population = belief = isotropic(precision)
    now, total = train.time_ms[0], 0.0
    for i in range(len(train.y)):
        keep = float(forgetting.keep_of_belief(now, train.time_ms[i]))
        belief, now = discount(belief, keep, population), train.time_ms[i]
        row = slice(i, i + 1)
        if i >= skip:
            error = float((train.y - train.offset)[i] - train.x[i] @ belief.mean)
            variance = noise + float(train.x[i] @ np.linalg.solve(belief.precision, train.x[i]))
            total -= 0.5 * (np.log(2 * np.pi * variance) + error**2 / variance)
        weight, offset = np.array([1.0 / noise]), train.offset[row]
        belief, _ = update_one(
            belief, train.x[row], train.y[row], Outcome.NORMAL, weight=weight, offset=offset
        )
    return total / (len(train.y) - skip)


def test_an_estimated_prior_with_forgetting_chosen_on_the_training_rows_predicts_better(parts):
    train, test = parts
    span = float(train.time_ms[-1] - train.time_ms[0])
    best = None
    for share_of_span in (3.0, 1.0, 0.5, 0.3):
        forgetting = Forgetting(time_constant_ms=share_of_span * span)
        mean, precision, noise = estimated(train, forgetting.keep_of_rows(train.time_ms, train.time_ms[-1]))
        score = log_predictive(train, forgetting, precision, noise)
        if best is None or score > best[0]:
            best = score, mean
    assert test.rmse(best[1]) < 0.6915


def test_without_forgetting_the_prior_of_a_single_user_is_estimated_too_weak_for_the_drift(parts):
    """One user says little of a population: the estimate helps over no random effect, and over no more than that."""
    train, test = parts
    mean, precision, noise = estimated(train, np.ones(len(train.y)))
    assert precision * noise < PENALTY
    assert 0.69985 < test.rmse(mean) < 0.70536

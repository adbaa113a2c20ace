"""The same update by other libraries, through their public classes and on data they have already indexed."""

import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, cast

import numpy as np
from bayesianbandits import BayesianGLM, LaplaceApproximator
from linkedin.learner.ds.indexed_dataset import IndexedDataset
from linkedin.learner.ds.indexed_model import IndexedModel
from linkedin.learner.prediction.hessian_type import HessianType
from linkedin.learner.prediction.linear_scorer import score_linear_model
from linkedin.learner.prediction.trainer_sequential_bayesian_logistic_loss_with_l2 import (
    TrainerSequentialBayesianLogisticLossWithL2,
)
from river.linear_model import LogisticRegression as RiverRegression
from scipy.sparse import csc_matrix, csr_matrix
from sklearn.linear_model import LogisticRegression

from benchmarks.problems import Stream
from benchmarks.shown_pairs import FEATURES, events
from nearline.arrays import Floats
from nearline.events.impression import Feedback, Impression
from nearline.posterior import Gaussian

# lambda-learner passes scipy's L-BFGS an argument that scipy has since announced to remove.
warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(linkedin|scipy)\..*")
warnings.filterwarnings("ignore", message=".*`disp` and `iprint`.*")

Update = Callable[[int], Floats]


def lambda_learner(stream: Stream, entities: int) -> Update:
    """Mean of entity e by lambda-learner, with its own settings and without its lookup of feature names.

    delta is 1: the belief is the prior as it stands, and the penalty has no weight.
    """
    prepared = []
    for e in range(entities):
        x, y = stream.batch(e)
        belief = stream.prior.belief(e)
        precision = csc_matrix(np.diag(belief.precision) if belief.is_diagonal else belief.precision)
        data = IndexedDataset(csr_matrix(x), 2.0 * y - 1.0, np.ones(len(y)), np.zeros(len(y)))
        prepared.append((data, IndexedModel(belief.mean, precision)))
    kind = HessianType.FULL if stream.prior.full else HessianType.DIAGONAL

    def update(e: int) -> Floats:
        data, model = prepared[e]
        trainer = TrainerSequentialBayesianLogisticLossWithL2(
            training_data=data, initial_model=model, hessian_type=kind, penalty=1.0, delta=1.0
        )
        learned: Any = trainer.train()[0]
        return np.asarray(learned.theta, dtype=np.float64)

    return update


def scores_of_lambda_learner(
    requests: list[tuple[Floats, Gaussian]], *, sample: bool
) -> Callable[[], Floats]:
    """Scores by lambda-learner of one request after the other: features [C, d] and a belief about the user.

    Its scorer samples as it has it, for which it needs a diagonal precision.
    """
    prepared = []
    for x, belief in requests:
        data = IndexedDataset(csr_matrix(x), np.ones(len(x)), np.ones(len(x)), np.zeros(len(x)))
        precision = belief.precision if belief.is_diagonal else np.diag(belief.precision)
        prepared.append((IndexedModel(belief.mean, csc_matrix(np.diag(precision))), data))
    turns = cycle(prepared)

    def score() -> Floats:
        model, data = next(turns)
        return np.asarray(score_linear_model(model, data, 1.0 if sample else 0.0), dtype=np.float64)

    return score


def bayesian_bandits(stream: Stream, entities: int) -> Update:
    """Mean of entity e by bayesianbandits' BayesianGLM: Newton on LAPACK to a step under 1e-5."""
    prepared = []
    for e in range(entities):
        x, y = stream.batch(e)
        belief = stream.prior.belief(e)
        model = BayesianGLM(1.0, link="logit", approximator=LaplaceApproximator(n_iter=50, tol=1e-5))
        model.fit(x, y)
        prepared.append((model, x, y, belief))

    def update(e: int) -> Floats:
        model, x, y, belief = prepared[e]
        model.coef_, model.cov_inv_ = belief.mean, belief.precision
        model.partial_fit(x, y)
        return np.asarray(model.coef_, dtype=np.float64)

    return update


def scikit_learn(stream: Stream, entities: int) -> Update:
    """Coefficients of entity e by scikit-learn's LogisticRegression (L-BFGS), warm from the belief's mean.

    It knows no prior but a centred ridge: the cost is comparable, the problem is not the same.
    """
    prepared = []
    for e in range(entities):
        x, y = stream.batch(e)
        y = y.copy()
        y[0] = 1.0 - y[1]  # it refuses a batch of one class
        model = LogisticRegression(C=4.0, fit_intercept=False, warm_start=True)
        model.fit(x, y)
        prepared.append((model, x, y, stream.prior.belief(e).mean[None, :]))

    def update(e: int) -> Floats:
        model, x, y, mean = prepared[e]
        model.coef_ = mean.copy()
        model.fit(x, y)
        return np.asarray(model.coef_[0], dtype=np.float64)

    return update


def river(shown: Sequence[tuple[str, str]]) -> float:
    """Events per second of one logistic regression for each user and each film, each by its own prediction.

    River learns one row at a time and knows neither uncertainty nor what another model has said of the row. An event
    is an impression or its feedback; features are in dictionaries before.
    """
    waiting: dict[str, tuple[tuple[str, str], dict[str, float]]] = {}
    rows = []
    for event in events(list(shown), 0, 0):
        if isinstance(event, Impression):
            features = cast("dict[str, float]", event.features["context"])
            waiting[event.id] = ((event.entities["user"], event.entities["film"]), features)
        elif isinstance(event, Feedback):
            rows.append((*waiting.pop(event.impression), event.label > 0.5))
    users: defaultdict[str, RiverRegression] = defaultdict(RiverRegression)
    films: defaultdict[str, RiverRegression] = defaultdict(RiverRegression)
    start = time.process_time()
    for (user, film), features, label in rows:
        users[user].learn_one(features, label)
        films[film].learn_one(features, label)
    return 2 * len(rows) / (time.process_time() - start)


def lambda_learner_of_pairs(shown: Sequence[tuple[str, str]], rows: int = 20) -> float:
    """Events per second of lambda-learner: full mini-batches of each user and each film, one after the other.

    Rows of a mini-batch that is not full are left out, of the time and of the count.
    """
    values = np.random.default_rng(0).normal(size=(len(shown), FEATURES))
    values[:, 0] = 1.0
    y = np.where(np.random.default_rng(1).random(len(shown)) < 0.5, 1.0, -1.0)
    seconds_per_row = 0.0
    for side in range(2):
        of_entity: defaultdict[str, list[int]] = defaultdict(list)
        for at, pair in enumerate(shown):
            of_entity[pair[side]].append(at)
        batches = {
            name: [places[i : i + rows] for i in range(0, len(places) - rows + 1, rows)]
            for name, places in of_entity.items()
            if len(places) >= rows
        }
        prepared = [
            [IndexedDataset(csr_matrix(values[at]), y[at], np.ones(rows), np.zeros(rows)) for at in of_one]
            for of_one in batches.values()
        ]
        prior = IndexedModel(np.zeros(FEATURES), csc_matrix(0.25 * np.eye(FEATURES)))
        start = time.process_time()
        for datasets in prepared:
            model: Any = prior
            for data in datasets:
                trainer = TrainerSequentialBayesianLogisticLossWithL2(
                    training_data=data,
                    initial_model=model,
                    hessian_type=HessianType.FULL,
                    penalty=1.0,
                    delta=1.0,
                )
                model = trainer.train()[0]
        seconds_per_row += (time.process_time() - start) / (rows * sum(map(len, prepared)))
    return 2.0 / seconds_per_row

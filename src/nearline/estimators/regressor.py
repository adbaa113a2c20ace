"""Rows with a number or a count -> its expectation and spread: a GAME model of Normal or Poisson outcomes."""

from typing import Any, Self, final

import numpy as np
from sklearn.base import RegressorMixin

from nearline.arrays import Floats
from nearline.errors import ConfigError
from nearline.estimators.estimator import GameEstimator, checked_weight
from nearline.model.game import Scores
from nearline.posterior.outcomes import Outcome

_OUTCOMES = {"normal": Outcome.NORMAL, "poisson": Outcome.POISSON}


@final
class GameRegressor(RegressorMixin, GameEstimator):  # type: ignore[misc]
    """Linear or Poisson regression with a small model for each entity (user, item, ...).

    The mean response, or for counts its logarithm, is::

        offset + x . coefficients + sum over entity columns of x . b_entity

    Without `random_effects` this is ridge regression with alpha = l2 * noise variance (the variance is estimated),
    or Poisson regression.

    Parameters
    ----------
    random_effects : the entity columns and what their models weigh: a column, an `EntityEffect`, a list of them,
        or a mapping of columns to features (None, "all" or a list of columns). A column alone gives each of its
        entities an intercept. Columns are named (data frames) or numbered (any X). None: no random effects.
    outcome : "normal" for any number, "poisson" for counts (a log link; 0 or more).
    fixed_features : the columns the fixed effect weighs besides its intercept, or "all" that hold no entity.
    l2 : ridge penalty, half of it times the sum of squared coefficients, against the sum over rows of the
        negative log likelihood in nats; the intercept is not shrunk.
    l1 : lasso penalty on the same scale.
    noise_variance : of a Normal response, in its squared unit; None estimates it.
    refit_fixed : whether `partial_fit` moves the fixed effect as well as the entities' models.
    sweeps : passes over the effects at most.
    tolerance : relative change of the mean training loss, and of the noise variance, at which the passes end.
    n_jobs : threads; None is 1 and -1 all cores. Results do not depend on it.

    Attributes
    ----------
    model_ : `nearline.model.game.GameModel`, the trained model.
    training_ : `nearline.batch.descent.Training`, how the last fit went.
    n_iter_ : passes the last fit made.
    n_features_in_, feature_names_in_ : the number of columns of X, and their names where it has names.
    """

    def __init__(
        self,
        random_effects: Any = None,
        *,
        outcome: str = "normal",
        fixed_features: Any = "all",
        l2: float = 1.0,
        l1: float = 0.0,
        noise_variance: float | None = None,
        refit_fixed: bool = True,
        sweeps: int = 10,
        tolerance: float = 1e-5,
        n_jobs: int | None = None,
    ) -> None:
        self.random_effects = random_effects
        self.outcome = outcome
        self.fixed_features = fixed_features
        self.l2 = l2
        self.l1 = l1
        self.noise_variance = noise_variance
        self.refit_fixed = refit_fixed
        self.sweeps = sweeps
        self.tolerance = tolerance
        self.n_jobs = n_jobs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self.outcome == "poisson"
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None, offset: Any = None) -> Self:
        """Train on the rows of X, forgetting whatever was learned before.

        Parameters
        ----------
        X : data frame, array or sparse matrix, n rows. Columns of strings become one feature for each string.
        y : float64[n].
        sample_weight : float64[n], a row of weight 2 counts as two rows; 1 if None.
        offset : float64[n], added to the linear predictor; 0 if None.

        Raises
        ------
        ValueError
            X, y or a weight is missing, not finite or of the wrong shape, or a count is below 0.
        ConfigError
            A parameter is wrong, or names a column that is not there.
        """
        rows, y = self._read(X, y, reset=True)
        weight = checked_weight(sample_weight, len(rows))
        self._learn(rows, self._response(y), weight, offset, None)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, offset: Any = None) -> Self:
        """Learn the rows of X as new evidence on top of what was learned; the first call is a `fit`.

        New entities start from the population prior, which is as the first call left it; entities and features
        that are not in X keep what is known of them. Parameters as of `fit`.
        """
        first = not self._is_fitted()
        rows, y = self._read(X, y, reset=first)
        weight = checked_weight(sample_weight, len(rows))
        self._learn(rows, self._response(y), weight, offset, None if first else self.model_)
        return self

    def _response(self, y: Any) -> Floats:
        response = np.array(y, dtype=np.float64)
        if self._outcome() is Outcome.POISSON and np.any(response < 0.0):
            raise ValueError("Some value(s) of y are out of the valid range of counts: expected 0 or more")
        return response

    def _noise_variance(self) -> float | None:
        return self.noise_variance

    def _outcome(self) -> Outcome:
        if self.outcome not in _OUTCOMES:
            raise ConfigError(f"outcome: expected one of {', '.join(_OUTCOMES)}, got {self.outcome!r}")
        return _OUTCOMES[self.outcome]

    def predict(self, X: Any, return_std: bool = False, offset: Any = None) -> Any:
        """Return the expected response, float64[n], averaged over what is not known of the entities.

        With `return_std` also the standard deviation of a response, float64[n], in its unit: what is not known of
        the entities, and the noise. Entities that were never met have the population prior.
        """
        scores = self._scores(X, offset)
        return (scores.mean, _response_std(scores, self.model_.outcome)) if return_std else scores.mean

    @property
    def coef_(self) -> Floats:
        """Coefficients of the fixed effect, float64[k]; `coef_names_` says of what."""
        return self._coefficients()

    @property
    def intercept_(self) -> float:
        """Intercept of the fixed effect, on the scale of the linear predictor."""
        self._coefficients()
        return float(self.model_.fixed.coefficients[0])


def _response_std(scores: Scores, outcome: Outcome) -> Floats:
    """Return the standard deviation of a response; a count's rate is log-normal, so its variance has two parts."""
    if outcome is Outcome.NORMAL:
        return scores.std
    return np.sqrt(scores.mean + scores.mean**2 * np.expm1(scores.variance))

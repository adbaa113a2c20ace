"""Rows of two classes -> their probabilities: a GAME model of Bernoulli outcomes."""

from typing import Any, Literal, Self, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from nearline.arrays import Floats
from nearline.estimators.estimator import GameEstimator, checked_weight
from nearline.posterior.outcomes import Outcome


@final
class GameClassifier(ClassifierMixin, GameEstimator):  # type: ignore[misc]
    """Logistic regression with a small model for each entity (user, item, ...).

    The log odds of the second class are::

        offset + x . coefficients + sum over entity columns of x . b_entity

    Without `random_effects` this is logistic regression with C = 1 / l2.

    Parameters
    ----------
    random_effects : the entity columns and what their models weigh: a column, an `EntityEffect`, a list of them,
        or a mapping of columns to features (None, "all" or a list of columns). A column alone gives each of its
        entities an intercept. Columns are named (data frames) or numbered (any X). None: no random effects.
    fixed_features : the columns the fixed effect weighs besides its intercept, or "all" that hold no entity.
    l2 : ridge penalty, half of it times the sum of squared coefficients, against the sum over rows of the log
        loss in nats; the intercept is not shrunk.
    l1 : lasso penalty on the same scale.
    refit_fixed : whether `partial_fit` moves the fixed effect as well as the entities' models.
    sweeps : passes over the effects at most.
    tolerance : relative change of the mean training loss at which the passes end.
    n_jobs : threads; None is 1 and -1 all cores. Results do not depend on it.

    Attributes
    ----------
    classes_ : the two labels; probabilities are those of the second.
    model_ : `nearline.model.game.GameModel`, the trained model.
    training_ : `nearline.batch.descent.Training`, how the last fit went.
    n_iter_ : passes the last fit made.
    n_features_in_, feature_names_in_ : the number of columns of X, and their names where it has names.
    """

    classes_: NDArray[Any]

    def __init__(
        self,
        random_effects: Any = None,
        *,
        fixed_features: Any = "all",
        l2: float = 1.0,
        l1: float = 0.0,
        refit_fixed: bool = True,
        sweeps: int = 10,
        tolerance: float = 1e-5,
        n_jobs: int | None = None,
    ) -> None:
        self.random_effects = random_effects
        self.fixed_features = fixed_features
        self.l2 = l2
        self.l1 = l1
        self.refit_fixed = refit_fixed
        self.sweeps = sweeps
        self.tolerance = tolerance
        self.n_jobs = n_jobs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None, offset: Any = None) -> Self:
        """Train on the rows of X, forgetting whatever was learned before.

        Parameters
        ----------
        X : data frame, array or sparse matrix, n rows. Columns of strings become one feature for each string.
        y : n labels of two classes.
        sample_weight : float64[n], a row of weight 2 counts as two rows; 1 if None.
        offset : float64[n], added to the log odds; 0 if None.

        Raises
        ------
        ValueError
            X, y or a weight is missing, not finite or of the wrong shape, or y has not two classes.
        ConfigError
            A parameter is wrong, or names a column that is not there.
        """
        rows, y = self._read(X, y, reset=True)
        weight = checked_weight(sample_weight, len(rows))
        _require_binary(y)
        if len(np.unique(y[weight > 0.0])) < 2:
            raise ValueError("GameClassifier needs rows of two classes, got one class")
        self.classes_ = np.unique(y)
        self._learn(rows, self._codes(y), weight, offset, None)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None, offset: Any = None
    ) -> Self:
        """Learn the rows of X as new evidence on top of what was learned.

        New entities start from the population prior, which is as the first call left it; entities and features
        that are not in X keep what is known of them. The first call is a `fit` whose rows may be of one class.

        Parameters
        ----------
        classes : the two labels; needed at the first call only.
        X, y, sample_weight, offset : as of `fit`.
        """
        first = not self._is_fitted()
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        rows, y = self._read(X, y, reset=first)
        known = np.unique(classes) if first else self.classes_
        if classes is not None and not np.array_equal(np.unique(classes), known):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit: {known!r}"
            )
        _require_binary(known)
        unknown = np.setdiff1d(y, known)
        if len(unknown):
            raise ValueError(f"y: expected labels out of {known}, got {unknown}, which is in no class")
        self.classes_ = known
        weight = checked_weight(sample_weight, len(rows))
        self._learn(rows, self._codes(y), weight, offset, None if first else self.model_)
        return self

    def _codes(self, y: NDArray[Any]) -> Floats:
        return np.asarray(y == self.classes_[1], dtype=np.float64)

    def _outcome(self) -> Literal[Outcome.BERNOULLI]:
        return Outcome.BERNOULLI

    def decision_function(self, X: Any, offset: Any = None, *, return_std: bool = False) -> Any:
        """Return the mean log odds of the second class, float64[n].

        With `return_std` also their standard deviation, float64[n]: what is not known of the entities. Entities
        that were never met have the population prior.
        """
        scores = self._scores(X, offset)
        return (scores.linear, scores.std) if return_std else scores.linear

    def predict_proba(self, X: Any, offset: Any = None) -> Floats:
        """Return the probability of each class, float64[n, 2], averaged over what is not known of the entities."""
        second = self._scores(X, offset).mean
        return np.column_stack([1.0 - second, second])

    def predict(self, X: Any, offset: Any = None) -> NDArray[Any]:
        """Return the likelier class of each row, [n]."""
        linear = self._scores(X, offset).linear
        chosen: NDArray[Any] = self.classes_[(linear > 0.0).astype(np.intp)]
        return chosen

    @property
    def coef_(self) -> Floats:
        """Coefficients of the fixed effect, float64[1, k]; `coef_names_` says of what."""
        return np.atleast_2d(self._coefficients())

    @property
    def intercept_(self) -> Floats:
        """Intercept of the fixed effect in log odds, float64[1]."""
        self._coefficients()
        return np.array([self.model_.fixed.coefficients[0]])


def _require_binary(labels: NDArray[Any]) -> None:
    check_classification_targets(labels)
    kind = type_of_target(labels, input_name="y", raise_unknown=True)
    if kind != "binary":
        raise ValueError(
            f"Only binary classification is supported. The type of the target is {kind}. "
            "For more classes use sklearn.multiclass.OneVsRestClassifier(GameClassifier(...))."
        )

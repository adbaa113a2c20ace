"""What the classifier and the regressor share: X and a response -> a GAME model, and its scores."""

from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator
from sklearn.utils.validation import (
    _check_sample_weight,
    assert_all_finite,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from nearline.arrays import Floats
from nearline.batch.descent import Training, fit_game
from nearline.batch.settings import TrainingSettings
from nearline.errors import ConfigError
from nearline.estimators.coefficients import entity_table, feature_labels, fixed_coefficients
from nearline.estimators.effects import Column, entity_effects
from nearline.estimators.inputs import (
    array_examples,
    array_names,
    checked_offset,
    entity_name,
    frame_table,
    is_frame,
    table_examples,
)
from nearline.estimators.layout import Layout, make_layout
from nearline.fixed.linear import available_cores
from nearline.model.examples import Examples
from nearline.model.game import GameModel, Scores
from nearline.posterior.outcomes import Outcome


class GameEstimator(BaseEstimator):  # type: ignore[misc]
    """A GAME model with scikit-learn's parameters, input checks and fitted attributes."""

    random_effects: Any
    fixed_features: Any
    l2: float
    l1: float
    refit_fixed: bool
    sweeps: int
    tolerance: float
    n_jobs: int | None
    training_: Training
    model_: GameModel
    n_iter_: int
    n_features_in_: int
    _layout: Layout

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.sparse = True
        return tags

    def _is_fitted(self) -> bool:
        return hasattr(self, "model_")

    def _read(self, X: Any, y: Any = "no_validation", *, reset: bool = False) -> tuple[Examples, Any]:
        """Return the rows of X, without responses, and y as an array of one dimension."""
        named = is_frame(X)
        if named:
            validate_data(self, X, y, reset=reset, skip_check_array=True)
            table = frame_table(X)
        else:
            checked = validate_data(self, X, y, reset=reset, accept_sparse="csr", dtype=np.float64)
            X, y = (checked, y) if isinstance(y, str) else checked
        if reset:
            names = array_names(self.n_features_in_, getattr(self, "feature_names_in_", None))
            self._layout = make_layout(names, entity_effects(self.random_effects), self.fixed_features)
        if not named:
            return array_examples(self._layout, X), y
        if not isinstance(y, str):
            y = _checked_target(y, table)
        return table_examples(self._layout, table, estimator=type(self).__name__), y

    def _learn(
        self, rows: Examples, response: Floats, weight: Floats, offset: Any, start: GameModel | None
    ) -> None:
        """Train on rows, on top of `start` if there is one; rows of weight 0 are as good as absent."""
        examples = Examples(
            response=response,
            weight=weight,
            offset=checked_offset(offset, len(rows)),
            bags=rows.bags,
            entities=rows.entities,
        )
        counted = weight > 0.0
        if not counted.all():
            examples = examples.take(counted)
        self.training_ = fit_game(
            examples, self._settings(locked=start is not None), start=start, incremental=start is not None
        )
        self.model_ = self.training_.model
        self.n_iter_ = len(self.training_.sweeps)

    def _settings(self, *, locked: bool) -> TrainingSettings:
        return TrainingSettings(
            outcome=self._outcome(),
            fixed=self._layout.fixed_settings(l2=self.l2, l1=self.l1, locked=locked and not self.refit_fixed),
            random=self._layout.random_settings(),
            sweeps=self.sweeps,
            tolerance=self.tolerance,
            noise_variance=self._noise_variance(),
            threads=self._threads(),
        )

    def _noise_variance(self) -> float | None:
        return None

    def _outcome(self) -> Outcome:
        raise NotImplementedError

    def _threads(self) -> int:
        if self.n_jobs == 0:
            raise ConfigError("n_jobs: expected None or a number other than 0, got 0")
        given = 1 if self.n_jobs is None else self.n_jobs
        return given if given > 0 else max(1, available_cores() + 1 + given)

    def _scores(self, X: Any, offset: Any) -> Scores:
        """Score every row of X."""
        check_is_fitted(self, "model_")
        rows, _ = self._read(X)
        scored = Examples(
            response=rows.response,
            offset=checked_offset(offset, len(rows)),
            bags=rows.bags,
            entities=rows.entities,
        )
        return self.model_.score(scored, threads=self._threads())

    @property
    def coef_names_(self) -> list[str]:
        """What each entry of `coef_` weighs: a column, or column=value for a column of strings."""
        check_is_fitted(self, "model_")
        return feature_labels(self.model_.fixed, self._layout.fixed_columns)

    def _coefficients(self) -> Floats:
        check_is_fitted(self, "model_")
        return fixed_coefficients(self.model_.fixed, self._layout.fixed_columns)

    def entity_coefficients(self, name: Column, entity: Any) -> pa.Table:
        """Return what is believed of one entity's coefficients.

        Parameters
        ----------
        name : the entity column, by name or position.
        entity : a value of that column; one that was never met has the population prior.

        Returns
        -------
        Columns feature, term (strings), mean and std (float64, on the scale of the linear predictor per unit of
        the feature), the intercept first.
        """
        check_is_fitted(self, "model_")
        column = self._layout.names[self._layout.position(name, "name")]
        return entity_table(self.model_.effect(column), entity_name(entity))


def checked_weight(sample_weight: Any, rows: int) -> Floats:
    """Return the weight of each row, float64[rows]; 1 if None.

    Raises `ValueError` if it has another length, is not finite, is negative, or is 0 in every row.
    """
    weight: Floats = _check_sample_weight(
        sample_weight, np.empty((rows, 0)), dtype=np.float64, ensure_non_negative=True
    )
    if not np.any(weight > 0.0):
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weight


def _checked_target(y: Any, table: pa.Table) -> Any:
    """Return y as an array of one dimension, checked as scikit-learn does."""
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f":
        assert_all_finite(y, input_name="y")
    check_consistent_length(np.empty(table.num_rows), y)
    return y

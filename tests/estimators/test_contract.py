"""scikit-learn's own checks of an estimator, on plain models and on models with entities."""

from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

from nearline.estimators import EntityEffect, GameClassifier, GameRegressor


@parametrize_with_checks(
    [
        GameClassifier(),
        GameRegressor(),
        GameRegressor(outcome="poisson"),
        # The checks' columns are continuous: nearly every row is an entity of its own.
        GameClassifier(EntityEffect(-1, prior_variance=4.0), sweeps=3),
        GameRegressor(EntityEffect(-1, features="all"), sweeps=3),
    ]
)
def test_keeps_the_contract_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)

"""scikit-learn's own checks of an estimator, on plain models and on models with entities."""

from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

from nearline.estimators import EntityEffect, GameClassifier, GameRegressor


@parametrize_with_checks(
    [
        GameClassifier(),
        GameRegressor(),
        GameRegressor(outcome="poisson"),
        GameClassifier(random_effects=-1),
        GameRegressor(random_effects=EntityEffect(-1, features="all")),
    ]
)
def test_keeps_the_contract_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)

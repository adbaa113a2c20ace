"""Rows in the scikit-learn manner -> GAME models, with `fit`, `partial_fit` and `predict`.

Needs the extra `sklearn`: pip install 'nearline[sklearn]'.
"""

from nearline.errors import MissingExtraError

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise MissingExtraError("the scikit-learn estimators", "sklearn") from error

from nearline.estimators.classifier import GameClassifier
from nearline.estimators.effects import EntityEffect
from nearline.estimators.regressor import GameRegressor

__all__ = ["EntityEffect", "GameClassifier", "GameRegressor"]

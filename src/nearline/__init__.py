"""Personalization models that keep learning while they serve.

The names are in the order of the data: tables in, examples, training, the model and its scores, evaluation, and beneath
them the beliefs. The scikit-learn estimators need the extra `sklearn` and are loaded when asked for.
"""

from typing import TYPE_CHECKING, Any

from nearline.batch.descent import Sweep, Training, fit_game
from nearline.batch.mixed import fit_mixed_model
from nearline.batch.mixed_fit import MixedFit
from nearline.batch.reading import read_table
from nearline.batch.settings import FixedSettings, RandomSettings, TrainingSettings
from nearline.batch.tables import TableMapping, examples_from_table
from nearline.errors import ConfigError, DataError, MissingExtraError, ModelError, NearlineError
from nearline.evaluate import Evaluation
from nearline.model.effects import FixedCoefficients, RandomEffect
from nearline.model.examples import Examples, split_random
from nearline.model.game import GameModel, Scores
from nearline.model.saved import load_model, save_model
from nearline.posterior import Forgetting, Gaussian, Outcome, Status, discount, update_many, update_one

if TYPE_CHECKING:
    from nearline.estimators import EntityEffect, GameClassifier, GameRegressor

_ESTIMATORS = ("EntityEffect", "GameClassifier", "GameRegressor")

__all__ = [  # noqa: RUF022 - in the order of the data
    "read_table",
    "TableMapping",
    "examples_from_table",
    "Examples",
    "split_random",
    "FixedSettings",
    "RandomSettings",
    "TrainingSettings",
    "fit_game",
    "Sweep",
    "Training",
    "GameModel",
    "FixedCoefficients",
    "RandomEffect",
    "Scores",
    "save_model",
    "load_model",
    "fit_mixed_model",
    "MixedFit",
    "EntityEffect",
    "GameClassifier",
    "GameRegressor",
    "Evaluation",
    "Outcome",
    "Gaussian",
    "discount",
    "Forgetting",
    "update_one",
    "update_many",
    "Status",
    "NearlineError",
    "ConfigError",
    "DataError",
    "ModelError",
    "MissingExtraError",
]


def __getattr__(name: str) -> Any:
    if name in _ESTIMATORS:
        from nearline import estimators  # noqa: PLC0415 - needs an optional dependency

        return getattr(estimators, name)
    raise AttributeError(f"module 'nearline' has no attribute {name!r}")

"""Personalization models that keep learning while they serve.

The names are in the order of the data: tables in, examples, training, the model and its scores, evaluation, and beneath
them the beliefs. Each is loaded when it is first asked for: one that reads rows does not wait for the optimiser of
mixed models, and only the estimators need the extra `sklearn`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearline.batch.descent import Sweep, Training, fit_game
    from nearline.batch.mixed import fit_mixed_model
    from nearline.batch.mixed_fit import MixedFit
    from nearline.batch.reading import read_table
    from nearline.batch.settings import FixedSettings, RandomSettings, TrainingSettings
    from nearline.batch.tables import TableMapping, examples_from_table
    from nearline.errors import ConfigError, DataError, MissingExtraError, ModelError, NearlineError
    from nearline.estimators import EntityEffect, GameClassifier, GameRegressor
    from nearline.evaluate import Evaluation
    from nearline.model.effects import FixedCoefficients, RandomEffect
    from nearline.model.examples import Examples, split_random
    from nearline.model.game import GameModel, Scores
    from nearline.model.saved import load_model, save_model
    from nearline.posterior import Forgetting, Gaussian, Outcome, Status, discount, update_many, update_one

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


_HOMES = {
    "nearline.batch.descent": ("Sweep", "Training", "fit_game"),
    "nearline.batch.mixed": ("fit_mixed_model",),
    "nearline.batch.mixed_fit": ("MixedFit",),
    "nearline.batch.reading": ("read_table",),
    "nearline.batch.settings": ("FixedSettings", "RandomSettings", "TrainingSettings"),
    "nearline.batch.tables": ("TableMapping", "examples_from_table"),
    "nearline.errors": ("ConfigError", "DataError", "MissingExtraError", "ModelError", "NearlineError"),
    "nearline.estimators": ("EntityEffect", "GameClassifier", "GameRegressor"),
    "nearline.evaluate": ("Evaluation",),
    "nearline.model.effects": ("FixedCoefficients", "RandomEffect"),
    "nearline.model.examples": ("Examples", "split_random"),
    "nearline.model.game": ("GameModel", "Scores"),
    "nearline.model.saved": ("load_model", "save_model"),
    "nearline.posterior": (
        "Forgetting",
        "Gaussian",
        "Outcome",
        "Status",
        "discount",
        "update_many",
        "update_one",
    ),
}
"""Which module each name is from, as above for type checkers."""


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module 'nearline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]

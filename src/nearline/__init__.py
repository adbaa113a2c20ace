"""Personalization models that keep learning while they serve.

The names are in the order of the data: tables in, examples, training, the model and its scores, evaluation, a stream
and who learns it, and beneath them the beliefs. Each is loaded when it is first asked for: one that reads rows does not
wait for the optimiser of mixed models, and only the estimators need the extra `sklearn`.
"""

from typing import TYPE_CHECKING

from nearline.lazy import loader

if TYPE_CHECKING:
    from nearline.batch.descent import Sweep, Training, fit_game
    from nearline.batch.mixed import fit_mixed_model
    from nearline.batch.mixed_fit import MixedFit
    from nearline.batch.reading import read_table
    from nearline.batch.settings import FixedSettings, RandomSettings, TrainingSettings
    from nearline.batch.tables import TableMapping, examples_from_table
    from nearline.errors import (
        ConfigError,
        DataError,
        LogError,
        MissingExtraError,
        ModelError,
        NearlineError,
        StaleWriteError,
    )
    from nearline.estimators import EntityEffect, GameClassifier, GameRegressor
    from nearline.evaluate import Evaluation
    from nearline.events import EmbeddedLog, Feedback, Impression, encode_event, read_event
    from nearline.model.effects import FixedCoefficients, RandomEffect
    from nearline.model.examples import Examples, split_random
    from nearline.model.game import GameModel, Scores
    from nearline.model.saved import load_model, save_model
    from nearline.posterior import Forgetting, Gaussian, Outcome, Status, discount, update_many, update_one
    from nearline.stream.join_settings import JoinSettings
    from nearline.stream.learner import LearnSettings
    from nearline.stream.minibatch_settings import MiniBatchSettings
    from nearline.stream.published import publish
    from nearline.stream.worker import Standing, Worker, WorkerSettings
    from nearline.wiring.stores import open_store

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
    "Impression",
    "Feedback",
    "read_event",
    "encode_event",
    "EmbeddedLog",
    "open_store",
    "publish",
    "JoinSettings",
    "MiniBatchSettings",
    "LearnSettings",
    "WorkerSettings",
    "Worker",
    "Standing",
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
    "LogError",
    "ModelError",
    "StaleWriteError",
    "MissingExtraError",
]


_HOMES = {
    "nearline.batch.descent": ("Sweep", "Training", "fit_game"),
    "nearline.batch.mixed": ("fit_mixed_model",),
    "nearline.batch.mixed_fit": ("MixedFit",),
    "nearline.batch.reading": ("read_table",),
    "nearline.batch.settings": ("FixedSettings", "RandomSettings", "TrainingSettings"),
    "nearline.batch.tables": ("TableMapping", "examples_from_table"),
    "nearline.errors": (
        "ConfigError",
        "DataError",
        "LogError",
        "MissingExtraError",
        "ModelError",
        "NearlineError",
        "StaleWriteError",
    ),
    "nearline.estimators": ("EntityEffect", "GameClassifier", "GameRegressor"),
    "nearline.evaluate": ("Evaluation",),
    "nearline.events": ("EmbeddedLog", "Feedback", "Impression", "encode_event", "read_event"),
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
    "nearline.stream.join_settings": ("JoinSettings",),
    "nearline.stream.learner": ("LearnSettings",),
    "nearline.stream.minibatch_settings": ("MiniBatchSettings",),
    "nearline.stream.published": ("publish",),
    "nearline.stream.worker": ("Standing", "Worker", "WorkerSettings"),
    "nearline.wiring.stores": ("open_store",),
}
"""Which module each name is from, as above for type checkers."""


__getattr__ = loader(__name__, _HOMES)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

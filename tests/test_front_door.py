"""The public names: a change here is a change for users."""

import pkgutil
from importlib import import_module
from types import ModuleType

import pytest

import nearline as nl
from nearline import evaluate

NAMES = """
read_table TableMapping examples_from_table Examples split_random
FixedSettings RandomSettings TrainingSettings fit_game Sweep Training
GameModel FixedCoefficients RandomEffect Scores save_model load_model
fit_mixed_model MixedFit EntityEffect GameClassifier GameRegressor
Evaluation
Impression Feedback read_event encode_event EmbeddedLog
open_store publish JoinSettings MiniBatchSettings LearnSettings WorkerSettings Worker Standing
Outcome Gaussian discount Forgetting update_one update_many Status
NearlineError ConfigError DataError LogError ModelError StaleWriteError MissingExtraError
"""


def test_the_front_door_opens_on_just_these_names():
    assert nl.__all__ == NAMES.split()


def test_every_name_is_there_and_says_what_it_is():
    assert all(getattr(nl, name).__doc__ for name in nl.__all__)


def test_a_wrong_name_is_an_attribute_error():
    assert not hasattr(nl, "no_such_name")


@pytest.mark.parametrize("package", [nl, evaluate], ids=lambda one: one.__name__)
def test_no_module_hides_a_name_of_its_package(package):
    """A name that is loaded when it is asked for would be hidden by a module of that name, once that is loaded."""
    assert {module.name for module in pkgutil.iter_modules(package.__path__)}.isdisjoint(package.__all__)
    for module, names in package._HOMES.items():
        for name in names:
            assert getattr(package, name) is getattr(import_module(module), name)
            assert not isinstance(getattr(package, name), ModuleType)
    assert {name for names in package._HOMES.values() for name in names} == set(package.__all__)

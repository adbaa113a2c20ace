"""The public names: a change here is a change for users."""

import nearline as nl

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

"""Configurations: every mistake is named by its path, with what was expected, what was found, and a near miss."""

import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline.clock import duration_ms
from nearline.config import Config, LimitsConfig, parse_config, read_config
from nearline.errors import ConfigError
from nearline.posterior.forgetting import Forgetting
from nearline.serve.limits import Limits
from nearline.stream.drift import DriftSettings
from nearline.stream.join_settings import JoinSettings
from nearline.stream.learner import LearnSettings
from nearline.stream.minibatch_settings import MiniBatchSettings
from nearline.wiring.deployment import drift_settings, stream_folder, worker_settings
from nearline.wiring.training import checked, pointed_at, training_settings

GOOD = """
title = "t"
[data]
path = "rows.csv"
response = "y"
[random_effects.per-user]
entity = "user"
"""

MISTAKES = [
    ("outcom = 'normal'", "outcom: no such key; did you mean 'outcome'?"),
    ("outcome = 'gamma'", "outcome: expected 'bernoulli', 'normal' or 'poisson', got 'gamma'"),
    ("title = 3", "title: expected a string, got 3"),
    ("data.respons = 'y'", "data.respons: no such key; did you mean 'response'?"),
    ("data.dataset = 'elec2'", "data: expected either dataset or path"),
    ("data.time_unit = 'minutes'", "data.time_unit: expected 's' or 'ms', got 'minutes'"),
    ("data.bags.b = 'genre'", "data.bags.b: expected a list, got 'genre'"),
    ("data.bags.b = [1]", "data.bags.b.0: expected a string, got 1"),
    ("data.entities = ['user']", "data.entities: expected a table, got ['user']"),
    ("fixed_effect.l2 = -1", "fixed_effect.l2: expected greater than or equal to 0, got -1"),
    ("fixed_effect.l2 = inf", "fixed_effect.l2: expected a finite number, got inf"),
    ("fixed_effect.l1 = nan", "fixed_effect.l1: expected a finite number, got nan"),
    ("fixed_effect.l2 = 'much'", "fixed_effect.l2: expected a number, got 'much'"),
    ("fixed_effect = 1", "fixed_effect: expected a table, got 1"),
    ("random_effects = []", "random_effects: expected a table, got []"),
    ("random_effects.a = {}", "random_effects.a.entity: expected a value, found none"),
    (
        "random_effects.a = { entity = 'user', prior_varianc = 1 }",
        "random_effects.a.prior_varianc: no such key; did you mean 'prior_variance'?",
    ),
    (
        "random_effects.entity = { entity = 'user', bgs = [] }",
        "random_effects.entity.bgs: no such key; did you mean 'bags'?",
    ),
    (
        "random_effects.a = { entity = 'user', prior_variance = 0 }",
        "random_effects.a.prior_variance: expected greater than 0, got 0",
    ),
    (
        "random_effects.a = { entity = 'user', precision = 'ful' }",
        "random_effects.a.precision: expected 'full' or 'diagonal', got 'ful'",
    ),
    (
        "random_effects.a = { entity = 'user', min_rows = 3, max_rows = 2 }",
        "random_effects.a.max_rows: expected at least min_rows",
    ),
    ("random_effects.fixed = { entity = 'user' }", "random_effects.fixed: expected a name of its own"),
    ("random_effects.offset = { entity = 'user' }", "random_effects.offset: expected a name of its own"),
    ("stream.window = 'ten'", "stream.window: expected a duration such as '10m', got 'ten'"),
    ("stream.window = 10", "stream.window: expected a string, got 10"),
    ("stream.windw = '10m'", "stream.windw: no such key; did you mean 'window'?"),
    (
        "stream.tick_after = '1 fortnight'",
        "stream.tick_after: expected 'none' or a duration such as '10m', got",
    ),
    ("stream.minibatch.row = 1", "stream.minibatch.row: no such key; did you mean 'rows'?"),
    ("stream.drift.los = 1", "stream.drift.los: no such key; did you mean 'loss'?"),
    ("stream.drift.gain = 0", "stream.drift.gain: expected"),
    ("stream.minibatch.age = '-1s'", "stream.minibatch.age: expected 'none' or a duration such as '10m'"),
    ("stream.feedback = 'best'", "stream.feedback: expected 'first', 'last' or 'max', got 'best'"),
    (
        "random_effects.a = { entity = 'user', forgetting = '0d' }",
        "random_effects.a.forgetting: expected 'none', 'choose', or a duration such as '30d', got '0d'",
    ),
    ("training.sweeps = 0", "training.sweeps: expected greater than or equal to 1, got 0"),
    ("training.sweeps = 2.5", "training.sweeps: expected a whole number, got 2.5"),
    (
        "training.sequence = ['fixed']",
        "training.sequence: expected each of ['fixed', 'per-user'], got ['fixed']",
    ),
    ("training.validation_fraction = 1.0", "training.validation_fraction: expected less than 1, got 1.0"),
    ("training.seed = -1", "training.seed: expected greater than or equal to 0, got -1"),
    ("evaluation.seeds = 1", "evaluation.seeds: expected a list, got 1"),
    ("evaluation.seeds = []", "evaluation.seeds: expected at least one value, got []"),
    ("evaluation.seeds = [1, -1]", "evaluation.seeds.1: expected greater than or equal to 0, got -1"),
    (
        "evaluation.test_fraction = -0.1",
        "evaluation.test_fraction: expected greater than or equal to 0, got -0.1",
    ),
    (
        "evaluation.references = [{ name = 'x', metrc = 'auc', values = {} }]",
        "evaluation.references.0.metrc: no such key; did you mean 'metric'?",
    ),
    (
        "evaluation.references = [{ name = 'x', metric = 'auk', values = {} }]",
        "evaluation.references.0.metric: expected one of",
    ),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_a_mistake_is_named_by_its_path(tmp_path, line, message):
    path = tmp_path / "c.toml"
    path.write_text(_with(line))
    with pytest.raises(ConfigError) as caught:
        training_settings(read_config(path))
    assert message in str(caught.value)


def _with(line):
    """The good configuration with one dotted key set, as TOML would if tables could be opened twice."""
    key, value = line.split(" = ", 1)
    if key in {"title", "random_effects"}:
        good = (
            GOOD.replace('title = "t"\n', "")
            if key == "title"
            else GOOD.split("[random_effects", maxsplit=1)[0]
        )
        return f"{line}\n{good}"
    if "." not in key:
        return f"{line}\n{GOOD}"
    *section, last = key.split(".")
    header = f"[{'.'.join(section)}]"
    if header in GOOD:
        return GOOD.replace(header, f"{header}\n{last} = {value}")
    return f"{GOOD}\n{header}\n{last} = {value}\n"


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0s", 0),
        ("250ms", 250),
        ("90s", 90_000),
        ("10m", 600_000),
        ("10min", 600_000),
        ("1.5 h", 5_400_000),
        ("30d", 2_592_000_000),
        ("2w", 1_209_600_000),
    ],
)
def test_durations_are_read_in_milliseconds(text, milliseconds):
    assert duration_ms(text) == milliseconds


@pytest.mark.parametrize("text", ["", "10", "m", "-1s", "1e3s", "ten", "1h30m", "1 M", "inf d", "1y"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError, match="expected a duration such as '10m' or '30d', got "):
        duration_ms(text)


def test_a_stream_is_what_its_workers_do():
    content = tomllib.loads(
        GOOD
        + """
forgetting = "30d"
[stream]
window = "1h"
lateness = "5s"
feedback = "max"
without_feedback = "skip"
learn_at = "feedback"
correct_within = "2h"
at_once = 7
tick_after = "none"
minibatch = { rows = 8, age = "1s", information = 0.5, max_waiting = 10 }
drift = { rows = 90, least_rows = 9, loss = 0.5, calibration = 0.25, gain = 0.125 }
"""
    )
    config = parse_config(content)
    settings = worker_settings(config)
    assert settings.join == JoinSettings(
        3_600_000, 5_000, "max", "skip", "feedback", 7_200_000, tick_ms=1_000
    )
    assert settings.learn.minibatch == MiniBatchSettings(8, 1_000, 0.5, 10)
    assert drift_settings(config.stream) == DriftSettings(90, 9, 0.5, 0.25, 0.125)
    assert settings.learn.forgetting == {"per-user": Forgetting(2_592_000_000)}
    assert (settings.at_once, settings.tick_after_ms) == (7, None)
    assert parse_config(config.model_dump(mode="json", exclude_defaults=True)) == config
    assert stream_folder(config.stream, Path("a/c.toml")) == Path("a/stream")


def test_the_defaults_of_a_stream_are_those_of_its_parts():
    config = parse_config({"data": {"path": "p", "response": "y"}})
    settings = worker_settings(config)
    assert drift_settings(config.stream) == DriftSettings()
    assert settings.join == JoinSettings(600_000)
    assert settings.learn == LearnSettings()
    assert settings.tick_after_ms == 10_000


def test_thresholds_of_drift_that_do_not_go_together_are_told_by_their_key():
    config = parse_config(tomllib.loads(GOOD + "[stream]\ndrift = { rows = 9, least_rows = 10 }"))
    with pytest.raises(ConfigError, match=r"stream\.drift\.least_rows: expected 1 to drift.rows, 9, got 10"):
        drift_settings(config.stream)


def test_every_mistake_is_told_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_config({"titel": "x", "data": {"path": "p"}, "training": {"sweeps": 0}})
    assert len(str(caught.value).splitlines()) == 4


def test_a_configuration_without_data_says_so():
    with pytest.raises(ConfigError, match="data: expected a value, found none"):
        parse_config({})


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"title = ", "cannot be read as TOML"), (b"a = 1\na = 2", "cannot be read as TOML"), (b"\xff", "TOML")],
)
def test_what_is_no_toml_is_said_to_be_none(tmp_path, content, message):
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_config(path)


def test_a_configuration_that_is_not_there_or_is_a_folder_is_said_to_be_so(tmp_path):
    with pytest.raises(ConfigError, match="expected a configuration file, found none"):
        read_config(tmp_path / "c.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path)


@given(
    st.dictionaries(
        st.text(max_size=5), st.one_of(st.none(), st.integers(), st.text(max_size=3), st.lists(st.integers()))
    ),
    st.sampled_from([None, "data", "training", "evaluation", "random_effects"]),
)
def test_whatever_is_in_a_configuration_it_is_right_or_a_config_error(content, section):
    good = {"data": {"path": "p", "response": "y"}}
    try:
        config = parse_config(good | (content if section is None else {section: content}))
    except ConfigError:
        return
    assert isinstance(config, Config)


def test_what_the_rows_lack_is_named_with_what_they_have():
    from simulated import examples

    good = {"data": {"path": "p", "response": "y"}}
    with pytest.raises(ConfigError, match=r"fixed_effect.bags: expected bags out of \['b'\], got 'c'"):
        checked(parse_config(good | {"fixed_effect": {"bags": ["c"]}}), examples(3))
    effects = {"random_effects": {"a": {"entity": "item"}}}
    with pytest.raises(
        ConfigError, match=r"random_effects.a.entity: expected one of \['film', 'user'\], got 'item'"
    ):
        checked(parse_config(good | effects), examples(3))


def test_rows_are_looked_up_where_they_are_pointed_at(tmp_path):
    (tmp_path / "rows.csv").write_text("")
    file = parse_config({"data": {"path": "old.csv", "response": "y"}})
    pointed, _ = pointed_at(file, tmp_path / "rows.csv")
    assert pointed.data.path == str(tmp_path / "rows.csv")
    dataset = parse_config({"data": {"dataset": "elec2"}})
    assert pointed_at(dataset, tmp_path) == (dataset, tmp_path)
    with pytest.raises(ConfigError, match="expected the directory of the data set 'elec2', got a file"):
        pointed_at(dataset, tmp_path / "rows.csv")
    with pytest.raises(ConfigError, match="expected a file or directory of rows, found none"):
        pointed_at(dataset, tmp_path / "nowhere")


def test_the_limits_of_a_service_are_the_same_in_a_configuration_and_in_python() -> None:
    assert LimitsConfig().model_dump() == asdict(Limits())

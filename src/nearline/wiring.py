"""Configurations -> the things they name: examples, training settings. The one place that knows both sides."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from nearline import datasets
from nearline.arrays import Ints
from nearline.batch.columns import find_column, times_ms
from nearline.batch.reading import read_table
from nearline.batch.settings import FixedSettings, RandomSettings, TrainingSettings
from nearline.batch.tables import TableMapping, examples_from_table
from nearline.clock import duration_ms
from nearline.config import Config, DataConfig, StreamConfig
from nearline.errors import ConfigError, DataError, ModelError, RequestError
from nearline.evaluate.freshness import ReplaySettings
from nearline.evaluate.from_log import labelled_from_log
from nearline.evaluate.online import OnlineSettings
from nearline.evaluate.replay import Stream
from nearline.evaluate.spans import Span
from nearline.events.embedded import EmbeddedLog
from nearline.events.partition import partitions_of
from nearline.model.examples import Examples, usable_rows
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.outcomes import Outcome
from nearline.serve.choose import policy_of
from nearline.serve.limits import Limits
from nearline.serve.request import PolicyChoice
from nearline.serve.scorer import ScorerSettings
from nearline.serve.settings import ServerSettings
from nearline.store.embedded import EmbeddedStore, is_store
from nearline.stream.join_settings import JoinSettings
from nearline.stream.learner import LearnSettings
from nearline.stream.minibatch_settings import MiniBatchSettings
from nearline.stream.worker import WorkerSettings

_MEANINGS = ("response", "response_above", "weight", "offset", "time", "time_unit", "entities", "bags")
"""The keys that say what the columns of a table mean, the same in `DataConfig` and in `TableMapping`."""


def training_settings(config: Config) -> TrainingSettings:
    """The trainer's settings."""
    fixed = FixedSettings(config.fixed_effect.bags, config.fixed_effect.l2, config.fixed_effect.l1)
    random = tuple(
        RandomSettings(
            name=name,
            kind=effect.entity,
            bags=effect.bags,
            prior_variance=effect.prior_variance,
            estimate_prior_mean=effect.estimate_prior_mean,
            precision=effect.precision,
            min_rows=effect.min_rows,
            max_rows=effect.max_rows,
        )
        for name, effect in config.random_effects.items()
    )
    training = config.training
    return TrainingSettings(
        outcome=Outcome[config.outcome.upper()],
        fixed=fixed,
        random=random,
        sequence=training.sequence,
        sweeps=training.sweeps,
        tolerance=training.tolerance,
        prior_steps=training.prior_steps,
        threads=training.threads,
        validation_fraction=training.validation_fraction,
        seed=training.seed,
    )


def table_and_mapping(data: DataConfig, directory: Path) -> tuple[pa.Table, TableMapping, str]:
    """The table, what its columns mean, and what to call it in messages.

    A public data set comes with a mapping; what the configuration says goes before it.
    """
    if data.dataset is not None:
        loaded = datasets.load(data.dataset, directory)
        return loaded.table, _overridden(loaded.mapping, data), data.dataset
    assert data.path is not None and data.response is not None  # noqa: S101, PT018 - checked by DataConfig
    path = Path(data.path) if Path(data.path).is_absolute() else directory / data.path
    identifiers = tuple(data.entities.values())
    return read_table(path, text=identifiers), mapping_of(data), str(path)


def mapping_of(data: DataConfig) -> TableMapping:
    """What the columns of a file mean by the configuration alone."""
    if data.response is None:
        raise ConfigError("data.response: expected the name of the column to predict, found none")
    return TableMapping(
        data.response,
        data.response_above,
        data.weight,
        data.offset,
        data.time,
        data.time_unit,
        data.entities,
        data.bags,
    )


def _overridden(mapping: TableMapping, data: DataConfig) -> TableMapping:
    given: dict[str, Any] = {name: getattr(data, name) for name in _MEANINGS if name in data.model_fields_set}
    return replace(mapping, **given)


def load_examples(data: DataConfig, directory: Path) -> Examples:
    """Read the rows a configuration names."""
    return load_rows(data, directory)[0]


def load_rows(data: DataConfig, directory: Path) -> tuple[Examples, DataConfig]:
    """Read the rows a configuration names; also return it with what their columns mean filled in.

    With that, a model trained on a public data set can go on with rows of a file that has the same columns.
    """
    table, mapping, source = table_and_mapping(data, directory)
    meanings = {name: getattr(mapping, name) for name in _MEANINGS}
    meanings |= {"entities": dict(mapping.entities), "bags": dict(mapping.bags)}
    return examples_from_table(table, mapping, source=source), data.model_copy(update=meanings)


def replay_settings(config: Config) -> ReplaySettings:
    """What a replay compares."""
    replay = config.replay
    return ReplaySettings(
        train_share=replay.train_share,
        refit_every=Span.parse(replay.refit_every),
        ideal_every=Span.parse(replay.ideal_every),
        window=Span.parse(replay.window),
        levels=replay.levels,
        sensitivity=replay.sensitivity,
    )


def online_settings(config: Config) -> tuple[OnlineSettings, tuple[str, ...]]:
    """How level 3 learns, and the effects whose forgetting is to be chosen."""
    rules = {name: effect.forgetting for name, effect in config.random_effects.items()}
    forgetting = {
        name: Forgetting(time_constant_ms=duration_ms(rule))
        for name, rule in rules.items()
        if rule not in {"none", "choose"}
    }
    return OnlineSettings(forgetting), tuple(name for name, rule in rules.items() if rule == "choose")


def load_stream(config: Config, directory: Path) -> tuple[Stream, dict[str, int]]:
    """The rows a configuration names in the order of time, and how many cannot be used, by reason.

    A label is known at the time of its row, or at that in the column `replay.known`.
    """
    table, mapping, source = table_and_mapping(config.data, directory)
    if mapping.time is None:
        raise ConfigError(
            "data.time: expected the column with the time of each row, which a replay walks by; found none"
        )
    examples = examples_from_table(table, mapping, source=source)
    checked(config, examples)
    known_ms = examples.time_ms
    if config.replay.known is not None:
        column = find_column(table, config.replay.known, "replay.known", source)
        known_ms = times_ms(column, mapping.time_unit)
    assert known_ms is not None  # noqa: S101 - there is a column of times
    return _usable_stream(config, examples, known_ms, source)


def load_logged_stream(
    config: Config, folder: Path, watch: Callable[[int, int], None]
) -> tuple[Stream, dict[str, int]]:
    """What `load_stream` does, of the events in the log of a deployment's folder, joined as `[stream]` says.

    `watch` is told how many events were read, of how many.
    """
    bags = [
        *config.fixed_effect.bags,
        *(bag for effect in config.random_effects.values() for bag in effect.bags),
    ]
    kinds = [effect.entity for effect in config.random_effects.values()]
    with EmbeddedLog(folder / "log", create=False) as log:
        found = labelled_from_log(log, join_settings(config.stream), bags=bags, kinds=kinds, watch=watch)
    stream, reasons = _usable_stream(config, found.examples, found.known_ms, str(folder / "log"))
    counts = found.counts
    unlabelled = {
        "without a label when the log ended": counts.waiting,
        "never answered": counts.unanswered,
        "too late": counts.late,
        "unreadable, or feedback without its impression": counts.dead,
    }
    return stream, reasons | {reason: events for reason, events in unlabelled.items() if events}


def _usable_stream(
    config: Config, examples: Examples, known_ms: Ints, source: str
) -> tuple[Stream, dict[str, int]]:
    good, reasons = usable_rows(examples, Outcome[config.outcome.upper()])
    if not good.any():
        raise DataError(
            f"{source}: no row can be replayed: {len(examples)} rows, set aside: {reasons or 'none'}"
        )
    if not good.all():
        examples, known_ms = examples.take(good), known_ms[good]
    return Stream.of(examples, known_ms), reasons


def checked(config: Config, examples: Examples) -> Config:
    """The configuration, once everything it names is known to be in the examples; else a `ConfigError`."""
    for path, bags in [
        ("fixed_effect", config.fixed_effect.bags),
        *((f"random_effects.{name}", effect.bags) for name, effect in config.random_effects.items()),
    ]:
        for bag in bags:
            if bag not in examples.bags:
                raise ConfigError(f"{path}.bags: expected bags out of {sorted(examples.bags)}, got {bag!r}")
    for name, effect in config.random_effects.items():
        if effect.entity not in examples.entities:
            raise ConfigError(
                f"random_effects.{name}.entity: expected one of {sorted(examples.entities)}, got {effect.entity!r}"
            )
    return config


def pointed_at(config: Config, path: Path) -> tuple[Config, Path]:
    """The configuration with the rows at `path`, and the directory to look them up in.

    `path` is a file (or folder of Parquet files), or the directory of a public data set.
    """
    if not path.exists():
        raise ConfigError(f"{path}: expected a file or directory of rows, found none")
    if config.data.dataset is not None and path.is_dir():
        return config, path
    response = config.data.response
    if config.data.dataset is not None and response is None:
        raise ConfigError(
            f"{path}: expected the directory of the data set {config.data.dataset!r}, got a file"
        )
    data = config.data.model_copy(update={"dataset": None, "path": str(path.resolve())})
    return config.model_copy(update={"data": data}), path.parent


def open_store(folder: Path, *, partitions: int | None = None, history: int = 0) -> EmbeddedStore:
    """The store in `folder`, made if it is not there; entities are placed as in the event log."""
    return EmbeddedStore(folder, partitions_of, partitions=partitions, history=history)


def find_store(folder: Path) -> Path | None:
    """The folder itself if it is a store, or the folder `store` in it; None if neither is one."""
    return next((place for place in (Path(folder), Path(folder) / "store") if is_store(place)), None)


def existing_store(folder: Path) -> EmbeddedStore:
    """The store in `folder` or in the folder `store` in it; a `ModelError` where there is none."""
    found = find_store(folder)
    if found is None:
        raise ModelError(
            f"{folder}: expected a store, or a folder with one in its folder 'store'; found none"
        )
    return open_store(found)


def stream_folder(stream: StreamConfig, config: Path) -> Path:
    """The folder of the deployment that the configuration file `config` names."""
    return config.parent / stream.folder  # an absolute folder stays what it is


def worker_settings(config: Config) -> WorkerSettings:
    """How the workers of a deployment join and learn."""
    stream, minibatch = config.stream, config.stream.minibatch
    age_ms = optional_ms(minibatch.age, "stream.minibatch.age")
    return WorkerSettings(
        join=join_settings(stream),
        learn=LearnSettings(
            forgetting=_forgetting(config),
            minibatch=MiniBatchSettings(minibatch.rows, age_ms, minibatch.information, minibatch.max_waiting),
        ),
        at_once=stream.at_once,
        tick_after_ms=optional_ms(stream.tick_after, "stream.tick_after"),
    )


def join_settings(stream: StreamConfig) -> JoinSettings:
    """How a deployment joins impressions with feedback."""
    return JoinSettings(
        window_ms=duration_ms(stream.window),
        allowed_lateness_ms=duration_ms(stream.lateness),
        policy=stream.feedback,
        without_feedback=stream.without_feedback,
        learn_at=stream.learn_at,
        correct_within_ms=duration_ms(stream.correct_within),
        # Mini-batches come of age in partitions without traffic too.
        tick_ms=optional_ms(stream.minibatch.age, "stream.minibatch.age"),
    )


def scorer_settings(config: Config, path: Path) -> ScorerSettings:
    """How the model of the configuration file `path` serves."""
    serve = config.serve
    if serve.item is not None and serve.item not in {e.entity for e in config.random_effects.values()}:
        if "item" in serve.model_fields_set:
            raise ConfigError(f"serve.item: no random effect is of entities of kind {serve.item!r}")
        serve = serve.model_copy(update={"item": None})
    policy = {name: value for name, value in serve.policy.model_dump().items() if value is not None}
    try:
        policy_of(choice := PolicyChoice(**policy), "serve.policy")
    except RequestError as error:
        raise ConfigError(str(error)) from error
    return ScorerSettings(
        name=serve.name or path.stem,
        item_kind=serve.item,
        policy=choice,
        k=serve.k,
        deadline_ms=optional_ms(serve.deadline, "serve.deadline"),
        entities=serve.entities,
        limits=Limits(**serve.limits.model_dump()),
        forgetting=_forgetting(config),
    )


def server_settings(config: Config, path: Path) -> ServerSettings:
    """Where and how a process answers that serves the configuration file `path` first."""
    serve = config.serve
    if (serve.certificate is None) != (serve.key is None):
        raise ConfigError("serve: expected certificate and key, or neither")
    beside = {
        name: path.parent / file
        for name in ("certificate", "key")
        if (file := getattr(serve, name)) is not None
    }
    return ServerSettings(
        host=serve.host,
        port=serve.port,
        token=None if serve.token_file is None else _token(path.parent / serve.token_file),
        drain_s=duration_ms(serve.drain) // 1_000,
        traces=serve.traces,
        **beside,
    )


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"serve.token_file: {path} cannot be read: {error.strerror}") from error
    if not token:
        raise ConfigError(f"serve.token_file: {path} is empty")
    return token


def optional_ms(duration: str, path: str) -> int | None:
    """A duration in milliseconds, None for `none`; `path` is its key, for the message of a `ConfigError`."""
    if duration == "none":
        return None
    if (milliseconds := duration_ms(duration)) < 1:
        raise ConfigError(f"{path}: expected 'none' or more than 0, got {duration!r}")
    return milliseconds


def _forgetting(config: Config) -> dict[str, Forgetting]:
    rules = {name: effect.forgetting for name, effect in config.random_effects.items()}
    for name, rule in rules.items():
        if rule == "choose":
            raise ConfigError(
                f"random_effects.{name}.forgetting: expected 'none' or a duration such as '30d', got 'choose': "
                "only a replay can choose; write down what it chose"
            )
    return {name: Forgetting(duration_ms(rule)) for name, rule in rules.items() if rule != "none"}

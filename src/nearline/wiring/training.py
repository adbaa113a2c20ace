"""Configurations -> examples and training settings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from nearline import datasets
from nearline.batch.reading import read_table
from nearline.batch.settings import FixedSettings, RandomSettings, TrainingSettings
from nearline.batch.tables import TableMapping, examples_from_table
from nearline.config import Config, DataConfig
from nearline.errors import ConfigError
from nearline.model.examples import Examples
from nearline.posterior.outcomes import Outcome

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

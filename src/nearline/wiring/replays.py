"""Configurations -> streams to replay, and how."""

from collections.abc import Callable
from pathlib import Path

from nearline.arrays import Ints
from nearline.batch.columns import find_column, times_ms
from nearline.batch.tables import examples_from_table
from nearline.clock import duration_ms
from nearline.config import Config
from nearline.errors import ConfigError, DataError
from nearline.evaluate.freshness import ReplaySettings
from nearline.evaluate.from_log import labelled_from_log
from nearline.evaluate.online import OnlineSettings
from nearline.evaluate.replay import Stream
from nearline.evaluate.spans import Span
from nearline.events.embedded import EmbeddedLog
from nearline.model.examples import Examples, usable_rows
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.outcomes import Outcome
from nearline.wiring.deployment import join_settings
from nearline.wiring.training import checked, table_and_mapping


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

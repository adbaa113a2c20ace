"""`nearline worker`: joins and learns the events of a deployment until it is stopped."""

import sys
import warnings
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from nearline.cli.console import INTERRUPTED, Output
from nearline.cli.drift import DriftAlarm, start_refit
from nearline.cli.live import Latest, show_end, shown
from nearline.cli.stopping import stopping
from nearline.cli.train import AsJson, ConfigPath
from nearline.clock import SystemClock
from nearline.config import Config, read_config
from nearline.errors import ConfigError, ModelError
from nearline.events.embedded import EmbeddedLog
from nearline.events.log import EventLog
from nearline.observe.exporter import exporting
from nearline.store.seam import ModelStore
from nearline.stream.drift_watch import DriftWatch
from nearline.stream.retention import Retention
from nearline.stream.worker import Standing, Worker, WorkerSettings
from nearline.wiring.deployment import drift_settings, optional_ms, stream_folder, worker_settings
from nearline.wiring.stores import find_store, open_store


def worker_command(
    config: ConfigPath,
    index: Annotated[int, typer.Option(min=0, help="Which worker this is, from 0; worker 0 also joins.")] = 0,
    of: Annotated[int, typer.Option(min=1, help="How many workers there are.")] = 1,
    once: Annotated[bool, typer.Option("--once", help="Stop when there is nothing left to do.")] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, help="Answer Prometheus here; 0 takes a free port.", show_default="off"
        ),
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="The address to answer Prometheus at.")] = "127.0.0.1",
    as_json: AsJson = False,
) -> None:
    """Join events and learn from them, turn by turn, until SIGTERM or an interrupt; the last turn is finished."""
    output = Output(as_json=as_json)
    with ExitStack() as stack:
        stop = stack.enter_context(stopping())
        settings = read_config(config)
        folder, how = stream_folder(settings.stream, config), _worker_settings(settings)
        if find_store(folder) is None:
            raise ModelError(f"{folder}: no deployment there; begin one: nearline publish MODEL {config}")
        store = open_store(
            folder / "store", partitions=settings.stream.partitions, history=settings.stream.history
        )
        stack.callback(store.close)
        _require_effects(settings, store)
        log = stack.enter_context(EmbeddedLog(folder / "log"))
        worker = Worker(folder, log, store, how, index=index, workers=of)
        stack.callback(worker.close)
        latest = Latest(worker.standing(), SystemClock())
        if metrics_port is not None:
            port = stack.enter_context(exporting(latest.measure, metrics_port, metrics_host))
            sys.stderr.write(f"metrics: http://{metrics_host}:{port}/metrics\n")
        alarm = _alarm(settings, config, worker, store)
        retention = _retention(settings, log, worker, store)
        with shown(output, once=once) as show:

            def watch(standing: Standing) -> None:
                show(latest.take(standing))
                if retention is not None:
                    retention.turn()
                if alarm is not None:
                    alarm.turn()

            worker.run(stop, watch, once=once)
        show_end(output, latest.take(worker.standing()), stop.name)
    if stop.name == "SIGINT":
        raise typer.Exit(INTERRUPTED)


def _alarm(settings: Config, config: Path, worker: Worker, store: ModelStore) -> DriftAlarm | None:
    """What looks for drift, in the worker that joins."""
    if settings.stream.refit == "off" or not worker.joins:
        return None
    start = partial(start_refit, config) if settings.stream.refit == "auto" else None
    watch = DriftWatch(worker.row_log, store, drift_settings(settings.stream))
    return DriftAlarm(watch, SystemClock(), sys.stderr.write, start)


def _retention(config: Config, log: EventLog, worker: Worker, store: ModelStore) -> Retention | None:
    """What removes old events and rows, in the worker that joins."""
    keep_ms = optional_ms(config.stream.keep, "stream.keep")
    if keep_ms is None or not worker.joins:
        return None
    return Retention(log, worker.row_log, store, SystemClock(), keep_ms=keep_ms)


def _worker_settings(config: Config) -> WorkerSettings:
    """The settings; what they warn of is said in one line each."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        settings = worker_settings(config)
    for warning in said:
        sys.stderr.write(f"warning: {warning.message}\n")
    return settings


def _require_effects(config: Config, store: ModelStore) -> None:
    """Raise a `ConfigError` if the configuration has something forgotten that the live generation does not know."""
    known = [form.name for form in store.generations().serving().effects]
    for name, effect in config.random_effects.items():
        if effect.forgetting != "none" and name not in known:
            raise ConfigError(
                f"random_effects.{name}.forgetting: the live generation has no such effect, it has {known}"
            )

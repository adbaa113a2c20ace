"""`nearline serve`: answers requests from a deployment, and logs what was shown, until it is stopped."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from typing import Annotated

import typer

from nearline.cli.console import INTERRUPTED
from nearline.cli.functions import feature_functions
from nearline.config import Config, read_config
from nearline.errors import ConfigError, ModelError
from nearline.events.embedded import EmbeddedLog
from nearline.serve.kept import KeptCandidates
from nearline.serve.logs import LOGGER, configure_logs
from nearline.serve.scorer import Scorer
from nearline.serve.service import Service
from nearline.store.seam import ModelStore
from nearline.stream.worker import Worker
from nearline.wiring import (
    find_store,
    open_store,
    scorer_settings,
    server_settings,
    stream_folder,
    worker_settings,
)


def serve_command(
    configs: Annotated[
        list[Path],
        typer.Argument(
            metavar="CONFIG...",
            help="Configurations with [stream] and [serve]: one model each. The first says where to answer.",
            show_default=False,
        ),
    ],
    host: Annotated[
        str | None, typer.Option(help="The address to answer at.", show_default="of [serve]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="The port; 0 takes a free one.", show_default="of [serve]"),
    ] = None,
) -> None:
    """Answer requests to rank and score, log what was shown, and take feedback, until SIGTERM or an interrupt."""
    from nearline.serve.server import serve, stopping  # noqa: PLC0415 - needs the extra

    with stopping() as stop, ExitStack() as stack:
        first, settings = configs[0], read_config(configs[0])
        where = server_settings(settings, first)
        where = replace(where, host=host or where.host, port=where.port if port is None else port)
        configure_logs(settings.serve.logs)
        scorers: dict[str, Scorer] = {}
        for path in configs:
            scorer = _opened(path, stack)
            if scorers.setdefault(scorer.settings.name, scorer) is not scorer:
                raise ConfigError(f"serve.name: {scorer.settings.name!r} is the name of two models")

        def reload() -> None:
            for path, scorer in zip(configs, scorers.values(), strict=True):
                scorer.configure(scorer_settings(read_config(path), path))

        service = Service(scorers, limits=next(iter(scorers.values())).settings.limits, reload=reload)
        serve(service, where, stop, lambda address: _say_where(address, scorers))
        LOGGER.info("stopped by %s", stop.name)
    if stop.name == "SIGINT":
        raise typer.Exit(INTERRUPTED)


def _say_where(address: str, scorers: dict[str, Scorer]) -> None:
    serving = ", ".join(f"{name} (generation {scorer.generation})" for name, scorer in scorers.items())
    LOGGER.info("serving %s at %s", serving, address, extra={"fields": {"address": address}})


def _opened(path: Path, stack: ExitStack) -> Scorer:
    """The model of a configuration, with its worker if it is to learn in this process."""
    config = read_config(path)
    folder = stream_folder(config.stream, path)
    if find_store(folder) is None:
        raise ModelError(f"{folder}: no deployment there; begin one: nearline publish MODEL {path}")
    store = open_store(folder / "store", partitions=config.stream.partitions, history=config.stream.history)
    stack.callback(store.close)
    log = stack.enter_context(EmbeddedLog(folder / "log"))
    if config.serve.learn == "inline":
        _learn(config, folder, log, store, stack)
    kept = KeptCandidates(folder / "candidates")
    scorer = Scorer(
        store,
        log,
        scorer_settings(config, path),
        kept=kept,
        functions=feature_functions(config.serve.functions, path.parent),
        waiting=config.serve.waiting,
    )
    stack.callback(scorer.close)
    scorer.start()
    return scorer


def _learn(config: Config, folder: Path, log: EmbeddedLog, store: ModelStore, stack: ExitStack) -> None:
    """Take the worker's turns in a thread of this process; the last one is finished when the server ends."""
    worker, stop = Worker(folder, log, store, worker_settings(config)), Signal()
    stack.callback(worker.close)
    thread = Thread(target=worker.run, args=(stop,), name="nearline-worker")
    thread.start()
    stack.callback(thread.join)
    stack.callback(stop.set)

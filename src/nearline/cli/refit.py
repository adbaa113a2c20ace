"""`nearline refit CONFIG`: a new generation of a deployment out of its row log, while its workers go on."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nearline.batch.refit import RefitSettings, Refitted, refit
from nearline.cli.console import Output, Stopwatch
from nearline.config import Config, read_config
from nearline.errors import ConfigError, ModelError
from nearline.store.embedded import EmbeddedStore
from nearline.store.generations import Status
from nearline.stream.drift import Figures
from nearline.stream.joined_log import JoinedLog
from nearline.stream.roles import Role
from nearline.wiring import find_store, open_store, stream_folder, training_settings, worker_settings

_SAID = {
    "switched": "live",
    "refused": "refused by the gate; the generation that serves stays",
    "kept": "a candidate: `nearline generations switch` makes it live",
    "undecided": "a candidate: no row after the cut says which generation served it, so there is nothing to judge by",
}


def refit_deployment(config: Path, output: Output, *, level: int, margin: float, no_switch: bool) -> None:
    """Train, catch up, judge, and switch to the new generation if it passes."""
    if config.is_dir():
        raise ConfigError(
            f"{config}: expected the configuration that the deployment's workers run with, got a folder: it says "
            "what to train and how evidence is forgotten"
        )
    settings, watch = read_config(config), Stopwatch()
    folder = stream_folder(settings.stream, config)
    if find_store(folder) is None:
        raise ModelError(f"{folder}: no deployment there; begin one: nearline publish MODEL {config}")
    with _opened(settings, folder) as (store, rows):
        for left in _unfinished(store):
            output.remark(
                f"generation {left} was never finished; if nobody is at it: "
                f"nearline generations prune {folder} --unfinished"
            )
        how = RefitSettings(
            training_settings(settings),
            worker_settings(settings).learn,
            level=level,
            margin=margin,
            switch=not no_switch,
        )
        with watch.step("refit"), output.progress("refit: training", None) as steps:
            done = refit(store, rows, how, watch=_catching_up(steps.done))
        live = store.live()
    _show(done, output)
    output.result(_document(done) | {"folder": str(folder), "live": live, "seconds": watch.seconds})


def _catching_up(say: Callable[[str], None]) -> Callable[[int, int], None]:
    return lambda done, left: say(f"refit: caught up {done:,} rows, {left:,} left")


@contextmanager
def _opened(settings: Config, folder: Path) -> Iterator[tuple[EmbeddedStore, JoinedLog]]:
    """The store and the row log, for the one process at a time that makes a generation."""
    role = Role(folder / "roles", "refit")
    try:
        store = open_store(folder / "store", history=settings.stream.history)
        try:
            rows = JoinedLog(folder / "joined")
            try:
                yield store, rows
            finally:
                rows.close()
        finally:
            store.close()
    finally:
        role.close()


def _unfinished(store: EmbeddedStore) -> list[int]:
    return [one.number for one in store.generations().known if one.status is Status.TRAINING]


def _show(done: Refitted, output: Output) -> None:
    output.line(
        f"generation {done.generation}: {_SAID[done.decision]}   examples: {done.examples:,}   "
        f"rows caught up: {done.caught_up:,}"
    )
    candidate, served = done.verdict.candidate, done.verdict.served
    if candidate is not None and served is not None:
        output.line(
            f"loss on {candidate.rows:,} rows after the cut: {candidate.loss:.4f}, as served {served.loss:.4f}, "
            f"margin {done.verdict.margin:g}"
        )


def _document(done: Refitted) -> dict[str, Any]:
    return {
        "generation": done.generation,
        "decision": done.decision,
        "examples": done.examples,
        "caught_up": done.caught_up,
        "margin": done.verdict.margin,
        "candidate": _figures(done.verdict.candidate),
        "served": _figures(done.verdict.served),
    }


def _figures(figures: Figures | None) -> dict[str, float | None] | None:
    if figures is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in figures.as_metrics().items()}

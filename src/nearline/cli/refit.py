"""`nearline refit`: a model that learns new rows; or a deployment's new generation, while its workers go on."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nearline.batch.descent import fit_game
from nearline.batch.refit import RefitSettings, Refitted, refit
from nearline.cli.console import Output, Stopwatch
from nearline.cli.train import AsJson
from nearline.cli.training import last_time, saved_config, warn
from nearline.config import Config, read_config
from nearline.errors import ConfigError, ModelError
from nearline.model.saved import load_model, require_place, save_model
from nearline.store.embedded import EmbeddedStore
from nearline.store.generations import Status
from nearline.stream.drift import Figures
from nearline.stream.joined_log import JoinedLog
from nearline.stream.roles import Role
from nearline.wiring.deployment import stream_folder, worker_settings
from nearline.wiring.stores import find_store, open_store
from nearline.wiring.training import checked, load_examples, pointed_at, training_settings

_SAID = {
    "switched": "live",
    "refused": "refused by the gate; the generation that serves stays",
    "kept": "a candidate: `nearline generations switch` makes it live",
    "undecided": "a candidate: no row shown after the cut says which generation served it: nothing to judge by",
}


def refit_command(
    model: Annotated[
        Path,
        typer.Argument(
            help="The model to refit: a folder; or a deployment's configuration, without DATA.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Argument(help="New rows: a file, or the directory of a public data set.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the new model; by default the old one's.")
    ] = None,
    level: Annotated[
        int, typer.Option(min=1, max=2, help="1 refits everything, 2 the random effects alone.")
    ] = 2,
    keep: Annotated[
        Literal["evidence", "nothing"],
        typer.Option(help="Learn the rows on top of the model's evidence, or from the rows alone."),
    ] = "evidence",
    margin: Annotated[
        float,
        typer.Option(
            min=0.0, help="Of a deployment: the loss may be higher by so much than what was served."
        ),
    ] = 0.002,
    no_switch: Annotated[
        bool, typer.Option("--no-switch", help="Of a deployment: leave the new generation a candidate.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Learn new rows on top of a model; or make a deployment's next generation out of its row log."""
    output, watch = Output(as_json=as_json), Stopwatch()
    if data is None:
        refit_deployment(model, output, level=level, margin=margin, no_switch=no_switch)
        return
    old, metadata = load_model(model)
    config, directory = pointed_at(saved_config(metadata, model), data)
    require_place(out or model)
    with output.step("read", watch):
        examples = load_examples(config.data, directory)
    settings = training_settings(checked(config, examples))
    if level == 2:
        settings = replace(settings, fixed=replace(settings.fixed, locked=True))
    with output.step("refit", watch):
        training = fit_game(examples, settings, start=old, incremental=keep == "evidence")
    warn(training, output)
    folder = out or model
    rows = int(metadata.get("rows", 0)) * (keep == "evidence") + len(examples)
    save_model(training.model, folder, metadata | {"rows": rows} | last_time(examples))
    sizes = {effect.name: effect.entities for effect in training.model.random}
    output.line(f"model: {folder}   rows learned: {len(examples):,}   entities: {sizes}")
    document = {"model": str(folder), "level": level, "rows": len(examples), "entities": sizes}
    output.result(document | {"set_aside": training.rows_set_aside, "seconds": watch.seconds})


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

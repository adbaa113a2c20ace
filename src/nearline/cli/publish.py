"""`nearline publish`: a trained model becomes a generation of a deployment, and serves."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from nearline.cli.console import Output, Stopwatch
from nearline.cli.train import AsJson
from nearline.clock import SystemClock, utc
from nearline.config import StreamConfig, parse_config, read_config
from nearline.errors import ConfigError
from nearline.model.saved import load_model
from nearline.store.embedded import EmbeddedStore
from nearline.stream.joined_log import JoinedLog
from nearline.stream.published import positions_in, publish
from nearline.wiring.deployment import stream_folder
from nearline.wiring.stores import find_store, open_store


def publish_command(
    model: Annotated[Path, typer.Argument(help="The model, a folder.", show_default=False)],
    where: Annotated[
        Path,
        typer.Argument(
            help="The configuration with [stream], or the deployment's folder.", show_default=False
        ),
    ],
    no_switch: Annotated[
        bool, typer.Option("--no-switch", help="Leave it a candidate: `nearline generations switch` later.")
    ] = False,
    after_rows: Annotated[
        bool,
        typer.Option("--after-rows", help="The model has learned the rows joined so far: go on after them."),
    ] = False,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="The time what it knows is of, as 2026-01-31T12:00:00Z, where evidence is forgotten.",
            show_default="of its last row, else now",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a model the next generation of a deployment, which is made if there is none, and switch to it."""
    output, now_ms = Output(as_json=as_json), SystemClock().now_ms()
    game, metadata = load_model(model)
    as_of_ms = int(metadata.get("until_ms", now_ms)) if as_of is None else _milliseconds(as_of)
    folder, stream = _deployment(where, metadata)
    store, rows = _opened(folder, stream), JoinedLog(folder / "joined")
    try:
        positions = positions_in(rows, store.partitions, has_learned_all=after_rows)
        with output.step("publish", Stopwatch()):
            generation = publish(
                store,
                game,
                created_ms=now_ms,
                as_of_ms=as_of_ms,
                positions=positions,
                single=stream.stored_as == "float32",
            )
        number = generation.number
        if not no_switch:
            store.switch(number)
        records, live = store.count(number), store.live()
    finally:
        rows.close()
        store.close()
    output.line(
        f"generation {number}: {'a candidate' if no_switch else 'live'}, {records:,} records as of {utc(as_of_ms)}, "
        f"{len(positions)} partitions: {folder}"
    )
    document = {"folder": str(folder), "generation": number, "live": live, "records": records}
    output.result(document | {"as_of_ms": as_of_ms, "positions": list(positions)})


def _deployment(where: Path, metadata: dict[str, Any]) -> tuple[Path, StreamConfig]:
    """Its folder, and the settings to make it with if it is not there: those the model was trained with."""
    if where.is_dir() or where.suffix != ".toml":
        trained_with = metadata.get("config")
        return where, StreamConfig() if trained_with is None else parse_config(trained_with).stream
    stream = read_config(where).stream
    return stream_folder(stream, where), stream


def _opened(folder: Path, stream: StreamConfig) -> EmbeddedStore:
    if (found := find_store(folder)) is None:
        return open_store(folder / "store", partitions=stream.partitions, history=stream.history)
    if found == folder:
        raise ConfigError(f"{folder}: expected the folder of a deployment, this is the store in it")
    return open_store(found, history=stream.history)


def _milliseconds(time: str) -> int:
    try:
        found = datetime.fromisoformat(time)
    except ValueError as error:
        raise ConfigError(f"--as-of: expected a time such as 2026-01-31T12:00:00Z, got {time!r}") from error
    return round(found.replace(tzinfo=found.tzinfo or UTC).timestamp() * 1000)

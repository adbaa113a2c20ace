"""`nearline log`: events into the log of a folder, out of it, what is in it, and the oldest away."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from nearline.cli.console import FAILED, Output
from nearline.cli.train import AsJson
from nearline.clock import SystemClock
from nearline.errors import DataError, ModelError
from nearline.events.cloudevents import read_event, write_event
from nearline.events.dead_letters import decode_dead_letter, describe_letter
from nearline.events.embedded import EmbeddedLog
from nearline.events.wire import decode_event, encode_event
from nearline.stream.joined_log import JoinedLog
from nearline.stream.learner import DEAD_KEY
from nearline.wiring.stores import existing_store

_HOUR_MS = 3_600_000
_CHUNK = 1_000
_POLL_SECONDS = 0.1

Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="The stream's folder; its log is in DIR/log.", show_default=False),
]

log_app = typer.Typer(help="Append events to a log, read them, and see what is in it.", rich_markup_mode=None)


@log_app.command("append")
def append_command(
    folder: Folder,
    file: Annotated[
        str, typer.Argument(help="CloudEvents in JSON, one a line; - is standard input.", show_default=False)
    ],
    batch: Annotated[int, typer.Option(min=1, help="Events that are made durable together.")] = _CHUNK,
    ahead_hours: Annotated[
        float,
        typer.Option("--ahead", min=0.0, help="Refuse events so many hours ahead of this machine's clock."),
    ] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Append events; a line that is no event is refused and said, the others go in."""
    output = Output(as_json=as_json)
    latest_ms = SystemClock().now_ms() + round(ahead_hours * _HOUR_MS)
    appended, refused = 0, 0
    with _lines(file) as lines, EmbeddedLog(folder / "log") as log:
        records: list[bytes] = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                records.append(encode_event(read_event(line, latest_ms=latest_ms)))
            except DataError as error:
                refused += 1
                sys.stderr.write(f"line {number}: {error}\n")
            if len(records) >= batch:
                log.append(records)
                appended, records = appended + len(records), []
        end = log.append(records)
        appended += len(records)
    said = f", {refused:,} refused" if refused else ""
    output.line(f"{appended:,} events appended{said}: {folder / 'log'} ends at position {end:,}")
    output.result({"log": str(folder / "log"), "appended": appended, "refused": refused, "end": end})
    if refused:
        raise typer.Exit(FAILED)


@log_app.command("tail")
def tail_command(
    folder: Folder,
    after: Annotated[
        int | None, typer.Option(min=0, help="Show what follows this position.", show_default="the last 10")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Show so many events at most.", show_default="all")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on as events come, until interrupted.")
    ] = False,
) -> None:
    """Write events as CloudEvents in JSON, one a line, with the attribute "position"."""
    with EmbeddedLog(folder / "log", create=False) as log:
        position = max(log.end() - 10, log.begin() - 1) if after is None else after
        left = limit
        while left is None or left > 0:
            chunk = log.read(position, _CHUNK if left is None else min(left, _CHUNK))
            for at, record in chunk:
                _write_line(at, record)
            position = chunk.last
            left = None if left is None else left - len(chunk)
            if not chunk:
                if not follow:
                    break
                sys.stdout.flush()
                time.sleep(_POLL_SECONDS)


@log_app.command("show")
def show_command(folder: Folder, as_json: AsJson = False) -> None:
    """Show how many events there are, from when to when, and how much space they take."""
    output = Output(as_json=as_json)
    with EmbeddedLog(folder / "log", create=False) as log:
        partitions = [_describe(log, partition) for partition in range(log.partitions)]
        disk = log.disk_bytes()
    table = Table(box=SIMPLE_HEAD)
    for name in ("partition", "from position", "to position", "events", "bytes", "oldest", "newest"):
        table.add_column(name, justify="right")
    for row in partitions:
        times = [_in_words(row[name]) for name in ("oldest_ms", "newest_ms")]
        numbers = [f"{row[name]:,}" for name in ("partition", "begin", "end", "events", "bytes")]
        table.add_row(*numbers, *times)
    output.table(table)
    output.line(f"{disk:,} bytes on disk: {folder / 'log'}")
    output.result({"log": str(folder / "log"), "partitions": partitions, "disk_bytes": disk})


@log_app.command("trim")
def trim_command(
    folder: Folder,
    up_to: Annotated[
        int, typer.Option(min=0, help="Keep everything after this position.", show_default=False)
    ],
    older_hours: Annotated[
        float | None,
        typer.Option("--older", min=0.0, help="Keep what was appended in the last so many hours."),
    ] = None,
    keep_bytes: Annotated[
        int | None, typer.Option(min=0, help="Keep at least so many bytes of the newest events.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Remove the oldest events, block by block; what is kept for any of the reasons stays."""
    output = Output(as_json=as_json)
    before_ms = None if older_hours is None else SystemClock().now_ms() - round(older_hours * _HOUR_MS)
    with EmbeddedLog(folder / "log", create=False) as log:
        removed = log.trim(up_to, appended_before_ms=before_ms, keep_bytes=keep_bytes)
        begin, end = log.begin(), log.end()
    output.line(f"{removed:,} events removed, {end - begin + 1:,} left: {folder / 'log'}")
    output.result({"log": str(folder / "log"), "removed": removed, "begin": begin, "end": end})


@log_app.command("dead")
def dead_command(
    folder: Folder,
    limit: Annotated[int, typer.Option(min=1, help="Show so many of each place at most, the oldest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show the dead letters: what could not be joined or learned, with the reason."""
    output = Output(as_json=as_json)
    documents = [*_not_joined(folder, limit), *_not_learned(folder, limit)]
    table = Table(box=SIMPLE_HEAD)
    for name in ("from", "position", "event time", "reason", "event"):
        table.add_column(name, justify="right" if name == "position" else "left")
    for row in documents:
        table.add_row(
            row["from"], f"{row['position']:,}", _in_words(row["time_ms"]), row["reason"], row["event"] or ""
        )
    output.table(table) if documents else output.line(f"no dead letters: {folder}")
    output.result({"folder": str(folder), "dead_letters": documents})


def _not_joined(folder: Path, limit: int) -> list[dict[str, Any]]:
    """Of the join: positions are those of the log."""
    if not (folder / "joined" / "data.mdb").is_file():
        raise ModelError(f"{folder}: expected the folder of a deployment; found none")
    joined = JoinedLog(folder / "joined")
    try:
        return [{"from": "log"} | describe_letter(letter) for letter in joined.dead_letters(limit=limit)]
    finally:
        joined.close()


def _not_learned(folder: Path, limit: int) -> list[dict[str, Any]]:
    """Of each partition of the live generation: positions are those of its rows."""
    store = existing_store(folder)
    try:
        if (live := store.live()) is None:
            return []
        return [
            {"from": f"partition {partition}"} | describe_letter(decode_dead_letter(value))
            for partition in range(store.partitions)
            for _, value in store.states(live, partition, DEAD_KEY)[:limit]
        ]
    finally:
        store.close()


@contextmanager
def _lines(file: str) -> Iterator[Iterable[bytes]]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        opened: BinaryIO = Path(file).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    with opened:
        yield opened


def _write_line(position: int, record: bytes) -> None:
    try:
        line = write_event(decode_event(record), position=position)
    except DataError as error:
        sys.stderr.write(f"position {position}: {error}\n")
    else:
        sys.stdout.write(line.decode() + "\n")


def _describe(log: EmbeddedLog, partition: int) -> dict[str, Any]:
    begin, end = log.begin(partition), log.end(partition)
    return {
        "partition": partition,
        "begin": begin,
        "end": end,
        "events": end - begin + 1,
        "bytes": log.size_bytes(partition),
        "oldest_ms": _time_of(log, begin, partition) if end >= begin else None,
        "newest_ms": _time_of(log, end, partition) if end >= begin else None,
    }


def _time_of(log: EmbeddedLog, position: int, partition: int) -> int | None:
    """The time of the event at a position; None if it cannot be read."""
    try:
        return decode_event(log.read(position - 1, 1, partition).records[0]).time_ms
    except DataError:
        return None


def _in_words(time_ms: int | None) -> str:
    return "" if time_ms is None else f"{datetime.fromtimestamp(time_ms // 1_000, UTC):%Y-%m-%d %H:%M:%S}"

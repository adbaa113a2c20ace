"""`nearline generations`: which generations a store has, which one serves, and which may go."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from nearline.cli.console import Output
from nearline.cli.train import AsJson
from nearline.clock import utc
from nearline.store.generations import Generation
from nearline.store.seam import ModelStore
from nearline.wiring.stores import existing_store

generations_app = typer.Typer(
    help="Show, switch and delete the generations of a store.", no_args_is_help=True
)

Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="The store, or the folder it is in.", show_default=False),
]
Number = Annotated[int, typer.Argument(help="The generation's number.", show_default=False)]


@generations_app.command("list")
def list_command(dir_: Folder, as_json: AsJson = False) -> None:
    """Show the generations, oldest first, and which one is live."""
    output = Output(as_json=as_json)
    with _opened(dir_) as store:
        documents = [_describe(store, one) for one in store.generations().known]
        live = store.live()
    table = Table(box=SIMPLE_HEAD)
    for column in ("number", "status", "level", "begun", "records", "trained up to", "gate"):
        table.add_column(column, justify="right" if column in {"number", "level", "records"} else "left")
    for row in documents:
        table.add_row(
            str(row["number"]),
            row["status"] + (", pinned" if row["pinned"] else ""),
            str(row["level"]),
            utc(row["created_ms"]),
            f"{row['records']:,}",
            ", ".join(f"{position:,}" for position in row["positions"]),
            ", ".join(f"{name} {value:.4g}" for name, value in row["metrics"].items()),
        )
    output.table(table)
    if not documents:
        output.line(f"no generations yet: {dir_}")
    output.result({"store": str(dir_), "live": live, "generations": documents})


@generations_app.command("switch")
def switch_command(
    dir_: Folder,
    number: Number,
    force: Annotated[bool, typer.Option("--force", help="Also one in training or refused.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a generation live: every reader has it from its next request on."""
    with _opened(dir_) as store:
        store.switch(number, force=force)
        _say_live(store, dir_, Output(as_json=as_json))


@generations_app.command("rollback")
def rollback_command(dir_: Folder, as_json: AsJson = False) -> None:
    """Make the generation live again that was so before."""
    with _opened(dir_) as store:
        store.rollback()
        _say_live(store, dir_, Output(as_json=as_json))


@generations_app.command("prune")
def prune_command(
    dir_: Folder,
    keep: Annotated[int, typer.Option(min=0, help="Retired and refused generations to keep.")] = 2,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also those in training: nobody may be training one.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete old generations; never the live one, a candidate, or one that is pinned."""
    output = Output(as_json=as_json)
    with _opened(dir_) as store:
        gone = store.prune(keep, unfinished=unfinished)
    output.line(f"deleted: {', '.join(map(str, gone)) or 'none'}")
    output.result({"store": str(dir_), "deleted": list(gone)})


@generations_app.command("pin")
def pin_command(
    dir_: Folder,
    number: Number,
    off: Annotated[bool, typer.Option("--off", help="Let it go again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Keep a generation for good, as a baseline."""
    output = Output(as_json=as_json)
    with _opened(dir_) as store:
        pinned = store.pin(number, pinned=not off).pinned
    output.line(f"generation {number}: {'pinned' if pinned else 'not pinned'}")
    output.result({"store": str(dir_), "number": number, "pinned": pinned})


def _describe(store: ModelStore, generation: Generation) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(generation)
    return document | {"records": store.count(generation.number)}


def _say_live(store: ModelStore, folder: Path, output: Output) -> None:
    generations = store.generations()
    output.line(f"live: generation {generations.live}")
    output.result({"store": str(folder), "live": generations.live, "earlier": list(generations.earlier)})


@contextmanager
def _opened(folder: Path) -> Iterator[ModelStore]:
    store = existing_store(folder)
    try:
        yield store
    finally:
        store.close()

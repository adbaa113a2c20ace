"""`nearline inspect`: what a model, or a store, believes about one entity, and where each belief comes from."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.compute as pc
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from nearline.cli.console import Output
from nearline.cli.entity import show
from nearline.cli.train import AsJson
from nearline.clock import utc
from nearline.errors import ConfigError, ModelError
from nearline.model.belief import describe
from nearline.model.saved import load_model
from nearline.store.records import select_records
from nearline.store.seam import ModelStore
from nearline.store.seeding import with_records
from nearline.store.versions import versions_of
from nearline.wiring.stores import existing_store, find_store


def inspect_command(
    model: Annotated[Path, typer.Argument(help="The model, or a store: a folder.", show_default=False)],
    entity: Annotated[str, typer.Argument(help="The entity's name.", show_default=False)],
    effect: Annotated[str | None, typer.Option(help="Look in this random effect alone.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Coefficients to show, strongest first.")] = 20,
    generation: Annotated[
        int | None, typer.Option(help="Of a store: the generation to look in.", show_default="the live one")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="Of a store: show earlier versions.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show an entity's coefficients with their uncertainty, strongest first, and where they come from."""
    output = Output(as_json=as_json)
    if find_store(model) is None:
        if history or generation is not None:
            raise ConfigError(f"--history, --generation: expected a store, {model} is none")
        _inspect_model(model, entity, effect, top, output)
        return
    store = existing_store(model)
    try:
        _inspect_store(store, model, entity, effect, top, generation, history, output)
    finally:
        store.close()


def _inspect_model(folder: Path, entity: str, effect: str | None, top: int, output: Output) -> None:
    game, metadata = load_model(folder)
    effects = game.random if effect is None else (game.effect(effect),)
    found = [one for one in effects if pc.index(one.names, entity).as_py() >= 0]
    if not found:
        raise _nobody(entity, [f"{one.name} ({one.entities:,} entities)" for one in effects])
    documents = [describe(one, entity, top) for one in found]
    for document in documents:
        show(document, output)
    output.line(f"trained on {metadata.get('rows', 'an unknown number of'):,} rows: {folder}")
    output.result({"model": str(folder), "entity": entity, "effects": documents})


def _inspect_store(
    store: ModelStore,
    folder: Path,
    entity: str,
    effect: str | None,
    top: int,
    generation: int | None,
    history: bool,
    output: Output,
) -> None:
    number = store.generations().serving().number if generation is None else generation
    game = store.model(number)
    documents = []
    for one in game.random if effect is None else (game.effect(effect),):
        kept = store.history(number, one.name, entity)
        if len(kept):
            present = select_records(kept, np.array([len(kept) - 1]))
            document = describe(with_records(one, [entity], present), entity, top)
            documents.append(document | {"versions": versions_of(one, entity, kept)})
    if not documents:
        raise _nobody(entity, [f"{one.name} of generation {number}" for one in game.random])
    for document in documents:
        show(document, output)
        present_version = document["versions"][-1]
        output.line(
            f"version {present_version['version']} as of {utc(present_version['as_of_ms'])}, "
            f"learned up to row {present_version['position']:,}"
        )
        if history:
            _show_versions(document["versions"], output)
        else:
            document["versions"] = [present_version]
    output.line(f"generation {number}: {folder}")
    output.result({"store": str(folder), "generation": number, "entity": entity, "effects": documents})


def _show_versions(versions: list[dict[str, Any]], output: Output) -> None:
    table = Table(title="versions kept", title_justify="left", box=SIMPLE_HEAD)
    for column in ("version", "as of", "up to row", "rows learned", "nats"):
        table.add_column(column, justify="right")
    for row in versions:
        table.add_row(
            str(row["version"]),
            utc(row["as_of_ms"]),
            f"{row['position']:,}",
            f"{row['rows_learned']:,}",
            f"{row['information_nats']:.1f}",
        )
    output.table(table)


def _nobody(entity: str, looked: list[str]) -> ModelError:
    places = ", ".join(looked) or "no random effects"
    return ModelError(f"no entity {entity!r} in {places}: it is served by the population prior")

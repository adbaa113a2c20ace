"""`nearline demo`: the loop closed over HTTP, or the levels of freshness replayed."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from nearline.cli.console import Output, Stopwatch
from nearline.cli.demo_loop import closed_loop
from nearline.cli.demo_replay import replay_levels
from nearline.cli.train import AsJson
from nearline.errors import ConfigError

_LOOP = "loop"
_WRITTEN = "written-by-nearline-demo"


def demo_command(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that is written.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of the world, or of the rows.")] = 1,
    seconds: Annotated[float, typer.Option(min=6, max=600, help="How long visitors come.")] = 60.0,
    replay: Annotated[
        bool, typer.Option("--replay", help="Replay a stream at each level of freshness instead.")
    ] = False,
    rows: Annotated[int, typer.Option(min=1000, help="Rows to replay.")] = 20_000,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Directory with ml100k/, to replay instead; by default that in NEARLINE_DATA."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Serve simulated visitors and learn from their clicks, at several levels of freshness side by side."""
    output, watch = Output(as_json=as_json), Stopwatch()
    if replay:
        replay_levels(out, output, watch, rows=rows, seed=seed, data=data)
        return
    if data is not None:
        raise ConfigError("--data: only for --replay")
    place = out / _LOOP
    if (out.exists() and not out.is_dir()) or (place.exists() and not (place / _WRITTEN).is_file()):
        raise ConfigError(f"--out: expected a folder that is new or of an earlier demo, got {out}")
    shutil.rmtree(place, ignore_errors=True)  # deployments begin empty
    place.mkdir(parents=True)
    (place / _WRITTEN).touch()
    closed_loop(place, output, watch, seed=seed, seconds=seconds)

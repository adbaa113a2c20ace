"""`nearline score`: a model and rows in, predictions out."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import typer

from nearline.batch.tables import examples_from_table
from nearline.cli.console import Output, Stopwatch, peak_memory_bytes, require_writable
from nearline.cli.train import AsJson
from nearline.cli.training import saved_config
from nearline.errors import ConfigError
from nearline.fixed.linear import available_cores
from nearline.model.game import Scores
from nearline.model.saved import load_model
from nearline.wiring.training import pointed_at, table_and_mapping


def score_command(
    model: Annotated[Path, typer.Argument(help="The model: a folder.", show_default=False)],
    data: Annotated[
        Path, typer.Argument(help="Rows to score: a file, or a data set's directory.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", help="File for the predictions: .parquet or .csv, a row for each row.")
    ] = Path("scores.parquet"),
    as_json: AsJson = False,
) -> None:
    """Predict: mean response, its std, and what each effect contributes, for every row."""
    if out.suffix not in {".parquet", ".csv"}:
        raise ConfigError(f"--out: expected a file that ends in .parquet or .csv, got {out}")
    require_writable("--out", out)
    output, watch = Output(as_json=as_json), Stopwatch()
    game, metadata = load_model(model)
    config, directory = pointed_at(saved_config(metadata, model), data)
    with output.step("read", watch):
        table, mapping, source = table_and_mapping(config.data, directory)
        mapping = replace(mapping, weight=None, time=None)  # neither has a part in a score
        examples = examples_from_table(table, mapping, source=source, labelled=False)
    with output.step("score", watch):
        scores = game.score(examples, threads=available_cores())
        _write(_scores_table(scores), out)
    undefined = int(np.count_nonzero(np.isnan(scores.mean)))
    if undefined:
        output.remark(
            f"warning: {undefined:,} rows have no score: an offset or a feature is not a finite number"
        )
    output.line(f"{len(examples):,} rows scored: {out}")
    output.result(
        {
            "rows": len(examples),
            "without_score": undefined,
            "scores": str(out),
            "seconds": watch.seconds,
            "peak_memory_bytes": peak_memory_bytes(),
        }
    )


def _scores_table(scores: Scores) -> pa.Table:
    columns = {
        "mean": scores.mean,
        "std": scores.std,
        "linear": scores.linear,
        "linear_variance": scores.variance,
    }
    columns |= {f"contribution_{name}": values for name, values in scores.contributions.items()}
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def _write(table: pa.Table, path: Path) -> None:
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)

"""`nearline demo`: generate rows whose true coefficients are known, train on them, and see how near the model came."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from nearline.cli.console import Output, Stopwatch
from nearline.cli.train import AsJson, train
from nearline.config import read_config
from nearline.datasets.generated import generate
from nearline.evaluate.recovery import Recovery, compare
from nearline.model.saved import require_place
from nearline.wiring import load_examples

CONFIG = """\
# Written by `nearline demo`. Train again with: nearline train demo.toml
title = "Generated impressions: who clicks what?"
outcome = "bernoulli"

[data]
path = "impressions.parquet"
response = "clicked"
entities = { user = "user", item = "item" }

# Bags of features: what the shared model sees, what a user's taste is about, what an item's appeal depends on.
[data.bags]
context = ["genre", "length", "age", "device"]
of_item = ["genre", "length"]
of_user = ["age"]

[fixed_effect]
bags = ["context"]

[random_effects.per-user]
entity = "user"
bags = ["of_item"]

[random_effects.per-item]
entity = "item"
bags = ["of_user"]

[evaluation]
test_fraction = 0.2
seeds = [1, 2]
"""


def demo_command(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for rows, configuration, model and report.")
    ] = Path("demo"),
    rows: Annotated[int, typer.Option(min=1000, help="Rows to generate.")] = 60_000,
    seed: Annotated[int, typer.Option(help="Of the generator.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Train on generated rows whose true coefficients are known, and show how near the model came."""
    output, watch = Output(as_json=as_json), Stopwatch()
    require_place(out / "demo.model")
    with output.step("generate", watch):
        generated = generate(rows, seed)
        out.mkdir(parents=True, exist_ok=True)
        pq.write_table(generated.table, out / "impressions.parquet")
        (out / "demo.toml").write_text(CONFIG, encoding="utf-8")
    output.remark(f"{rows:,} generated impressions in {out / 'impressions.parquet'}")
    config = read_config(out / "demo.toml")
    with output.step("read", watch):
        examples = load_examples(config.data, out)
    model, document = train(config, examples, out / "demo.model", out / "report.html", output, watch)
    recovered = compare(model, generated.truth)
    _show(recovered, output)
    output.result(document | {"recovery": [asdict(row) for row in recovered]})


def _show(recovered: tuple[Recovery, ...], output: Output) -> None:
    title = "How near the model on all rows came to the true coefficients"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("effect", no_wrap=True)
    table.add_column("coefficient", no_wrap=True)
    columns = ("prior\nstd", "true\nstd", "\ncorr.", "rms\nerror", "of\nprior", "in\n90 %")
    for column in columns:
        table.add_column(column, justify="right")
    for row in recovered:
        table.add_row(
            row.effect,
            row.feature,
            f"{row.prior_std:.2f}",
            f"{row.true_std:.2f}",
            f"{row.correlation:.2f}",
            f"{row.rms_error:.2f}",
            f"{row.rms_of_prior_mean:.2f}",
            f"{row.covered:.1%}",
        )
    output.table(table)
    output.line(
        "prior std: of the population, as estimated; corr., rms error: of the estimates\n"
        "with the true coefficients; of prior: that error without models of their own;\n"
        "in 90 %: true coefficients within their 90 % interval"
    )

"""`nearline demo --replay`: the levels of freshness on a stream that drifts, or on MovieLens where its files are."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import pyarrow as pa
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.table import Table

from nearline import datasets
from nearline.cli.console import Output, Stopwatch
from nearline.cli.replay import replay
from nearline.config import read_config
from nearline.datasets.drifting import Drift, generate_stream
from nearline.datasets.generated import TrueEffect
from nearline.errors import ConfigError
from nearline.evaluate.recovery import Recovery, compare
from nearline.model.saved import require_place, save_model
from nearline.wiring.replays import load_stream

GENERATED = """\
# Written by `nearline demo --replay`. Replay again with: nearline replay demo.toml
title = "Generated impressions that drift: what is freshness worth?"
outcome = "bernoulli"

[data]
path = "impressions.parquet"
response = "clicked"
time = "time"
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
forgetting = "choose"

[random_effects.per-item]
entity = "item"
bags = ["of_user"]
forgetting = "choose"

[replay]
train_share = 0.5
refit_every = "1/10"
ideal_every = "1/50"
window = "1/4"
sensitivity = false  # true also tries other mini-batches, forgetting and precision: some minutes
"""

MOVIELENS = """\
# Written by `nearline demo --replay`. Replay again with: nearline replay demo.toml
title = "MovieLens in the order of time: what is freshness worth?"
outcome = "bernoulli"

[data]
path = "ratings.parquet"
response = "rating"
response_above = 3
time = "time"
time_unit = "s"
entities = { user = "user_id", film = "film_id" }

[data.bags]
global = ["genres", "year", "age", "gender", "occupation"]
of_film = ["genres", "year"]
of_user = ["age", "gender", "occupation"]

[fixed_effect]
bags = ["global"]

[random_effects.per-user]
entity = "user"
bags = ["of_film"]

[random_effects.per-film]
entity = "film"
bags = ["of_user"]

[replay]
train_share = 0.5
refit_every = "1/10"
ideal_every = "1/25"
window = "1/4"
sensitivity = false  # true also tries other mini-batches, forgetting and precision: some minutes
"""
ONE_USER_IN = 6
"""Of MovieLens the ratings of one user in so many are replayed, which takes under a minute."""


def replay_levels(
    out: Path, output: Output, watch: Stopwatch, *, rows: int, seed: int, data: Path | None
) -> None:
    """Replay a stream whose truth drifts at each level of freshness, and show how near level 3 came to the truth."""
    require_place(out / "demo.model")
    if data is not None and not (data / "ml100k").is_dir():
        raise ConfigError(f"--data: expected a directory with a folder ml100k, got {data}")
    known = os.environ.get("NEARLINE_DATA")
    if data is None and known and (Path(known) / "ml100k").is_dir():
        data = Path(known)
    out.mkdir(parents=True, exist_ok=True)
    with output.step("prepare", watch):
        prepared = _generated(out, rows, seed) if data is None else _movielens(out, data)
    for line in prepared.about:
        output.remark(line)
    config = read_config(out / "demo.toml")
    with output.step("read", watch):
        stream, _ = load_stream(config, out)
    replayed, document = replay(config, stream, out / "report.html", output, watch, prepared.about)
    assert replayed.model is not None  # noqa: S101 - no effect is against another here
    metadata = {"config": config.model_dump(mode="json", exclude_defaults=True), "rows": len(stream)}
    save_model(replayed.model, out / "demo.model", metadata)
    recovered = compare(replayed.model, prepared.truth)
    if recovered:
        _show(recovered, output)
    output.result(document | {"recovery": [asdict(row) for row in recovered]})


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    about: tuple[str, ...]
    truth: Mapping[str, TrueEffect]


def _generated(out: Path, rows: int, seed: int) -> _Prepared:
    drift = Drift()
    generated = generate_stream(rows, seed, drift)
    pq.write_table(generated.table, out / "impressions.parquet")
    (out / "demo.toml").write_text(GENERATED, encoding="utf-8")
    return _Prepared((f"{rows:,} generated impressions. {drift}",), generated.truth)


def _movielens(out: Path, data: Path) -> _Prepared:
    table = datasets.load("movielens100k", data).table
    some = table.filter(pa.array(table["user_id"].to_numpy() % ONE_USER_IN == 0))
    pq.write_table(some, out / "ratings.parquet")
    (out / "demo.toml").write_text(MOVIELENS, encoding="utf-8")
    said = (
        f"{some.num_rows:,} ratings of MovieLens 100K, those of one user in {ONE_USER_IN}, in the order in which they "
        "were given. Liked is a rating above 3."
    )
    return _Prepared((said,), {})


def _show(recovered: tuple[Recovery, ...], output: Output) -> None:
    title = "How near level 3 is to the true coefficients at the end of the stream"
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

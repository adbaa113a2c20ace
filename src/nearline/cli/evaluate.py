"""`nearline evaluate`: a model and labelled rows in, metrics and a report out."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from nearline.cli.console import Output, Stopwatch, peak_memory_bytes, require_writable
from nearline.cli.train import AsJson
from nearline.cli.training import saved_config
from nearline.errors import DataError
from nearline.evaluate import curves
from nearline.evaluate.describe import describe_training, effect_distributions
from nearline.evaluate.report import Report, write_report
from nearline.evaluate.results import Evaluation, MetricResult
from nearline.evaluate.staged import judge
from nearline.fixed.linear import available_cores
from nearline.model.examples import Examples, usable_rows
from nearline.model.game import GameModel, expected_response
from nearline.model.saved import load_model
from nearline.wiring.training import load_examples, pointed_at


def evaluate_command(
    model: Annotated[Path, typer.Argument(help="The model: a folder.", show_default=False)],
    data: Annotated[
        Path, typer.Argument(help="Labelled rows: a file, or a data set's directory.", show_default=False)
    ],
    report: Annotated[Path, typer.Option("--report", help="File for the HTML report.")] = Path(
        "evaluation.html"
    ),
    resamples: Annotated[int, typer.Option(min=10, help="Bootstrap resamples for the intervals.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Judge a model on rows it has not seen, beside its fixed effect alone, and write a report."""
    output, watch = Output(as_json=as_json), Stopwatch()
    require_writable("--report", report)
    game, metadata = load_model(model)
    config, directory = pointed_at(saved_config(metadata, model), data)
    with output.step("read", watch):
        loaded = load_examples(config.data, directory)
    examples, set_aside = _usable(loaded, game, output)
    with output.step("score", watch):
        scores = game.score(examples, threads=available_cores())
    fixed = scores.contributions["offset"] + scores.contributions["fixed"]
    alone = expected_response(game.outcome, fixed, np.zeros_like(fixed))
    with output.step("judge", watch):
        evaluation = judge(
            game, scores, examples, baseline=alone if game.random else None, resamples=resamples
        )
    page = Report(
        f"{config.title}: evaluation",
        evaluation,
        curves(examples.response, scores.mean, examples.weight, game.outcome),
        effects=effect_distributions(game),
        training=describe_training(game, int(metadata.get("rows", 0)), watch.seconds, peak_memory_bytes()),
        about=f"{len(examples):,} rows of {data}.",
    )
    write_report(report, page)
    _show(evaluation, output)
    output.line(f"report: {report}")
    output.result(
        evaluation.to_dict() | {"report": str(report), "set_aside": set_aside, "seconds": watch.seconds}
    )


def _usable(examples: Examples, model: GameModel, output: Output) -> tuple[Examples, dict[str, int]]:
    """The rows the model can be judged by, and how many cannot, by reason."""
    good, reasons = usable_rows(examples, model.outcome)
    if unweighted := int(np.count_nonzero(good & (examples.weight == 0.0))):
        reasons["weight is 0"] = unweighted
        good &= examples.weight > 0.0
    for reason, count in reasons.items():
        output.remark(f"warning: {count:,} rows set aside: {reason}")
    if not good.any():
        raise DataError(f"no row can be evaluated: {len(examples)} rows, set aside: {reasons or 'none'}")
    return (examples if good.all() else examples.take(good)), reasons


def _show(evaluation: Evaluation, output: Output) -> None:
    table = Table(title=f"{evaluation.overall.rows:,} rows", title_justify="left")
    for column in ("metric", "value", f"{evaluation.level:.0%} interval", "gain over the fixed effect"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for result in evaluation.overall.metrics:
        table.add_row(*_cells(evaluation, result))
    output.table(table)


def _cells(evaluation: Evaluation, result: MetricResult) -> tuple[str, str, str, str]:
    estimate, gain = result.estimate, result.gain
    return (
        evaluation.label(result),
        f"{estimate.value:.4f}",
        f"{estimate.low:.4f} to {estimate.high:.4f}",
        "" if gain is None else f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})",
    )

"""`nearline train`: configuration and rows in, a model and its report out."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import typer
from rich.table import Table

from nearline.batch.descent import Training, Watch, fit_game
from nearline.batch.settings import TrainingSettings
from nearline.cli.console import Output, Stopwatch, peak_memory_bytes, require_writable
from nearline.config import Config, parse_config, read_config
from nearline.errors import MissingExtraError, ModelError
from nearline.evaluate import curves
from nearline.evaluate.catalogue import METRICS
from nearline.evaluate.describe import describe_training, effect_distributions
from nearline.evaluate.report import Reference, Report, Stage, renderer, write_report
from nearline.evaluate.results import Evaluation
from nearline.evaluate.staged import StageRun, judge, run_stages, stage_of
from nearline.model.examples import Examples
from nearline.model.game import GameModel
from nearline.model.saved import require_place, save_model
from nearline.wiring.training import checked, load_rows, training_settings

ConfigPath = Annotated[Path, typer.Argument(help="The configuration, a TOML file.", show_default=False)]
DataDirectory = Annotated[
    Path | None, typer.Option("--data", help="Directory of the data; by default that of the configuration.")
]
ModelFolder = Annotated[
    Path | None,
    typer.Option("--model", help="Folder for the model; by default named after the configuration."),
]
ReportPath = Annotated[
    Path | None, typer.Option("--report", help="File for the HTML report; by default beside the model.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write the result as JSON, for programs.")]


def train_command(
    config: ConfigPath,
    data: DataDirectory = None,
    model: ModelFolder = None,
    report: ReportPath = None,
    as_json: AsJson = False,
) -> None:
    """Train a model, judge it on rows held out, save it and write a report."""
    output, watch = Output(as_json=as_json), Stopwatch()
    settings = read_config(config)
    training_settings(settings)
    folder = model or Path(config.stem + ".model")
    require_place(folder)
    if report is not None:
        require_writable("--report", report)
    with output.step("read", watch):
        examples, data_config = load_rows(settings.data, data or config.parent)
    settings = settings.model_copy(update={"data": data_config})
    report = report or folder.parent / (folder.resolve().name.removesuffix(".model") + ".html")
    output.result(train(settings, examples, folder, report, output, watch)[1])


def train(
    config: Config, examples: Examples, folder: Path, report: Path, output: Output, watch: Stopwatch
) -> tuple[GameModel, dict[str, Any]]:
    """Train as configured, write the model folder and, if rows are held out, the report; return both results."""
    settings = training_settings(checked(config, examples))
    stages: dict[str, tuple[StageRun, ...]] = {}
    evaluation: Evaluation | None = None
    if config.evaluation.test_fraction > 0.0:
        stages, training, evaluation = _train_in_stages(config, examples, settings, output, watch)
    else:
        with watch.step("train on all rows"):
            training = _fit(examples, settings, output)
    metadata = {"config": config.model_dump(mode="json", exclude_defaults=True), "rows": len(examples)}
    metadata |= last_time(examples)
    with output.step("save", watch):
        save_model(training.model, folder, metadata)
    warn(training, output)
    set_aside = training.rows_set_aside
    document: dict[str, Any] = {"model": str(folder), "rows": len(examples), "set_aside": set_aside}
    if evaluation is not None:
        summaries = tuple(stage_of(runs) for runs in stages.values())
        with output.step("report", watch):
            page = _report(
                config, stages, summaries, evaluation, training.model, len(examples), watch.seconds
            )
            written = _write(report, page, output)
        _show_stages(summaries, page.references, output)
        document |= {"report": written, "stages": _stage_document(summaries)}
        document |= {"evaluation": evaluation.to_dict()}
        if written is not None:
            output.line(f"report: {written}")
    else:
        output.remark(
            "no report: evaluation.test_fraction is 0, so no rows are held out to judge the model by"
        )
    output.line(f"model: {folder}")
    output.line(f"seconds: {watch.in_words()}")
    return training.model, document | {"seconds": watch.seconds, "peak_memory_bytes": peak_memory_bytes()}


def _train_in_stages(
    config: Config, examples: Examples, settings: TrainingSettings, output: Output, watch: Stopwatch
) -> tuple[dict[str, tuple[StageRun, ...]], Training, Evaluation]:
    """Every stage with every seed; the training on all rows and the judgement of the first seed beside them."""
    seeds = config.evaluation.seeds

    def finish(runs: Sequence[StageRun], go_on: Watch) -> tuple[Training, Evaluation]:
        with watch.step("train on all rows", beside=True):
            training = fit_game(examples, settings, start=runs[-1].training.model, watch=go_on)
        steps.done("all rows")
        with watch.step("judge", beside=True):
            evaluation = _judge(config, runs)
        with suppress(MissingExtraError):  # said when the report is to be written
            renderer()  # loads Matplotlib while the seeds are still at work
        return training, evaluation

    work = len(seeds) * (1 + len(settings.random)) + 1
    with watch.step("train and judge each stage"), output.progress("training", work) as steps:
        stages, (training, evaluation) = run_stages(
            finish,
            examples,
            settings,
            test_fraction=config.evaluation.test_fraction,
            seeds=seeds,
            on_stage=lambda seed, stage: steps.done(f"seed {seed}: {stage}"),
        )
    return stages, training, evaluation


def _fit(examples: Examples, settings: TrainingSettings, output: Output) -> Training:
    with output.progress("training on all rows", settings.sweeps) as steps:
        return fit_game(
            examples, settings, watch=lambda sweep: steps.done(f"training on all rows: sweep {sweep.number}")
        )


def _write(path: Path, page: Report, output: Output) -> str | None:
    """Write the report; without the extra that does, say so, since the model itself is there."""
    try:
        write_report(path, page)
    except MissingExtraError as error:
        output.remark(f"warning: no report: {error}")
        return None
    return str(path)


def _judge(config: Config, runs: Sequence[StageRun]) -> Evaluation:
    """Judge the last stage of one seed, beside its first: the fixed effect alone."""
    baseline, last = runs[0], runs[-1]
    return judge(
        last.training.model,
        last.scores,
        last.test,
        baseline=baseline.scores.mean if len(runs) > 1 else None,
        seed=last.seed,
        resamples=config.evaluation.resamples,
    )


def _report(
    config: Config,
    stages: Mapping[str, tuple[StageRun, ...]],
    summaries: tuple[Stage, ...],
    evaluation: Evaluation,
    model: GameModel,
    rows: int,
    seconds: Mapping[str, float],
) -> Report:
    last = list(stages.values())[-1][0]
    references = tuple(
        Reference(each.name, each.metric, each.values, each.source) for each in config.evaluation.references
    )
    share = config.evaluation.test_fraction
    about = (
        f"{rows:,} rows; {share:.0%} held out at random for each of {len(config.evaluation.seeds)} seeds. "
        f"Intervals are of seed {last.seed}."
    )
    return Report(
        config.title,
        evaluation,
        curves(last.test.response, last.scores.mean, last.test.weight, model.outcome),
        summaries,
        references,
        effect_distributions(model),
        describe_training(model, rows, seconds, peak_memory_bytes()),
        about=about,
    )


def warn(training: Training, output: Output) -> None:
    """Say which rows and entities a training left out, and whether its fixed effect did not settle."""
    for reason, count in training.rows_set_aside.items():
        output.remark(f"warning: {count:,} rows set aside: {reason}")
    for effect, failures in training.failures.items():
        for status, count in failures.items():
            output.remark(f"warning: {effect}: {count:,} entities keep the prior: {status.name.lower()}")
    if training.fixed_unsettled is not None:
        output.remark(f"warning: the fixed effect: {training.fixed_unsettled}")


def _show_stages(stages: tuple[Stage, ...], references: tuple[Reference, ...], output: Output) -> None:
    table = Table(title="On rows held out: mean over seeds (± standard deviation)", title_justify="left")
    table.add_column("stage")
    names = [
        name for name in ("auc", "log_loss", "rmse", "mae", "poisson_deviance") if name in stages[0].scores
    ]
    for name in names:
        table.add_column(METRICS[name].label, justify="right")
        for reference in references:
            if reference.metric == name:
                table.add_column(f"{reference.name} {METRICS[name].label}", justify="right")
    for stage in stages:
        cells = [stage.name]
        for name in names:
            values = stage.scores[name]
            spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{fmean(values):.4f}{spread}")
            for reference in references:
                if reference.metric == name:
                    known = reference.values.get(stage.name)
                    cells.append("" if known is None else f"{known:.4f}")
        table.add_row(*cells)
    output.table(table)


def _stage_document(stages: tuple[Stage, ...]) -> dict[str, Any]:
    return {
        stage.name: {
            metric: {"mean": _number(fmean(values)), "values": [_number(value) for value in values]}
            for metric, values in stage.scores.items()
        }
        for stage in stages
    }


def _number(value: float) -> float | None:
    """What JSON can hold: an undefined metric is null."""
    return value if math.isfinite(value) else None


def last_time(examples: Examples) -> dict[str, int]:
    """The time of the last row, where rows have times: what is learned is of that time."""
    if examples.time_ms is None or not len(examples):
        return {}
    return {"until_ms": int(examples.time_ms.max())}


def saved_config(metadata: Mapping[str, Any], model: Path) -> Config:
    """The configuration a model was trained with."""
    if "config" not in metadata:
        raise ModelError(
            f"{model}: expected a model trained by `nearline train`: it says nothing of its columns"
        )
    return parse_config(metadata["config"], source=f"{model}/model.json")

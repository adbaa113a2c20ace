"""What `nearline train` does: read, train and judge in stages, save, report."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.table import Table

from nearline.batch.descent import Training, Watch, fit_game
from nearline.batch.settings import TrainingSettings
from nearline.cli.console import Output, Stopwatch, peak_memory_bytes, require_writable
from nearline.cli.page_process import PageProcess
from nearline.config import Config, parse_config
from nearline.errors import ModelError
from nearline.evaluate import curves
from nearline.evaluate.catalogue import METRICS
from nearline.evaluate.describe import describe_training, effect_distributions
from nearline.evaluate.report import Reference, Report, Stage
from nearline.evaluate.results import Evaluation
from nearline.evaluate.staged import StageRun, judge, run_stages, stage_of
from nearline.model.examples import Examples
from nearline.model.saved import require_place, save_model
from nearline.wiring.training import checked, load_rows, training_settings


def train(
    config: Config,
    path: Path,
    data: Path,
    model: Path | None,
    report: Path | None,
    drawing: PageProcess | None,
    output: Output,
    watch: Stopwatch,
) -> None:
    """Train by the configuration file `path`, whose data are in the folder `data`, and say how it went."""
    training_settings(config)
    folder = model or Path(path.stem + ".model")
    require_place(folder)
    if report is not None:
        require_writable("--report", report)
    report = report or folder.parent / (folder.resolve().name.removesuffix(".model") + ".html")
    with output.step("read", watch):
        examples, data_config = load_rows(config.data, data)
    config = config.model_copy(update={"data": data_config})
    output.result(_train(config, examples, folder, report, drawing, output, watch))


def _train(
    config: Config,
    examples: Examples,
    folder: Path,
    report: Path,
    drawing: PageProcess | None,
    output: Output,
    watch: Stopwatch,
) -> dict[str, Any]:
    """Train as configured, write the model folder and, if rows are held out, the report; return the result."""
    settings = training_settings(checked(config, examples))
    stages: tuple[Stage, ...] = ()
    draft: Report | None = None
    if config.evaluation.test_fraction > 0.0:
        stages, training, draft = _train_in_stages(config, examples, settings, drawing, output, watch)
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
    if draft is not None:
        if drawing is not None:
            with output.step("report", watch):
                about = describe_training(training.model, len(examples), watch.seconds, peak_memory_bytes())
                effects = effect_distributions(training.model)
                page = drawing.finish(replace(draft, stages=stages, effects=effects, training=about))
                report.write_text(page, encoding="utf-8")
        _show_stages(stages, draft.references, output)
        document |= {"report": str(report) if drawing is not None else None}
        document |= {"stages": _stage_document(stages), "evaluation": draft.evaluation.to_dict()}
        if drawing is not None:
            output.line(f"report: {report}")
    output.line(f"model: {folder}")
    output.line(f"seconds: {watch.in_words()}")
    return document | {"seconds": watch.seconds, "peak_memory_bytes": peak_memory_bytes()}


def _train_in_stages(
    config: Config,
    examples: Examples,
    settings: TrainingSettings,
    drawing: PageProcess | None,
    output: Output,
    watch: Stopwatch,
) -> tuple[tuple[Stage, ...], Training, Report]:
    """Every stage with every seed; beside them the training on all rows, and the first seed judged and drawn."""
    seeds = config.evaluation.seeds

    def finish(runs: Sequence[StageRun], go_on: Watch) -> tuple[Training, Report]:
        with watch.step("judge", beside=True):
            draft = _draft(config, runs[-1], _judge(config, runs), len(examples))
        if drawing is not None:
            drawing.begin(draft)
        with watch.step("train on all rows", beside=True):
            training = fit_game(examples, settings, start=runs[-1].training.model, watch=go_on)
        steps.done("all rows")
        return training, draft

    work = len(seeds) * (1 + len(settings.random)) + 1
    with watch.step("train and judge each stage"), output.progress("training", work) as steps:
        stages, (training, draft) = run_stages(
            finish,
            examples,
            settings,
            test_fraction=config.evaluation.test_fraction,
            seeds=seeds,
            on_stage=lambda seed, stage: steps.done(f"seed {seed}: {stage}"),
        )
    return tuple(stage_of(runs) for runs in stages.values()), training, draft


def _fit(examples: Examples, settings: TrainingSettings, output: Output) -> Training:
    with output.progress("training on all rows", settings.sweeps) as steps:
        return fit_game(
            examples, settings, watch=lambda sweep: steps.done(f"training on all rows: sweep {sweep.number}")
        )


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


def _draft(config: Config, last: StageRun, evaluation: Evaluation, rows: int) -> Report:
    """The report but for what all seeds, all rows, or the time they took, have a say in."""
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
        curves(last.test.response, last.scores.mean, last.test.weight, last.training.model.outcome),
        references=references,
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

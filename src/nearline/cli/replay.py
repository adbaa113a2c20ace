"""`nearline replay`: a labelled stream in, what each level of freshness would have predicted of it out."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from nearline.cli.console import Output, Stopwatch, peak_memory_bytes, require_writable
from nearline.cli.train import AsJson, ConfigPath, DataDirectory
from nearline.config import Config, read_config
from nearline.errors import MissingExtraError
from nearline.evaluate.bootstrap import Estimate
from nearline.evaluate.catalogue import label
from nearline.evaluate.freshness import Replayed, replay_levels
from nearline.evaluate.freshness_measures import Freshness, measure
from nearline.evaluate.freshness_report import ReplayReport, write_replay_report
from nearline.evaluate.freshness_words import main_metric, rule_text
from nearline.evaluate.levels import LEVEL_3
from nearline.evaluate.replay import Stream
from nearline.wiring.replays import load_logged_stream, load_stream, online_settings, replay_settings
from nearline.wiring.training import training_settings

_SHOWN = ("log_loss", "auc", "observed_over_expected", "ece", "rmse", "mae", "poisson_deviance")


def replay_command(
    config: ConfigPath,
    data: DataDirectory = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File for the HTML report; by default NAME.replay.html for NAME.toml."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            metavar="DIR",
            help="Replay the events in this deployment's log, joined as [stream] says.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Walk a stream in time order and compare levels of freshness, each row scored before it is learned."""
    output, watch = Output(as_json=as_json), Stopwatch()
    settings = read_config(config)
    report = out or Path(config.stem + ".replay.html")
    require_writable("--out", report)
    if log is None:
        with output.step("read", watch):
            stream, set_aside = load_stream(settings, data or config.parent)
    else:
        with watch.step("read"), output.progress("read events", None) as bar:
            stream, set_aside = load_logged_stream(
                settings, log, lambda done, of: bar.to(f"read {done:,} of {of:,} events", done)
            )
    for reason, rows in set_aside.items():
        what = ("row" if log is None else "event") + ("" if rows == 1 else "s")
        output.remark(f"warning: {rows:,} {what} set aside: {reason}")
    document = replay(settings, stream, report, output, watch)[1]
    output.result(document | {"set_aside": set_aside})


def replay(
    config: Config,
    stream: Stream,
    report: Path,
    output: Output,
    watch: Stopwatch,
    about: tuple[str, ...] = (),
) -> tuple[Replayed, dict[str, Any]]:
    """Replay as configured, show the table and write the report; return what was found, also for programs."""
    settings, (online, choose) = replay_settings(config), online_settings(config)
    with watch.step("replay"), _bar(output, len(settings.levels) * len(stream)) as bar:
        replayed = replay_levels(
            stream,
            training_settings(config),
            settings,
            online,
            choose=choose,
            watch=bar.walked,
            say=bar.says,
        )
    with output.step("measure", watch):
        found = measure(replayed, resamples=config.evaluation.resamples)
    written: str | None = str(report)
    with output.step("report", watch):
        try:
            write_replay_report(report, ReplayReport(config.title, replayed, found, about))
        except MissingExtraError as error:
            output.remark(f"warning: no report: {error}")
            written = None
    _show(replayed, found, output)
    if written is not None:
        output.line(f"report: {written}")
    output.line("seconds: " + ", ".join(f"{name} {took:.1f}" for name, took in watch.seconds.items()))
    return replayed, _document(replayed, found, written) | {
        "seconds": watch.seconds,
        "peak_memory_bytes": peak_memory_bytes(),
    }


class _Bar:
    """Shows how far a replay is; levels are walked one after the other."""

    def __init__(self, steps: Any) -> None:
        self._steps, self._before, self._level, self._done = steps, 0, "", 0

    def walked(self, level: str, done: int, rows: int) -> None:
        if level != self._level or done < self._done:
            self._before += self._done
        self._level, self._done = level, done
        self._steps.to(f"{level}: {done:,} of {rows:,} rows", self._before + done)

    def says(self, what: str) -> None:
        self._steps.to(what, self._before + self._done)


@contextmanager
def _bar(output: Output, rows: int) -> Iterator[_Bar]:
    with output.progress("replay", rows) as steps:
        yield _Bar(steps)


def _show(replayed: Replayed, found: Freshness, output: Output) -> None:
    metric = main_metric(found)
    shown = [name for name in _SHOWN if name in found.levels[0].metrics]
    title = f"{found.rows:,} rows, each scored before it was learned"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("level", no_wrap=True)
    heads = {"observed_over_expected": "obs./\nexp.", "ece": "calib.\nerror", "log_loss": "log\nloss"}
    for column in [heads.get(name, label(name)) for name in shown]:
        table.add_column(column, justify="right")
    table.add_column(f"above {LEVEL_3}\n(95 % interval)", justify="right", no_wrap=True)
    table.add_column("sec.", justify="right")
    for level in found.levels:
        behind = level.behind[metric]
        table.add_row(
            level.name,
            *(f"{level.metrics[name]:.{3 if name != metric else 4}f}" for name in shown),
            "" if level.name == LEVEL_3 else f"{behind.value:+.4f} ({behind.low:.3f} {behind.high:.3f})",
            f"{level.seconds:.1f}",
        )
    output.table(table)
    forgets = [
        f"{effect.name} {rule_text(_constant(replayed, effect.name))}"
        for effect in replayed.first_model.random
    ]
    if forgets:
        output.line(f"time constants of forgetting of {LEVEL_3}: {', '.join(forgets)}")


def _constant(replayed: Replayed, effect: str) -> float | None:
    rule = replayed.online.forgetting.get(effect)
    return None if rule is None else rule.time_constant_ms


def _document(replayed: Replayed, found: Freshness, report: str | None) -> dict[str, Any]:
    return {
        "report": report,
        "rows": len(replayed.stream),
        "judged": found.rows,
        "levels": {
            level.name: {
                "meaning": level.meaning,
                "refits": level.refits,
                "seconds": round(level.seconds, 3),
                "metrics": _numbers(level.metrics),
                "above_level_3": {name: _interval(each) for name, each in level.behind.items()},
                "recovered": _number(level.recovered),
            }
            for level in found.levels
        },
        "forgetting_days": {
            effect.name: None if (ms := _constant(replayed, effect.name)) is None else ms / 86_400_000
            for effect in replayed.first_model.random
        },
        "gain_by_size": [
            {
                "kind": gain.kind,
                "group": gain.group,
                "rows": gain.rows,
                "over": {name: _interval(each) for name, each in gain.gain.items()},
            }
            for gain in found.gains
        ],
        "sensitivity": [asdict(trial) for trial in replayed.trials],
    }


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}


def _interval(estimate: Estimate) -> list[float | None]:
    """Value, low end, high end."""
    return [_number(value) for value in (estimate.value, estimate.low, estimate.high)]


def _number(value: float) -> float | None:
    """What JSON can hold: an undefined metric is null."""
    return value if math.isfinite(value) else None

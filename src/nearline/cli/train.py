"""`nearline train`: configuration and rows in, a model and its report out."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from nearline.cli.console import Output, Stopwatch
from nearline.cli.page_process import PageProcess
from nearline.config import Config, read_config
from nearline.errors import MissingExtraError

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
    with _page_process(settings, output) as drawing:
        from nearline.cli.training import train  # noqa: PLC0415 - takes a second, in which the other process starts

        train(settings, config, data or config.parent, model, report, drawing, output, watch)


def _page_process(config: Config, output: Output) -> AbstractContextManager[PageProcess | None]:
    """The process that is to draw the report; without the extra for that, say so, and train all the same."""
    if config.evaluation.test_fraction == 0.0:
        output.remark(
            "no report: evaluation.test_fraction is 0, so no rows are held out to judge the model by"
        )
        return nullcontext()
    try:
        return PageProcess()
    except MissingExtraError as error:
        output.remark(f"warning: no report: {error}")
        return nullcontext()

"""The `nearline` command.

Exit codes: 0 done, 1 the data or the model would not do, 2 wrong usage or configuration, 130 interrupted.
"""

import os
import sys
from importlib.metadata import version

import click
import typer

from nearline.cli.console import FAILED, INTERRUPTED, OK, WRONG_USAGE
from nearline.cli.demo import demo_command
from nearline.cli.evaluate import evaluate_command
from nearline.cli.inspect import inspect_command
from nearline.cli.score import score_command
from nearline.cli.train import refit_command, train_command
from nearline.errors import ConfigError, NearlineError

app = typer.Typer(
    help="Personalization models that keep learning while they serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("train")(train_command)
app.command("refit")(refit_command)
app.command("score")(score_command)
app.command("evaluate")(evaluate_command)
app.command("inspect")(inspect_command)
app.command("demo")(demo_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nearline {version('nearline')}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Personalization models that keep learning while they serve."""


def run(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    try:
        code = app(arguments, standalone_mode=False)
    except ConfigError as error:
        return _complain(str(error), WRONG_USAGE)
    except NearlineError as error:
        return _complain(str(error), FAILED)
    except click.UsageError as error:
        error.show()
        return WRONG_USAGE
    except click.exceptions.Exit as error:
        return int(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted; nothing was written", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return _complain(str(error), FAILED)
    return code if isinstance(code, int) else OK


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run())

"""The `nearline` command.

Exit codes: 0 done, 1 the data or the model would not do, 2 wrong usage or configuration, 130 interrupted.
"""

import os
import sys
from importlib.metadata import version
from typing import Any, cast

import typer

from nearline.cli.console import FAILED, INTERRUPTED, OK, WRONG_USAGE
from nearline.cli.demo import demo_command
from nearline.cli.evaluate import evaluate_command
from nearline.cli.generations import generations_app
from nearline.cli.inspect import inspect_command
from nearline.cli.log import log_app
from nearline.cli.publish import publish_command
from nearline.cli.replay import replay_command
from nearline.cli.score import score_command
from nearline.cli.serve import serve_command
from nearline.cli.train import refit_command, train_command
from nearline.cli.worker import worker_command
from nearline.errors import ConfigError, NearlineError

# Typer's older releases import Click's errors, its newer ones define their own: both export this one's children.
_UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])

app = typer.Typer(
    help="Personalization models that keep learning while they serve.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("train")(train_command)
app.command("refit")(refit_command)
app.command("score")(score_command)
app.command("evaluate")(evaluate_command)
app.command("replay")(replay_command)
app.command("inspect")(inspect_command)
app.add_typer(generations_app, name="generations")
app.command("publish")(publish_command)
app.command("worker")(worker_command)
app.command("serve")(serve_command)
app.command("demo")(demo_command)
app.add_typer(log_app, name="log")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nearline {version('nearline')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(  # noqa: ARG001 - its callback answers
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Personalization models that keep learning while they serve."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(WRONG_USAGE)


def run(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    try:
        code = app(arguments, standalone_mode=False)
        sys.stdout.flush()
    except ConfigError as error:
        return _complain(str(error), WRONG_USAGE)
    except NearlineError as error:
        return _complain(str(error), FAILED)
    except _UsageError as error:
        return _complain(_usage(error), WRONG_USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:  # whoever reads the output has enough: say no more, also not when closing it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return _complain(str(error), FAILED)
    if code == INTERRUPTED:  # what newer releases of Typer make of a KeyboardInterrupt
        return _complain("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else OK


def _usage(error: Any) -> str:
    context = error.ctx
    return str(error.format_message()) + (f"\n{context.get_usage()}" if context is not None else "")


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code


def main() -> None:
    """Entry point of the console script."""
    code = run()
    if code == INTERRUPTED:
        sys.stderr.flush()
        os._exit(code)  # at once: threads that are still training would keep the process
    sys.exit(code)

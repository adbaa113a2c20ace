"""The `nearline` command.

Exit codes: 0 done, 1 the data or the model would not do, 2 wrong usage or configuration, 130 interrupted.
"""

import gc
import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final, cast, final

import typer
from typer.core import TyperGroup

from nearline.cli.console import FAILED, INTERRUPTED, OK, WRONG_USAGE
from nearline.errors import ConfigError, NearlineError

_COMMANDS: Final = {
    "train": (
        "nearline.cli.train:train_command",
        "Train a model, judge it on rows held out, write a report.",
    ),
    "refit": (
        "nearline.cli.refit:refit_command",
        "Learn new rows on top of a model, or a deployment's next one.",
    ),
    "score": (
        "nearline.cli.score:score_command",
        "Predict rows: mean, uncertainty and what each effect adds.",
    ),
    "evaluate": ("nearline.cli.evaluate:evaluate_command", "Judge a model on rows it has not seen."),
    "replay": (
        "nearline.cli.replay:replay_command",
        "Compare levels of freshness on a stream, in time order.",
    ),
    "inspect": (
        "nearline.cli.inspect:inspect_command",
        "Show what is believed of an entity, and how it changed.",
    ),
    "generations": (
        "nearline.cli.generations:generations_app",
        "Show, switch and delete a store's generations.",
    ),
    "publish": ("nearline.cli.publish:publish_command", "Make a model a deployment's next generation."),
    "worker": ("nearline.cli.worker:worker_command", "Join events and learn from them, until it is stopped."),
    "serve": ("nearline.cli.serve:serve_command", "Rank and score over HTTP, and log what was shown."),
    "dashboard": ("nearline.cli.dashboard:dashboard_command", "Show a deployment in a browser."),
    "demo": ("nearline.cli.demo:demo_command", "Serve simulated visitors and learn from their clicks."),
    "log": ("nearline.cli.log:log_app", "Append events to a log, and read them."),
}
"""Name of each command, where it is, a function or a group of its own, and what the list of commands says of it."""

# Typer's older releases import Click's errors, its newer ones define their own: both export this one's children.
_UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])


@final
class _Commands(TyperGroup):
    """Loads a command when it is first asked for: one that trains does not wait for what a worker needs."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - of Click's
        return list(_COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - of Click's
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in _COMMANDS.items()])

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - of Click's, or of Typer's copy of it
        if cmd_name in _COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands.get(cmd_name)


def _load(name: str) -> Any:
    module, attribute = _COMMANDS[name][0].split(":")
    collecting = gc.isenabled()
    gc.disable()  # what modules are made of stays: looking for garbage among it takes a tenth of the time
    try:
        found = getattr(import_module(module), attribute)
    finally:
        gc.freeze()
        if collecting:
            gc.enable()
    if isinstance(found, typer.Typer):
        group = typer.main.get_group(found)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name)(found)
    return typer.main.get_command(alone)


app = typer.Typer(
    cls=_Commands,
    help="Personalization models that keep learning while they serve.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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

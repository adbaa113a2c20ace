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
    "train": "nearline.cli.train:train_command",
    "refit": "nearline.cli.refit:refit_command",
    "score": "nearline.cli.score:score_command",
    "evaluate": "nearline.cli.evaluate:evaluate_command",
    "replay": "nearline.cli.replay:replay_command",
    "inspect": "nearline.cli.inspect:inspect_command",
    "generations": "nearline.cli.generations:generations_app",
    "publish": "nearline.cli.publish:publish_command",
    "worker": "nearline.cli.worker:worker_command",
    "serve": "nearline.cli.serve:serve_command",
    "dashboard": "nearline.cli.dashboard:dashboard_command",
    "demo": "nearline.cli.demo:demo_command",
    "log": "nearline.cli.log:log_app",
}
"""Name of each command, and where it is: a function, or a group of its own."""

# Typer's older releases import Click's errors, its newer ones define their own: both export this one's children.
_UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])


@final
class _Commands(TyperGroup):
    """Loads a command when it is first asked for: one that trains does not wait for what a worker needs."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - of Click's
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - of Click's, or of Typer's copy of it
        if cmd_name in _COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands.get(cmd_name)


def _load(name: str) -> Any:
    module, attribute = _COMMANDS[name].split(":")
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

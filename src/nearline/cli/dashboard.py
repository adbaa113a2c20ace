"""`nearline dashboard`: pages on which people see a deployment learn."""

import ipaddress
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from nearline.cli.console import INTERRUPTED
from nearline.cli.stopping import stopping
from nearline.cli.train import ConfigPath
from nearline.config import read_config
from nearline.dashboard.deployment import Deployment
from nearline.dashboard.watched import Watched
from nearline.errors import ConfigError, ModelError
from nearline.events.embedded import EmbeddedLog
from nearline.stream.joined_log import JoinedLog
from nearline.wiring.deployment import server_settings, stream_folder
from nearline.wiring.stores import existing_store, find_store


def dashboard_command(
    config: ConfigPath,
    host: Annotated[str, typer.Option(help="The address to answer at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="The port to answer at; 0 takes a free one.")
    ] = 8321,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="Let people switch generations.")
    ] = False,
) -> None:
    """Show a deployment in a browser, beside its workers, until SIGTERM or an interrupt."""
    from nearline.dashboard.alone import serve  # noqa: PLC0415 - needs the extra

    settings = read_config(config)
    folder, token = stream_folder(settings.stream, config), server_settings(settings, config).token
    if find_store(folder) is None:
        raise ModelError(f"{folder}: no deployment there; begin one: nearline publish MODEL {config}")
    is_private = _is_loopback(host)
    if token is None and not is_private:
        raise ConfigError(
            f"--host: other machines reach {host}: name a file with a token in serve.token_file"
        )
    with ExitStack() as stack, stopping() as stop:
        watched = Watched(_opened(folder, config.stem, stack))
        serve(
            watched,
            host,
            port,
            may_change=allow_changes,
            token=token,
            hosts=("localhost", "127.0.0.1", "[::1]") if is_private else ("*",),
            say=lambda address: sys.stderr.write(f"dashboard: {address}\n"),
        )
    if stop.name == "SIGINT":
        raise typer.Exit(INTERRUPTED)


def _opened(folder: Path, name: str, stack: ExitStack) -> Deployment:
    log = stack.enter_context(EmbeddedLog(folder / "log"))
    rows = JoinedLog(folder / "joined")
    stack.callback(rows.close)
    store = existing_store(folder)
    stack.callback(store.close)
    return Deployment(log, rows, store, name, folder / "roles")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

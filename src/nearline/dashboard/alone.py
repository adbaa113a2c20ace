"""A dashboard in a process of its own, at a port of this machine."""

import socket
from collections.abc import Callable, Sequence

from nearline.dashboard.http import create_app
from nearline.dashboard.watched import Watched
from nearline.errors import MissingExtraError

try:
    import uvicorn
except ModuleNotFoundError as error:
    raise MissingExtraError("the dashboard", "serve") from error


def serve(
    watched: Watched,
    host: str,
    port: int,
    *,
    may_change: bool,
    token: str | None,
    hosts: Sequence[str],
    say: Callable[[str], object],
) -> None:
    """Answer until SIGTERM or an interrupt, whose handlers are then called; `say` is told the address.

    `may_change`, `token` and `hosts` are those of `nearline.dashboard.http.create_app`. Port 0 is a free one. Raises
    `OSError` if nobody can listen there.
    """
    app = create_app(watched, may_change=may_change, token=token, hosts=hosts)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listening:
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off", server_header=False
        )
        at = f"[{host}]" if ":" in host else host
        say(f"http://{at}:{listening.getsockname()[1]}/")
        uvicorn.Server(config).run(sockets=[listening])

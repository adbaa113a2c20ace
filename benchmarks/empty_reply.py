"""A server that reads a body and replies with as many bytes as a ranking of ten has: what HTTP itself costs here.

`python -m benchmarks.empty_reply` serves until it is ended, and says its port.
"""

import socket
import subprocess
import sys
from typing import Any

import uvicorn

from benchmarks.under_load import SETTINGS, TASKSET
from nearline.serve.server import uvicorn_config
from nearline.serve.settings import ServerSettings

REPLY = b"x" * 4_000
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(REPLY)).encode())]


def started_empty() -> tuple["subprocess.Popen[str]", int]:
    """The server on the first core, and its port."""
    command = [TASKSET, "-c", "0", sys.executable, "-m", "benchmarks.empty_reply"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=SETTINGS)  # noqa: S603
    assert server.stdout is not None
    return server, int(server.stdout.readline())


async def empty(_: Any, receive: Any, send: Any) -> None:
    """The application."""
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": REPLY})


def main() -> None:
    """Serve with the settings of `nearline.serve.server`."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=2_048)
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn_config(empty, ServerSettings())
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()

"""One process that serves: uvicorn in a thread, signals in the main thread.

The first SIGTERM or SIGINT drains: no new connections, what is under way is answered, then it ends. The second ends at
once. What was acknowledged is on disk either way. SIGHUP takes over changed configuration.
"""

import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from select import select
from types import FrameType
from typing import Final, final

from nearline.errors import ConfigError, MissingExtraError, NearlineError
from nearline.serve.asgi import App
from nearline.serve.http import create_app
from nearline.serve.logs import LOGGER
from nearline.serve.service import Service
from nearline.serve.settings import ServerSettings

try:
    import uvicorn
except ModuleNotFoundError as error:
    raise MissingExtraError("serving over HTTP", "serve") from error

_SWITCH_S: Final = 0.0005
"""How long a thread may go on while another waits to run: the one that logs has little to do, and all wait for it."""
_LOOK_S: Final = 0.5
_COLLECT_AFTER: Final = 10_000
"""New objects between collections: those of some ten requests, most of which are gone again by themselves."""
_STOPS: Final = (signal.SIGTERM, signal.SIGINT)


@final
class Stop:
    """What signals ask for. Before `serving` there is nothing to drain: the first one to stop ends the process.

    A handler may interrupt its own thread anywhere, so it takes no lock: it sets what is asked for and writes a byte.
    """

    def __init__(self) -> None:
        self.serving = False
        self.name: str | None = None
        self.reload = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if number == signal.SIGHUP:
            self.reload = True
        elif not self.serving:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(0)
        elif self.name is not None:
            os._exit(128 + number)
        else:
            self.name = signal.Signals(number).name
        with suppress(BlockingIOError):
            os.write(self._write, b".")

    def wait(self, seconds: float) -> None:
        """Wait for a signal, or so long."""
        if select([self._read], [], [], seconds)[0]:
            os.read(self._read, 1_024)

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self._read)
        os.close(self._write)


@contextmanager
def stopping() -> Iterator[Stop]:
    """While the block runs, signals are handled by what it yields."""
    stop = Stop()
    numbers = (*_STOPS, signal.SIGHUP)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        stop.close()


def serve(service: Service, settings: ServerSettings, stop: Stop, started: Callable[[str], object]) -> None:
    """Answer until `stop` has a name, and until what was under way then is answered.

    `started` is told the address.

    Raises
    ------
    ConfigError
        The address cannot be had, or the files of TLS cannot be used.
    """
    sys.setswitchinterval(_SWITCH_S)
    # What is there by now stays: collections need not look at it again, request after request.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    listening = _bound(settings)
    with _app(service, settings) as app:
        server = uvicorn.Server(uvicorn_config(app, settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="nearline-http")
        thread.start()
        scheme = "http" if settings.certificate is None else "https"
        started(f"{scheme}://{settings.host}:{listening.getsockname()[1]}")
        stop.serving = True
        while thread.is_alive() and stop.name is None:
            stop.wait(_LOOK_S)
            if stop.reload:
                stop.reload = False
                _reload(service)
        service.is_ready = False
        server.should_exit = True
        thread.join()


def _app(service: Service, settings: ServerSettings) -> AbstractContextManager[App]:
    app = create_app(service, token=settings.token)
    if not settings.traces:
        return nullcontext(app)
    from nearline.serve.traces import traced  # noqa: PLC0415 - needs an extra of its own

    return traced(app)


def _reload(service: Service) -> None:
    try:
        service.reload()
    except NearlineError as error:
        LOGGER.error("not reloaded: %s", error)
    else:
        LOGGER.info("reloaded")


def _bound(settings: ServerSettings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((settings.host, settings.port), family=family, backlog=2_048)
    except OSError as error:
        raise ConfigError(
            f"serve: {settings.host}:{settings.port} cannot be had: {error.strerror}"
        ) from error


def uvicorn_config(app: App, settings: ServerSettings) -> uvicorn.Config:
    """How uvicorn serves it. Raises a `ConfigError` where the files of TLS cannot be used."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        proxy_headers=False,  # nobody looks at the client's address
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=settings.drain_s,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
    )
    try:
        config.load()
    except OSError as error:
        raise ConfigError(f"serve.certificate, serve.key: cannot be used: {error}") from error
    return config

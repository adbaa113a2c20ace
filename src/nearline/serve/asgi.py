"""ASGI, as far as it is needed: a body is read, work is done, a reply goes out; and what becomes of errors."""

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, Final, TypeAlias, final

import msgspec

from nearline.errors import BusyError, LogError, NearlineError, RequestError
from nearline.serve.logs import LOGGER
from nearline.serve.scorer import Scorer
from nearline.serve.service import Service, committed

Scope: TypeAlias = Any
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON: Final = b"application/json"
RETRY_AFTER_S: Final = b"1"
encode = msgspec.json.Encoder().encode


@final
class HttpError(Exception):
    """A reply with a status of its own."""

    def __init__(self, status: int, message: str, path: str | None = None) -> None:
        super().__init__(message)
        self.status, self.path = status, path


@final
class Reply(msgspec.Struct, frozen=True):
    """What goes out."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


@final
class Asking(msgspec.Struct, frozen=True):
    """What came in: body, parameters of the path, headers."""

    body: bytes
    path: Mapping[str, str]
    headers: Sequence[tuple[bytes, bytes]]


Work: TypeAlias = Callable[[Service, Asking], Awaitable[Reply]]


async def log_then(scorer: Scorer, records: Sequence[bytes], reply: Callable[[], bytes]) -> Reply:
    """Make a reply, and give it out when the records are on disk."""
    written = committed(scorer, records)
    body = reply()  # while the disk is busy
    if (failed := await written) is not None:
        raise failed
    return Reply(body)


def model_of(service: Service, path: Mapping[str, str], named: str | None = None) -> Scorer:
    """The model of the path, else of the body, else the first."""
    if (name := path.get("model")) is None:
        return service.scorer(named)
    if name not in service.models:
        raise HttpError(404, f"no model {name!r}: there is {', '.join(service.models)}")
    return service.models[name]


@final
class Endpoint:
    """One path: reads the body, does the work of the method, counts what became of it."""

    def __init__(self, service: Service, works: Mapping[str, Work]) -> None:
        self._service, self._works = service, works

    @property
    def methods(self) -> list[str]:
        """What is done here."""
        return list(self._works)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begin = perf_counter()
        method = scope["method"]
        work = self._works.get(method) or self._works["GET"]  # HEAD is GET without a body
        result = "answered"
        try:
            body = await _body(receive, self._service.limits.body_bytes)
            reply = await work(self._service, Asking(body, scope.get("path_params", {}), scope["headers"]))
        except RequestError as error:
            reply, result = error_reply(400, _without_path(error), error.path), "refused"
        except HttpError as error:
            reply, result = error_reply(error.status, str(error), error.path), "refused"
        except BusyError as error:
            reply, result = error_reply(503, str(error), headers=((b"retry-after", RETRY_AFTER_S),)), "busy"
        except LogError as error:
            reply, result = error_reply(503, str(error), headers=((b"retry-after", RETRY_AFTER_S),)), "failed"
        except NearlineError as error:
            LOGGER.error("%s %s: %s", method, scope["path"], error)
            reply, result = error_reply(500, str(error)), "failed"
        if scope["path"].startswith("/v2/") and reply.status >= 400:
            reply = _as_text(reply)
        if method == "POST":
            self._service.count(result, perf_counter() - begin)
        await send_reply(send, reply, method)


async def _body(receive: Receive, most: int) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False) and len(body) <= most:
        message = await receive()
        body += message.get("body", b"")
    if len(body) > most:
        raise HttpError(413, f"expected a body of at most {most} bytes")
    return body


async def send_reply(send: Send, reply: Reply, method: str) -> None:
    """Send a reply; HEAD has no body."""
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else reply.body})


def error_reply(
    status: int, message: str, path: str | None = None, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> Reply:
    """The reply that says what is wrong."""
    content = {"error": {"message": message} if path is None else {"path": path, "message": message}}
    return Reply(encode(content), status, headers=headers)


def _as_text(reply: Reply) -> Reply:
    """The error in words alone, as the Open Inference Protocol has it."""
    error = msgspec.json.decode(reply.body)["error"]
    text = f"{error['path']}: {error['message']}" if "path" in error else error["message"]
    return msgspec.structs.replace(reply, body=encode({"error": text}))


def _without_path(error: RequestError) -> str:
    return str(error).removeprefix(f"{error.path}: ")


@final
class Direct:
    """Looks up paths by their length and fixed parts, with a method that is done there; a router tries each in turn."""

    def __init__(self, app: App, paths: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._direct: dict[tuple[str, int], list[tuple[_Pattern, Endpoint]]] = {}
        for path, endpoint in paths.items():
            for method in endpoint.methods:
                of_length = self._direct.setdefault((method, path.count("/")), [])
                of_length.append((_pattern(path), endpoint))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope.get("path", "")
        for (fixed, named), endpoint in self._direct.get((scope.get("method", ""), path.count("/")), ()):
            parts = path.split("/")
            if all(parts[at] == part for at, part in fixed) and all(parts[at] for at, _ in named):
                scope["path_params"] = {name: parts[at] for at, name in named}
                await endpoint(scope, receive, send)
                return
        await self._app(scope, receive, send)


_Pattern: TypeAlias = tuple[list[tuple[int, str]], list[tuple[int, str]]]


def _pattern(path: str) -> _Pattern:
    """Where the fixed parts of a path are, and where its parameters."""
    parts = list(enumerate(path.split("/")))
    fixed = [(at, part) for at, part in parts if not part.startswith("{")]
    return fixed, [(at, part[1:-1]) for at, part in parts if part.startswith("{")]


@final
class Guarded:
    """Asks for the token, but for health."""

    def __init__(self, app: App, token: str) -> None:
        self._app, self._expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] == "http" and not scope["path"].startswith(("/health/", "/v2/health/")):
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                reply = error_reply(
                    401, "expected Authorization: Bearer TOKEN", headers=((b"www-authenticate", b"Bearer"),)
                )
                await send_reply(send, reply, scope["method"])
                return
        await self._app(scope, receive, send)

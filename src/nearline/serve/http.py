"""The service over HTTP: JSON in, JSON out."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import Final, TypeAlias, final

import msgspec

from nearline.errors import BusyError, LogError, MissingExtraError, NearlineError, RequestError
from nearline.serve.logs import LOGGER
from nearline.serve.measured import CONTENT_TYPE, exposition
from nearline.serve.openapi import docs_page, openapi
from nearline.serve.reply import Accepted, Kept
from nearline.serve.request import (
    FeedbackRequest,
    KeepRequest,
    KeptFeatures,
    RankRequest,
    ScoreRequest,
    decode,
)
from nearline.serve.scorer import Scorer
from nearline.serve.service import Service, committed

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send
except ModuleNotFoundError as error:
    raise MissingExtraError("serving over HTTP", "serve") from error

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


def create_app(service: Service, *, token: str | None = None) -> ASGIApp:
    """Return the ASGI application; with a `token`, all but health asks for ``Authorization: Bearer TOKEN``."""
    routes = [Route(path, _Endpoint(service, works), methods=list(works)) for path, works in _PATHS.items()]
    app: ASGIApp = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    return app if token is None else _Guarded(app, token)


async def log_then(scorer: Scorer, records: Sequence[bytes], reply: Callable[[], bytes]) -> Reply:
    """Make a reply, and give it out when the records are on disk."""
    written = committed(scorer, records)
    body = reply()  # while the disk is busy
    if (failed := await written) is not None:
        raise failed
    return Reply(body)


async def _rank(service: Service, asking: Asking) -> Reply:
    request = decode(asking.body, RankRequest)
    scorer = _scorer(service, asking, request.model)
    answer = scorer.answer(request)
    return await log_then(scorer, answer.records, lambda: encode(answer.ranking))


async def _score(service: Service, asking: Asking) -> Reply:
    request = decode(asking.body, ScoreRequest)
    return Reply(encode(_scorer(service, asking, request.model).score(request)))


async def _feedback(service: Service, asking: Asking) -> Reply:
    request = decode(asking.body, FeedbackRequest)
    scorer = _scorer(service, asking, request.model)
    records = scorer.feedback_records(request.feedback)
    return await log_then(scorer, records, lambda: encode(Accepted(len(records))))


async def _keep_many(service: Service, asking: Asking) -> Reply:
    request = decode(asking.body, KeepRequest)
    await asyncio.to_thread(_scorer(service, asking).keep, request.candidates)
    return Reply(encode(Kept(len(request.candidates))))


async def _keep(service: Service, asking: Asking) -> Reply:
    candidates = {asking.path["candidate"]: decode(asking.body, KeptFeatures)}
    await asyncio.to_thread(_scorer(service, asking).keep, candidates)
    return Reply(encode(Kept(1)))


async def _kept(service: Service, asking: Asking) -> Reply:
    found = _scorer(service, asking).kept(name := asking.path["candidate"])
    if found is None:
        raise HttpError(404, f"no features are kept of {name!r}")
    return Reply(encode(found))


async def _forget(service: Service, asking: Asking) -> Reply:
    name = asking.path["candidate"]
    if not await asyncio.to_thread(_scorer(service, asking).forget, name):
        raise HttpError(404, f"no features are kept of {name!r}")
    return Reply(encode(Kept(0)))


async def _live(_: Service, __: Asking) -> Reply:
    return Reply(encode({"live": True}))


async def _ready(service: Service, _: Asking) -> Reply:
    return Reply(encode({"ready": service.is_ready}), 200 if service.is_ready else 503)


async def _reload(service: Service, _: Asking) -> Reply:
    await asyncio.to_thread(service.reload)
    return Reply(encode({name: scorer.generation for name, scorer in service.models.items()}))


async def _metrics(service: Service, _: Asking) -> Reply:
    return Reply(exposition(service), content_type=CONTENT_TYPE)


async def _openapi(_: Service, __: Asking) -> Reply:
    return Reply(encode(openapi()))


async def _docs(_: Service, __: Asking) -> Reply:
    return Reply(docs_page().encode(), content_type=b"text/html; charset=utf-8")


_CANDIDATE: Final[dict[str, Work]] = {"PUT": _keep, "GET": _kept, "DELETE": _forget}
_PATHS: Final[dict[str, dict[str, Work]]] = {
    "/v1/rank": {"POST": _rank},
    "/v1/score": {"POST": _score},
    "/v1/feedback": {"POST": _feedback},
    "/v1/candidates": {"PUT": _keep_many},
    "/v1/candidates/{candidate}": _CANDIDATE,
    "/v1/models/{model}/rank": {"POST": _rank},
    "/v1/models/{model}/score": {"POST": _score},
    "/v1/models/{model}/feedback": {"POST": _feedback},
    "/v1/models/{model}/candidates": {"PUT": _keep_many},
    "/v1/models/{model}/candidates/{candidate}": _CANDIDATE,
    "/v1/reload": {"POST": _reload},
    "/health/live": {"GET": _live},
    "/health/ready": {"GET": _ready},
    "/metrics": {"GET": _metrics},
    "/openapi.json": {"GET": _openapi},
    "/docs": {"GET": _docs},
}


def _scorer(service: Service, asking: Asking, named: str | None = None) -> Scorer:
    """The model of the path, else of the body, else the first."""
    if (name := asking.path.get("model")) is None:
        return service.scorer(named)
    if name not in service.models:
        raise HttpError(404, f"no model {name!r}: there is {', '.join(service.models)}")
    return service.models[name]


@final
class _Endpoint:
    """One path: reads the body, does the work of the method, counts what became of it."""

    def __init__(self, service: Service, works: Mapping[str, Work]) -> None:
        self._service, self._works = service, works

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        begin = perf_counter()
        method = scope["method"]
        work = self._works.get(method) or self._works["GET"]  # HEAD is GET without a body
        result = "answered"
        try:
            body = await _body(receive, self._service.limits.body_bytes)
            reply = await work(self._service, Asking(body, scope["path_params"], scope["headers"]))
        except RequestError as error:
            reply, result = _error(400, _without_path(error), error.path), "refused"
        except HttpError as error:
            reply, result = _error(error.status, str(error), error.path), "refused"
        except BusyError as error:
            reply, result = _error(503, str(error), headers=((b"retry-after", RETRY_AFTER_S),)), "busy"
        except LogError as error:
            reply, result = _error(503, str(error), headers=((b"retry-after", RETRY_AFTER_S),)), "failed"
        except NearlineError as error:
            LOGGER.error("%s %s: %s", method, scope["path"], error)
            reply, result = _error(500, str(error)), "failed"
        if method == "POST":
            self._service.count(result, perf_counter() - begin)
        await _send(send, reply, method)


async def _body(receive: "Receive", most: int) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False) and len(body) <= most:
        message = await receive()
        body += message.get("body", b"")
    if len(body) > most:
        raise HttpError(413, f"expected a body of at most {most} bytes")
    return body


async def _send(send: "Send", reply: Reply, method: str) -> None:
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else reply.body})


def _error(
    status: int, message: str, path: str | None = None, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> Reply:
    content = {"error": {"message": message} if path is None else {"path": path, "message": message}}
    return Reply(encode(content), status, headers=headers)


def _without_path(error: RequestError) -> str:
    return str(error).removeprefix(f"{error.path}: ")


async def _refused(_: "Request", error: Exception) -> "Response":
    """What the router refuses: no such path, no such method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - it handles no other
    reply = _error(error.status_code, error.detail)
    return Response(reply.body, error.status_code, error.headers, JSON.decode())


@final
class _Guarded:
    """Asks for the token, but for health."""

    def __init__(self, app: "ASGIApp", token: str) -> None:
        self._app, self._expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "http" and not scope["path"].startswith(("/health/", "/v2/health/")):
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                reply = _error(
                    401, "expected Authorization: Bearer TOKEN", headers=((b"www-authenticate", b"Bearer"),)
                )
                await _send(send, reply, scope["method"])
                return
        await self._app(scope, receive, send)

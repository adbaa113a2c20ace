"""The service over HTTP: JSON in, JSON out."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from nearline.errors import MissingExtraError, RequestError
from nearline.serve import v2
from nearline.serve.answer import Answer
from nearline.serve.asgi import (
    JSON,
    App,
    Asking,
    Direct,
    Endpoint,
    Guarded,
    HttpError,
    Reply,
    Work,
    encode,
    error_reply,
    log_then,
    model_of,
)
from nearline.serve.measured import CONTENT_TYPE, exposition
from nearline.serve.named import read_named
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
from nearline.serve.service import Service

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
except ModuleNotFoundError as error:
    raise MissingExtraError("serving over HTTP", "serve") from error


def create_app(service: Service, *, token: str | None = None) -> App:
    """Return the ASGI application; with a `token`, all but health asks for ``Authorization: Bearer TOKEN``."""
    paths = {path: Endpoint(service, works) for path, works in (_PATHS | v2.PATHS).items()}
    routes = [Route(path, endpoint, methods=endpoint.methods) for path, endpoint in paths.items()]
    app: App = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    app = Direct(app, paths)
    return app if token is None else Guarded(app, token)


async def _rank(service: Service, asking: Asking) -> Reply:
    scorer, answer = answered(service, asking.body, asking.path)
    return await log_then(scorer, answer.records, answer.json)


def answered(service: Service, body: bytes, path: Mapping[str, str]) -> tuple[Scorer, Answer]:
    """The answer to a body, and the model that gave it; raises as `Scorer.answer` does."""
    if (named := read_named(body)) is not None:
        request, matrix = named
        scorer = model_of(service, path, request.model)
        with suppress(RequestError):  # which is said below of the request as it was made
            return scorer, scorer.answer(request, matrix)
    request = decode(body, RankRequest)
    scorer = model_of(service, path, request.model)
    return scorer, scorer.answer(request)


async def _score(service: Service, asking: Asking) -> Reply:
    request = decode(asking.body, ScoreRequest)
    return Reply(model_of(service, asking.path, request.model).believe(request).json())


async def _feedback(service: Service, asking: Asking) -> Reply:
    request = decode(asking.body, FeedbackRequest)
    scorer = model_of(service, asking.path, request.model)
    records = scorer.feedback_records(request.feedback)
    return await log_then(scorer, records, lambda: encode(Accepted(len(records))))


async def _keep_many(service: Service, asking: Asking) -> Reply:
    request = decode(asking.body, KeepRequest)
    await asyncio.to_thread(model_of(service, asking.path).keep, request.candidates)
    return Reply(encode(Kept(len(request.candidates))))


async def _keep(service: Service, asking: Asking) -> Reply:
    candidates = {asking.path["candidate"]: decode(asking.body, KeptFeatures)}
    await asyncio.to_thread(model_of(service, asking.path).keep, candidates)
    return Reply(encode(Kept(1)))


async def _kept(service: Service, asking: Asking) -> Reply:
    found = model_of(service, asking.path).kept(name := asking.path["candidate"])
    if found is None:
        raise HttpError(404, f"no features are kept of {name!r}")
    return Reply(encode(found))


async def _forget(service: Service, asking: Asking) -> Reply:
    name = asking.path["candidate"]
    if not await asyncio.to_thread(model_of(service, asking.path).forget, name):
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


async def _refused(_: Request, error: Exception) -> Response:
    """What the router refuses: no such path, no such method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - it handles no other
    reply = error_reply(error.status_code, error.detail)
    return Response(reply.body, error.status_code, error.headers, JSON.decode())

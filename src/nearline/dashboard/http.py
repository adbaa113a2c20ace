"""Pages over HTTP: routes to mount into a service, and an application that stands alone."""

import hmac
import secrets
from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from importlib.resources import files
from typing import Final, TypeAlias, final
from urllib.parse import parse_qs, urlencode

import msgspec

from nearline.dashboard import pages, tables
from nearline.dashboard.entities import drifters, newcomers
from nearline.dashboard.entity import entity
from nearline.dashboard.generations import listed
from nearline.dashboard.letters import newest_letters
from nearline.dashboard.overview import overview
from nearline.dashboard.quality import LOSS
from nearline.dashboard.watched import Watched
from nearline.errors import MissingExtraError, ModelError, NearlineError

try:
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import RedirectResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send
except ModuleNotFoundError as error:
    raise MissingExtraError("the dashboard", "serve") from error

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_STATIC: Final = {
    "uPlot.iife.min.js": "text/javascript; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "uPlot.min.css": "text/css; charset=utf-8",
    "dashboard.css": "text/css; charset=utf-8",
}
_COOKIE: Final = "nearline_dashboard"
_LONGEST_FORM: Final = 4_096

_encode = msgspec.json.Encoder().encode
_Work: TypeAlias = Callable[[Request], Response]


def routes(watched: Watched, *, may_change: bool = False) -> list[Route]:
    """Everything a dashboard answers, to be mounted under a path that ends in a slash.

    Whoever mounts it sees to who may look, and to which hosts it answers. `may_change` : whether generations can be
    switched.
    """
    served = _Pages(watched, may_change=may_change)
    gets: dict[str, _Work] = {
        "/": served.overview,
        "/overview.json": served.overview_json,
        "/entities": served.entities,
        "/entity": served.entity,
        "/entity.json": served.entity_json,
        "/generations": served.generations,
        "/dead": served.dead,
        "/static/{name}": _static,
    }
    found = [Route(path, partial(_answered, served.name, work)) for path, work in gets.items()]
    if may_change:
        found.append(Route("/switch", partial(_answered, served.name, served.ask), methods=["GET"]))
        found.append(Route("/switch", served.switch, methods=["POST"]))
    return found


def create_app(
    watched: Watched, *, may_change: bool = False, token: str | None = None, hosts: Sequence[str] = ("*",)
) -> ASGIApp:
    """Return the ASGI application.

    Parameters
    ----------
    token : asked for as ``Authorization: Bearer TOKEN``, or as the password of Basic, which browsers ask people for.
    hosts : names in the ``Host`` header that it answers to, against pages that have their own name lead here.
    """
    app: ASGIApp = Starlette(routes=routes(watched, may_change=may_change))
    if token is not None:
        app = _Guarded(app, token)
    return TrustedHostMiddleware(app, allowed_hosts=list(hosts))


@final
class _Pages:
    """What is answered to a GET, and to the one POST."""

    def __init__(self, watched: Watched, *, may_change: bool) -> None:
        self._watched, self._may_change = watched, may_change
        self._store, self.name = watched.deployment.store, watched.deployment.name
        self._key = secrets.token_bytes(32)

    def overview(self, _: Request) -> Response:
        look = self._watched.look()
        return _html(pages.overview_page(self.name, overview(look), look.generation))

    def overview_json(self, _: Request) -> Response:
        return _json(overview(self._watched.look()))

    def entities(self, _: Request) -> Response:
        look = self._watched.look()
        new, drifting = newcomers(look, self._store), drifters(look)
        return _html(pages.entities_page(self.name, new, drifting, LOSS[look.model.outcome]))

    def entity(self, request: Request) -> Response:
        name, look = request.query_params.get("name", ""), self._watched.look()
        found = entity(look, self._store, name)
        source = f"entity.json?{urlencode({'name': name})}"
        page = pages.entity_page(self.name, found, look.generation, source)
        return _html(page, 200 if found.is_known else 404)

    def entity_json(self, request: Request) -> Response:
        found = entity(self._watched.look(), self._store, request.query_params.get("name", ""))
        return _json(tables.of_entity(found))

    def generations(self, _: Request) -> Response:
        return _html(pages.generations_page(self.name, listed(self._store), may_change=self._may_change))

    def dead(self, _: Request) -> Response:
        look = self._watched.look()
        return _html(pages.letters_page(self.name, newest_letters(self._watched.deployment, look.generation)))

    def ask(self, request: Request) -> Response:
        """Ask whether a generation is to be made live; the answer has to bring the token back."""
        number = request.query_params.get("number", "")
        one = next((one for one in listed(self._store) if str(one.generation.number) == number), None)
        if one is None or not one.can_switch:
            return _html(pages.fault_page(self.name, 404, f"No generation {number} to switch to."), 404)
        visitor = request.cookies.get(_COOKIE) or secrets.token_urlsafe(16)
        page = pages.switch_page(self.name, one, self._store.live(), self._token(visitor, number))
        response = _html(page)
        response.set_cookie(_COOKIE, visitor, httponly=True, samesite="strict")
        return response

    async def switch(self, request: Request) -> Response:
        """Make a generation live, if the form came from our own page."""
        form = await _form(request)
        number, token = form.get("number", ""), form.get("token", "")
        expected = self._token(request.cookies.get(_COOKIE, ""), number)
        is_ours = request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
        if not is_ours or _COOKIE not in request.cookies or not hmac.compare_digest(token, expected):
            message = "This did not come from the page that asks: go back to it and try again."
            return _html(pages.fault_page(self.name, 403, message), 403)
        try:
            await run_in_threadpool(self._store.switch, int(number))
        except (NearlineError, ValueError) as error:
            return _html(pages.fault_page(self.name, 409, str(error)), 409)
        return RedirectResponse("generations", 303, HEADERS)

    def _token(self, visitor: str, number: str) -> str:
        return hmac.new(self._key, f"{number} {visitor}".encode(), sha256).hexdigest()


async def _answered(name: str, work: _Work, request: Request) -> Response:
    """The reply, or a page that says why there is none."""
    try:
        return await run_in_threadpool(work, request)
    except ModelError as error:
        return _html(pages.fault_page(name, 503, str(error)), 503)
    except NearlineError as error:
        return _html(pages.fault_page(name, 503, f"{error}. Try again."), 503)


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _STATIC:
        return Response("no such file", 404, HEADERS)
    content = files("nearline.dashboard").joinpath("static", name).read_bytes()
    return Response(content, 200, HEADERS | {"cache-control": "max-age=3600", "content-type": _STATIC[name]})


async def _form(request: Request) -> dict[str, str]:
    """The fields of a short form; nothing of a long one."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            return {}
    return {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}


def _html(page: str, status: int = 200) -> Response:
    return Response(page, status, HEADERS, "text/html")


def _json(value: object) -> Response:
    return Response(_encode(value), 200, HEADERS, "application/json")


@final
class _Guarded:
    """Asks for the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not hmac.compare_digest(_given(scope), self._token):
            asking = {"www-authenticate": 'Basic realm="nearline", charset="UTF-8"'}
            await Response("a token is needed", 401, HEADERS | asking)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _given(scope: Scope) -> bytes:
    """The token of a request: what follows Bearer, or the password of Basic."""
    written: bytes = dict(scope["headers"]).get(b"authorization", b"")
    scheme, _, given = written.partition(b" ")
    if scheme.lower() != b"basic":
        return given if scheme.lower() == b"bearer" else b""
    try:
        return b64decode(given).partition(b":")[2]
    except NoBase64:
        return b""

"""What the service over HTTP understands: an OpenAPI document, and a page that shows it without the network."""

from functools import cache
from html import escape
from importlib.metadata import version
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from nearline.serve.reply import Accepted, Kept, Ranking, Scores
from nearline.serve.request import FeedbackRequest, KeepRequest, KeptFeatures, RankRequest, ScoreRequest
from nearline.serve.v2 import InferReply, InferRequest, ModelMetadata, ServerMetadata

_Operation: TypeAlias = tuple[str, str, str, type[Struct] | None, type[Struct] | None, tuple[str, ...]]
"""Method, path, summary, body, reply, and which errors there are."""


class _Fault(Struct):
    message: str
    path: str = ""


class Refusal(Struct):
    """Why a request was refused, and the path of the field that is wrong."""

    error: _Fault


class RefusalInWords(Struct):
    """The same in words alone, as the Open Inference Protocol has it."""

    error: str


_READ: Final = ("400", "413")
_LOGGED: Final = ("400", "413", "503")
_OPERATIONS: Final[tuple[_Operation, ...]] = (
    ("post", "/v1/rank", "Choose what to show, and log it as shown", RankRequest, Ranking, _LOGGED),
    (
        "post",
        "/v1/score",
        "Say what is believed of every candidate; nothing is logged",
        ScoreRequest,
        Scores,
        _READ,
    ),
    ("post", "/v1/feedback", "Say what somebody did about impressions", FeedbackRequest, Accepted, _LOGGED),
    ("put", "/v1/candidates", "Keep the features of candidates", KeepRequest, Kept, _READ),
    ("put", "/v1/candidates/{candidate}", "Keep the features of a candidate", KeptFeatures, Kept, _READ),
    ("get", "/v1/candidates/{candidate}", "What is kept of a candidate", None, KeptFeatures, ("404",)),
    ("delete", "/v1/candidates/{candidate}", "Keep a candidate no longer", None, Kept, ("404",)),
    ("post", "/v1/reload", "Take over changed configuration and generations", None, None, ()),
    (
        "post",
        "/v2/models/{model}/infer",
        "Choose what to show, asked and answered as tensors; these may be bytes after the JSON",
        InferRequest,
        InferReply,
        ("400", "404", "413", "503"),
    ),
    ("get", "/v2/models/{model}", "What a model understands and gives", None, ModelMetadata, ("404",)),
    ("get", "/v2/models/{model}/ready", "Whether a model serves", None, None, ("404", "503")),
    ("get", "/v2", "What the server is", None, ServerMetadata, ()),
    ("get", "/v2/health/live", "Whether the process works", None, None, ()),
    ("get", "/v2/health/ready", "Whether it should be sent requests", None, None, ("503",)),
    ("get", "/health/live", "Whether the process works", None, None, ()),
    ("get", "/health/ready", "Whether it should be sent requests", None, None, ("503",)),
    ("get", "/metrics", "Metrics for Prometheus", None, None, ()),
)
_MODEL: Final = "/v1/models/{model}/"
_TENSORS: Final = "/v2/models/{model}"
_FAULTS: Final = {
    "400": "The request cannot be answered as it is: the path says which field is wrong",
    "404": "There is no such model or candidate",
    "413": "The body is too large",
    "503": "Too much is waiting, or the disk is full; nothing was logged: try again later",
}


@cache
def openapi() -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    structs = [kind for _, _, _, *kinds, _ in _OPERATIONS for kind in kinds if kind is not None]
    _, components = msgspec.json.schema_components(
        [*dict.fromkeys(structs), Refusal, RefusalInWords], ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for method, path, summary, body, reply, faults in _OPERATIONS:
        paths.setdefault(path, {})[method] = _operation(method, path, summary, body, reply, faults)
        if path.startswith("/v1/") and path != "/v1/reload":
            other = path.replace("/v1/", _MODEL)
            known = (*faults, "404") if "404" not in faults else faults
            paths.setdefault(other, {})[method] = _operation(method, other, summary, body, reply, known)
        if path.startswith(_TENSORS):
            other = path.replace(_TENSORS, f"{_TENSORS}/versions/{{version}}")
            paths.setdefault(other, {})[method] = _operation(method, other, summary, body, reply, faults)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nearline",
            "version": version("nearline"),
            "summary": "Ranks, and learns from what was shown.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(
    method: str,
    path: str,
    summary: str,
    body: type[Struct] | None,
    reply: type[Struct] | None,
    faults: tuple[str, ...],
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{method}{path.translate(str.maketrans('/{}.', '____'))}",
        "summary": summary,
        "responses": {"200": {"description": "Done"} | _content(reply)},
    }
    for fault in faults:
        operation["responses"][fault] = {"description": _FAULTS[fault]} | (
            _content(RefusalInWords if path.startswith("/v2") else Refusal) if "/health/" not in path else {}
        )
    if body is not None:
        operation["requestBody"] = {"required": True} | _content(body)
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    return operation


def _content(kind: type[Struct] | None) -> dict[str, Any]:
    if kind is None:
        return {}
    return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}}


@cache
def docs_page() -> str:
    """The same as a page."""
    document = openapi()
    rows = "".join(
        f"<tr><td>{method.upper()}</td><td><code>{escape(path)}</code></td><td>{escape(one['summary'])}</td>"
        f"<td>{_linked(one.get('requestBody', {}))}</td><td>{_linked(one['responses']['200'])}</td></tr>"
        for path, methods in document["paths"].items()
        for method, one in methods.items()
    )
    schemas = "".join(_section(name, schema) for name, schema in document["components"]["schemas"].items())
    return _PAGE.format(version=escape(document["info"]["version"]), rows=rows, schemas=schemas)


def _section(name: str, schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code>{' (needed)' if field in required else ''}</td>"
        f"<td>{_kind(of)}</td></tr>"
        for field, of in schema.get("properties", {}).items()
    )
    said = escape(schema.get("description", "")).replace("\n", "<br>")
    return f"<h2 id='{escape(name)}'>{escape(name)}</h2><p class=said>{said}</p><table>{rows}</table>"


def _linked(content: dict[str, Any]) -> str:
    return "".join(_kind(one["schema"]) for one in content.get("content", {}).values())


def _kind(schema: dict[str, Any]) -> str:
    """A schema in words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("type") == "object":
        return f"object of {_kind(schema.get('additionalProperties', {}) or {})}"
    bounds = [f"{word} {schema[key]}" for key, word in _BOUNDS.items() if key in schema]
    return escape(", ".join([str(schema.get("type", "anything")), *bounds]))


_BOUNDS: Final = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "minLength": "length at least",
}
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>nearline: the service over HTTP</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884; }}
code, .said {{ font-family: ui-monospace, monospace; font-size: .87em; }}
h2 {{ margin-top: 2.5rem; }}
@media (prefers-color-scheme: dark) {{ body {{ color: #e6e6e6; background: #16181c; }} a {{ color: #8ab4f8; }} }}
</style>
<h1>nearline {version}</h1>
<p>The service over HTTP. The same for programs: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p>
<table><tr><th>method<th>path<th>what it does<th>body<th>reply</tr>{rows}</table>
{schemas}
</html>
"""

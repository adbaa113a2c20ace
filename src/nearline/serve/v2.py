"""The Open Inference Protocol, version 2, and its extension for binary tensors.

Inputs: `candidates`, BYTES [C], their ids; a kind of entity, BYTES [1]; a bag of features, numbers [C, m] of each
candidate or [1, m] of all. Without a bag of each, candidates are those whose features are kept. How to explore is in
`parameters`. Outputs have a row for each candidate that is shown.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final, final

import msgspec
from msgspec import Struct

from nearline.errors import RequestError
from nearline.serve.answer import Answer
from nearline.serve.asgi import Asking, HttpError, Reply, Work, encode, log_then, model_of
from nearline.serve.faults import located
from nearline.serve.matrix import CandidateMatrix
from nearline.serve.request import PolicyChoice, RankRequest
from nearline.serve.scorer import Scorer
from nearline.serve.service import Service
from nearline.serve.tensors import BYTES, Tensor, packed, read_tensors

_HEADER_LENGTH: Final = b"inference-header-content-length"
_OUTPUTS: Final = {
    "candidates": "BYTES",
    "impressions": "BYTES",
    "expected": "FP64",
    "std": "FP64",
    "score": "FP64",
    "propensity": "FP64",
}
_POLICY: Final = ("epsilon", "width", "draws")
_KNOWN: Final = {*_POLICY, "policy", "k", "deadline_ms", "offset", "binary_data_output"}


@final
class RequestedOutput(Struct, frozen=True):
    """An output to give; with `parameters.binary_data` as bytes."""

    name: str
    parameters: dict[str, Any] = {}


@final
class InferRequest(Struct, frozen=True):
    """Candidates to rank, as tensors; `parameters` say how to explore."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, str | float | bool] = {}
    outputs: list[RequestedOutput] | None = None


@final
class OutputTensor(Struct, frozen=True, omit_defaults=True):
    """An output: a row for each candidate that is shown, in `data`; or bytes after the head."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, int] = {}


@final
class InferReply(Struct, frozen=True):
    """What is shown, as tensors."""

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, str]
    outputs: list[OutputTensor]


@final
class TensorMetadata(Struct, frozen=True):
    """A tensor that is understood, or given; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


@final
class ModelMetadata(Struct, frozen=True):
    """A model: its generation, what it understands and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


@final
class ServerMetadata(Struct, frozen=True):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


_decoder = msgspec.json.Decoder(InferRequest)


async def _infer(service: Service, asking: Asking) -> Reply:
    scorer = _model(service, asking)
    head, binary = _parts(asking)
    try:
        request = _decoder.decode(head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise located(head, InferRequest, str(error), {}) from error
    wanted = _wanted(request)
    asked, matrix = _asked(request, binary)
    answer = scorer.answer(asked, matrix)
    head, tensors = _reply(request, answer, wanted)
    reply = await log_then(scorer, answer.records, lambda: head + tensors)
    if not tensors:
        return reply
    headers = ((_HEADER_LENGTH, str(len(head)).encode()),)
    return Reply(reply.body, content_type=b"application/octet-stream", headers=headers)


def _parts(asking: Asking) -> tuple[bytes, bytes]:
    """The head in JSON, and the tensors that follow it."""
    length = dict(asking.headers).get(_HEADER_LENGTH)
    if length is None:
        return asking.body, b""
    if not length.isdigit() or int(length) > len(asking.body):
        raise HttpError(
            400, f"Inference-Header-Content-Length: expected up to {len(asking.body)}, got {length!r}"
        )
    return asking.body[: int(length)], asking.body[int(length) :]


def _asked(request: InferRequest, binary: bytes) -> tuple[RankRequest, CandidateMatrix | None]:
    tensors = read_tensors(request.inputs, binary)
    if "candidates" not in tensors:
        raise RequestError("$.inputs", "expected an input 'candidates', BYTES [C], the ids")
    ids = tensors["candidates"]
    if not isinstance(ids, list):
        raise RequestError("$.inputs.candidates", "expected BYTES [C]")
    entities: dict[str, str] = {}
    shared: dict[str, Any] = {}
    own, keys = {}, {}
    for one in request.inputs:
        value = tensors[one.name]
        if one.name == "candidates":
            continue
        if isinstance(value, list):
            if len(value) != 1:
                raise RequestError(
                    f"$.inputs.{one.name}", f"expected BYTES [1], the entity of all, got {len(value)}"
                )
            entities[one.name] = value[0]
            continue
        names = _names(one)
        if value.ndim == 2 and len(value) == len(ids) and len(ids) != 1:
            own[one.name] = value
            if names is not None:
                keys[one.name] = names
        elif value.ndim in {1, 2} and (value.ndim == 1 or len(value) == 1):
            row = value.ravel().tolist()
            shared[one.name] = row if names is None else dict(zip(names, row, strict=False))
            if names is not None and len(names) != len(row):
                raise RequestError(f"$.inputs.{one.name}", f"expected {len(names)} columns, got {len(row)}")
        else:
            raise RequestError(
                f"$.inputs.{one.name}", f"expected shape [{len(ids)}, m] or [1, m], got {one.shape}"
            )
    plain = RankRequest(
        list(ids) if not own else [], entities, shared, id=request.id, **_parameters(request.parameters)
    )
    return plain, CandidateMatrix(ids, own, keys) if own else None


def _names(tensor: Tensor) -> list[str] | None:
    """The names of the columns, if they are given: with commas between them."""
    names = tensor.parameters.get("features")
    if names is None:
        return None
    if not isinstance(names, str) or not names:
        raise RequestError(
            f"$.inputs.{tensor.name}.parameters.features", "expected names with commas between them"
        )
    return _split(names)


@lru_cache(256)
def _split(names: str) -> list[str]:
    """Names with commas between them, as they come time and again; not to be changed."""
    return names.split(",")


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    for name in given:
        if name not in _KNOWN:
            raise RequestError(
                f"$.parameters.{name}", f"no such parameter: expected some of {', '.join(sorted(_KNOWN))}"
            )
    choice = {name: given[name] for name in _POLICY if name in given}
    if choice and "policy" not in given:
        raise RequestError("$.parameters.policy", f"expected a policy that has {', '.join(choice)}")
    found: dict[str, Any] = {name: given[name] for name in ("k", "deadline_ms", "offset") if name in given}
    if "policy" in given:
        found["policy"] = {"name": given["policy"], **choice}
    try:
        checked = msgspec.convert({"candidates": ["of the inputs"], **found}, RankRequest, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError("$.parameters", str(error).replace("`$.", "`$.parameters.")) from error
    assert checked.policy is None or isinstance(checked.policy, PolicyChoice)  # noqa: S101 - an object was given
    return {name: getattr(checked, name) for name in found}


def _wanted(request: InferRequest) -> list[tuple[str, bool]]:
    """Outputs to give, and whether as bytes."""
    as_bytes = bool(request.parameters.get("binary_data_output", False))
    if not request.outputs:
        return [(name, as_bytes) for name in _OUTPUTS]
    for output in request.outputs:
        if output.name not in _OUTPUTS:
            raise RequestError("$.outputs", f"no output {output.name!r}: there is {', '.join(_OUTPUTS)}")
    return [(one.name, bool(one.parameters.get("binary_data", as_bytes))) for one in request.outputs]


def _reply(request: InferRequest, answer: Answer, wanted: Sequence[tuple[str, bool]]) -> tuple[bytes, bytes]:
    """The head in JSON, and the tensors that are bytes."""
    columns: dict[str, list[Any]] = {
        "candidates": answer.names,
        "impressions": answer.impressions,
        "expected": answer.parts.expected.tolist(),
        "std": answer.parts.std.tolist(),
        "score": answer.scores.tolist(),
        "propensity": answer.propensities.tolist(),
    }
    outputs, tensors, shape = [], list[bytes](), [len(answer.names)]
    for name, as_bytes in wanted:
        if as_bytes:
            tensors.append(packed(columns[name]))
            size = {"binary_data_size": len(tensors[-1])}
            outputs.append(OutputTensor(name, _OUTPUTS[name], shape, parameters=size))
        else:
            outputs.append(OutputTensor(name, _OUTPUTS[name], shape, columns[name]))
    head = InferReply(
        answer.model,
        str(answer.generation),
        request.id or answer.request,
        {"policy": answer.policy, "partial": ",".join(answer.partial)},
        outputs,
    )
    return encode(head), b"".join(tensors)


async def _server(_: Service, __: Asking) -> Reply:
    return Reply(encode(ServerMetadata("nearline", version("nearline"), ["binary_tensor_data"])))


async def _live(_: Service, __: Asking) -> Reply:
    return Reply(encode({"live": True}))


async def _ready(service: Service, _: Asking) -> Reply:
    return Reply(encode({"ready": service.is_ready}), 200 if service.is_ready else 503)


async def _model_ready(service: Service, asking: Asking) -> Reply:
    scorer = _model(service, asking)
    return Reply(
        encode({"name": scorer.settings.name, "ready": service.is_ready}), 200 if service.is_ready else 503
    )


async def _metadata(service: Service, asking: Asking) -> Reply:
    scorer = _model(service, asking)
    model = scorer.serving.model
    kinds = dict.fromkeys(effect.kind for effect in model.random if effect.kind != scorer.settings.item_kind)
    bags = dict.fromkeys([*model.fixed.bags, *(bag for effect in model.random for bag in effect.bags)])
    inputs = [
        TensorMetadata("candidates", BYTES, [-1]),
        *(TensorMetadata(kind, BYTES, [1]) for kind in kinds),
        *(TensorMetadata(bag, "FP64", [-1, -1]) for bag in bags),
    ]
    outputs = [TensorMetadata(name, kind, [-1]) for name, kind in _OUTPUTS.items()]
    about = ModelMetadata(scorer.settings.name, [str(scorer.generation)], "nearline", inputs, outputs)
    return Reply(encode(about))


def _model(service: Service, asking: Asking) -> Scorer:
    """The model of the path; a version other than the generation that serves is not there."""
    scorer = model_of(service, asking.path)
    wanted = asking.path.get("version")
    if wanted not in {None, str(scorer.generation)}:
        raise HttpError(404, f"no version {wanted!r}: generation {scorer.generation} serves")
    return scorer


_OF_MODEL: Final[dict[str, dict[str, Work]]] = {
    "": {"GET": _metadata},
    "/ready": {"GET": _model_ready},
    "/infer": {"POST": _infer},
}
PATHS: Final[dict[str, dict[str, Work]]] = {
    "/v2": {"GET": _server},
    "/v2/health/live": {"GET": _live},
    "/v2/health/ready": {"GET": _ready},
    **{
        f"/v2/models/{{model}}{of_version}{end}": works
        for of_version in ("", "/versions/{version}")
        for end, works in _OF_MODEL.items()
    },
}

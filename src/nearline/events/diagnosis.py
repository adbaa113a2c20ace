"""A JSON document that was refused -> the path of the field that is wrong, what was expected there and what found.

The decoders of `nearline.events.cloudevents` are fast and say no more than that something in a map is wrong. This
looks again, slowly, for the first fault a person would put right.
"""

import difflib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec

from nearline.events.impression import as_written

Check: TypeAlias = Callable[[str, Any], Iterator[str]]
"""(path, value) to messages."""

_TIME: Final = 'RFC 3339 such as "2026-01-31T12:00:00Z", or an integer of milliseconds since 1970'
_LONGEST = 60


def envelope_fault(document: bytes | str, otherwise: str) -> str:
    """What is wrong with a CloudEvent; `otherwise` where nothing is found."""
    return _first_fault(document, _envelope, "", otherwise)


def impression_fault(content: bytes, otherwise: str) -> str:
    """What is wrong with the ``data`` of an impression."""
    return _first_fault(content, _fields(_IMPRESSION, ()), "data", otherwise)


def feedback_fault(content: bytes, otherwise: str) -> str:
    """What is wrong with the ``data`` of feedback."""
    return _first_fault(content, _fields(_FEEDBACK, ("impression", "label")), "data", otherwise)


def _first_fault(document: bytes | str, check: Check, path: str, otherwise: str) -> str:
    if not document:
        return f"{path or 'event'}: expected an object, got nothing"
    try:
        content = json.loads(document)
    except (ValueError, RecursionError) as error:
        return f"{path or 'event'}: expected JSON: {error}"
    return next(check(path, content), f"{path or 'event'}: {otherwise}")


def _envelope(_: str, content: Any) -> Iterator[str]:
    if not isinstance(content, dict):
        yield f"event: expected an object, got {_found(content)}"
        return
    for name, check in _ENVELOPE.items():
        if name in content:
            yield from check(name, content[name])
        elif name != "datacontenttype":
            yield f"{name}: missing; a CloudEvent has specversion, type, source, id and, here, time"
    # Numbers that JSON does not have break the document as a whole: say where they are.
    if "data" in content:
        yield from _not_finite("data", content["data"])


def _not_finite(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{path}: expected a finite number, got {as_written(value)}"
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _not_finite(f"{path}.{key}", part)


def _fields(known: Mapping[str, Check], required: tuple[str, ...]) -> Check:
    def check(path: str, content: Any) -> Iterator[str]:
        if not isinstance(content, dict):
            yield f"{path}: expected an object, got {_found(content)}"
            return
        for name in required:
            if name not in content:
                yield f"{path}.{name}: missing"
        for name, value in content.items():
            if name in known:
                yield from known[name](f"{path}.{name}", value)
            else:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
                yield f"{path}.{name}: no such field; {hint}"

    return check


def _map_of(check: Check) -> Check:
    def check_all(path: str, content: Any) -> Iterator[str]:
        if not isinstance(content, dict):
            yield f"{path}: expected an object, got {_found(content)}"
            return
        for key, value in content.items():
            yield from check(f"{path}.{key}", value)

    return check_all


def _or_null(check: Check) -> Check:
    def check_present(path: str, value: Any) -> Iterator[str]:
        if value is not None:
            yield from check(path, value)

    return check_present


def _one_of(*allowed: str) -> Check:
    def check(path: str, value: Any) -> Iterator[str]:
        if value not in allowed:
            yield f"{path}: expected {' or '.join(map(repr, allowed))}, got {_found(value)}"

    return check


def _text(path: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{path}: expected a string, got {_found(value)}"


def _number(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield f"{path}: expected a finite number, got {_found(value)}"
    elif not _is_finite(value):
        yield f"{path}: expected a finite number, got {as_written(value) if isinstance(value, float) else 'Infinity'}"


def _integer(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        yield f"{path}: expected an integer of 64 bits, got {_found(value)}"


def _time(path: str, value: Any) -> Iterator[str]:
    try:
        if isinstance(value, str):
            msgspec.convert(value, datetime)
        else:
            msgspec.convert(value, int)
    except msgspec.ValidationError:
        yield f"{path}: expected {_TIME}, got {_found(value)}"


def _features(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for at, number in enumerate(value):
            yield from _number(f"{path}.{at}", number)
    elif isinstance(value, dict):
        yield from _map_of(_number)(path, value)
    else:
        yield f"{path}: expected an object of numbers by name or a list of numbers, got {_found(value)}"


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the largest double
        return False


def _found(value: Any) -> str:
    """A value as the document has it, cut short."""
    if isinstance(value, float):
        return as_written(value)
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


_ENVELOPE: Final[dict[str, Check]] = {
    "specversion": _one_of("1.0"),
    "type": _one_of("nearline.impression", "nearline.feedback", "nearline.tick"),
    "source": _text,
    "id": _text,
    "datacontenttype": _one_of("application/json"),
    "time": _time,
}
_IMPRESSION: Final[dict[str, Check]] = {
    "entities": _map_of(_text),
    "features": _map_of(_features),
    "contributions": _map_of(_fields({"mean": _number, "variance": _number}, ("mean", "variance"))),
    "offset": _number,
    "fixed": _number,
    "propensity": _or_null(_number),
    "policy": _or_null(_text),
    "generation": _integer,
    "versions": _map_of(_integer),
    "resolves_ms": _or_null(_integer),
    "weight": _number,
}
_FEEDBACK: Final[dict[str, Check]] = {"impression": _text, "label": _number, "weight": _number}

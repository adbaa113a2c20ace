"""A body that was refused -> the path of the field that is wrong.

The decoder says where in structures and lists a fault is, but of maps only that it is in one. This looks again.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from nearline.errors import RequestError
from nearline.events.impression import as_written

_PATH: Final = re.compile(r"^(?P<what>.*) - at `(?:key in )?`?(?P<path>\$.*?)`$", re.DOTALL)
_STEP: Final = re.compile(r"\[\.\.\.\]|\[(\d+)\]|\.([^.\[]+)")


def located(body: bytes, kind: type[Struct], said: str, maps: Mapping[str, Sequence[Any]]) -> RequestError:
    """The error of a body that is not one of `kind`, about which the decoder said that.

    `maps` : by the name of a field that is a map, its type, and those of the maps in it.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        return RequestError("$", f"expected JSON: {str(error) or 'nested too deep'}")
    for path, number in _not_finite("$", content):
        return RequestError(path, f"expected a finite number, got {as_written(number)}")
    try:
        msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        said = str(error)
    found = _PATH.match(said)
    if found is None:
        return RequestError("$", _lowered(said))
    return RequestError(_resolved(content, found["path"], maps), _lowered(found["what"]))


def _resolved(content: Any, path: str, maps: Mapping[str, Sequence[Any]]) -> str:
    """The path with the key of the value that is wrong in place of each ``[...]``."""
    types: Iterator[Any] = iter(())
    resolved, value = "$", content
    for step in _STEP.finditer(path):
        if step[0] == "[...]":
            key, value = _wrong(value, next(types, Any))
            resolved += f".{key}"
            continue
        if step[1] is not None:
            value = value[int(step[1])] if isinstance(value, list) else None
        else:
            value, types = (
                value.get(step[2]) if isinstance(value, dict) else None,
                iter(maps.get(step[2], ())),
            )
        resolved += step[0]
    return resolved


def _wrong(value: Any, kind: Any) -> tuple[str, Any]:
    """The first entry that does not fit the type of the map."""
    for key, part in value.items() if isinstance(value, dict) else ():
        try:
            msgspec.convert({key: part}, kind)
        except msgspec.ValidationError:
            return key, part
    return "*", None


def _not_finite(path: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _not_finite(f"{path}.{key}", part)
    elif isinstance(value, list):
        for at, part in enumerate(value):
            yield from _not_finite(f"{path}[{at}]", part)


def _lowered(said: str) -> str:
    return said[:1].lower() + said[1:]

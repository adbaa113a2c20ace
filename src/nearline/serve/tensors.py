"""Tensors of the Open Inference Protocol: JSON or bytes <-> arrays and texts."""

import struct
from collections.abc import Sequence
from math import prod
from typing import Any, Final, TypeAlias, final

import numpy as np
from msgspec import Struct

from nearline.arrays import Floats
from nearline.errors import RequestError
from nearline.kernels._names import read_texts

BYTES: Final = "BYTES"
NUMBERS: Final = {
    "FP64": "<f8",
    "FP32": "<f4",
    "FP16": "<f2",
    "INT64": "<i8",
    "INT32": "<i4",
    "INT16": "<i2",
    "INT8": "<i1",
    "UINT64": "<u8",
    "UINT32": "<u4",
    "UINT16": "<u2",
    "UINT8": "<u1",
    "BOOL": "<?",
}
"""Datatypes of numbers, and how their bytes are laid out."""
_LENGTH: Final = struct.Struct("<I")
Value: TypeAlias = "Floats | list[str]"


@final
class Tensor(Struct, frozen=True):
    """An input: values in `data`, row by row, nested or not; or bytes, `parameters.binary_data_size` of them."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


def read_tensors(tensors: Sequence[Tensor], binary: bytes) -> dict[str, Value]:
    """The values of each: texts of BYTES, float64 of the shape of numbers.

    Raises
    ------
    RequestError
        A tensor is there twice, has an unknown datatype, or not the values that its shape says.
    """
    found: dict[str, Value] = {}
    at = 0
    for tensor in tensors:
        path = f"$.inputs.{tensor.name}"
        if tensor.name in found:
            raise RequestError(path, "expected each input once")
        if tensor.datatype != BYTES and tensor.datatype not in NUMBERS:
            raise RequestError(
                f"{path}.datatype", f"expected BYTES or one of {', '.join(NUMBERS)}, got {tensor.datatype!r}"
            )
        if any(size < 0 for size in tensor.shape):
            raise RequestError(f"{path}.shape", f"expected sizes of 0 or more, got {tensor.shape}")
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            found[tensor.name] = _from_json(tensor, path)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary) - at:
            raise RequestError(
                f"{path}.parameters.binary_data_size", f"expected up to {len(binary) - at}, got {size!r}"
            )
        found[tensor.name] = _from_bytes(tensor, binary[at : at + size], path)
        at += size
    if at < len(binary):
        raise RequestError("$", f"expected {at} bytes of tensors, got {len(binary)}")
    return found


def packed(values: Sequence[Any]) -> bytes:
    """Texts or numbers as the bytes of a tensor, BYTES or FP64."""
    if values and isinstance(values[0], str):
        texts = [text.encode() for text in values]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    return np.array(values, dtype="<f8").tobytes()


def _from_json(tensor: Tensor, path: str) -> Value:
    values = _flat(tensor.data or [])
    if len(values) != prod(tensor.shape):
        raise RequestError(f"{path}.data", f"expected {prod(tensor.shape)} values, got {len(values)}")
    kind = str if tensor.datatype == BYTES else int | float
    for i, value in enumerate(values):
        if not isinstance(value, kind):
            raise RequestError(
                f"{path}.data[{i}]", f"expected {'a string' if kind is str else 'a number'}, got {value!r}"
            )
    if tensor.datatype == BYTES:
        return values
    try:
        return np.array(values, dtype=np.float64).reshape(tensor.shape)
    except OverflowError as error:
        raise RequestError(f"{path}.data", "expected numbers that a double can hold") from error


def _flat(values: list[Any]) -> list[Any]:
    while values and isinstance(values[0], list):
        values = [value for one in values for value in (one if isinstance(one, list) else [one])]
    return values


def _from_bytes(tensor: Tensor, content: bytes, path: str) -> Value:
    count = prod(tensor.shape)
    if tensor.datatype != BYTES:
        layout = np.dtype(NUMBERS[tensor.datatype])
        if len(content) != count * layout.itemsize:
            raise RequestError(path, f"expected {count * layout.itemsize} bytes, got {len(content)}")
        return np.frombuffer(content, layout).astype(np.float64).reshape(tensor.shape)
    try:
        texts = read_texts(content)
    except UnicodeDecodeError as error:
        raise RequestError(path, f"expected UTF-8, got {error.object[:20]!r}") from error
    except ValueError:
        texts = []
    if len(texts) != count:
        raise RequestError(path, f"expected {count} texts, each after its length in 4 bytes")
    return texts

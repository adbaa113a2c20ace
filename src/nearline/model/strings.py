"""Arrow string arrays to the buffers the vocabulary kernel reads, and back."""

from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline.arrays import ArrowArray, Ints
from nearline.kernels._vocabulary import Vocabulary

StringColumn: TypeAlias = tuple[NDArray[np.int32] | NDArray[np.int64], NDArray[np.uint8]]


def one_string(text: str) -> StringColumn:
    """Return a column of one string, which the kernel takes to stand in every row."""
    encoded = np.frombuffer(text.encode(), dtype=np.uint8)
    return np.array([0, len(encoded)], dtype=np.int64), encoded


def string_column(array: ArrowArray) -> StringColumn:
    """Return the offsets [n + 1] and the bytes of an Arrow `string` or `large_string` array, without a copy.

    Raises
    ------
    ValueError
        The array has nulls, or another type.
    """
    if array.null_count:
        raise ValueError("expected strings without nulls")
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        raise ValueError(f"expected string or large_string, got {array.type}")
    width = np.int64 if pa.types.is_large_string(array.type) else np.int32
    if len(array) == 0:
        return np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.uint8)
    _, offset_buffer, byte_buffer = array.buffers()
    offsets: NDArray[Any] = np.frombuffer(offset_buffer, dtype=width)
    has_bytes = byte_buffer is not None and byte_buffer.size > 0
    data = np.frombuffer(byte_buffer, dtype=np.uint8) if has_bytes else np.empty(0, dtype=np.uint8)
    return offsets[array.offset : array.offset + len(array) + 1], data


def to_strings(offsets: Ints, data: NDArray[np.uint8]) -> pa.StringArray:
    """Return the strings that lie in `data` between `offsets` [n + 1], as an Arrow `string` array."""
    parts: tuple[Any, Any] = (offsets, data)  # to the stubs of pyarrow an array is no buffer
    buffers = [None, *map(pa.py_buffer, parts)]
    large: ArrowArray = pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, buffers)
    strings: pa.StringArray = large.cast(pa.string())
    return strings


def key_strings(vocabulary: Vocabulary, part: int, start: int, stop: int) -> pa.StringArray:
    """Return one part of the keys of columns `start` to `stop`."""
    return to_strings(*vocabulary.keys(part, start, stop))

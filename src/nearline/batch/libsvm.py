"""LIBSVM text to a table: lines of a response and `index:value` pairs."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nearline.arrays import ArrowArray, Bools
from nearline.errors import DataError


def parse_libsvm(content: bytes, *, source: str = "LIBSVM text") -> pa.Table:
    """Return columns response float64 and x map<string, float64>, from index to value, a row to a line.

    What follows a `#` is a comment; empty lines are left out.

    Raises
    ------
    DataError
        A response or a pair is no number; names the line.
    """
    lines: ArrowArray = pa.array(content.decode().splitlines(), type=pa.string())
    lines = pc.utf8_trim_whitespace(pc.replace_substring_regex(lines, "#.*", ""))
    numbers = np.flatnonzero(np.array([line != "" for line in lines.to_pylist()]))
    tokens: ArrowArray = pc.utf8_split_whitespace(lines.take(pa.array(numbers)))
    counts = np.diff(tokens.offsets.to_numpy())
    flat = tokens.flatten()
    is_response = np.zeros(len(flat), dtype=np.bool_)
    is_response[np.cumsum(counts) - counts] = True
    responses, pairs = flat.filter(pa.array(is_response)), flat.filter(pa.array(~is_response))
    parts: ArrowArray = pc.extract_regex(pairs, r"^(?P<index>[^:]+):(?P<value>[^:]+)$")
    index, value = pc.struct_field(parts, "index"), pc.struct_field(parts, "value")
    try:
        response, values = _as_floats(responses), _as_floats(value)
    except pa.ArrowInvalid:
        line_of = np.repeat(numbers, counts)
        raise _first_fault(flat, is_response, line_of, source) from None
    offsets: ArrowArray = pa.array(np.concatenate([[0], np.cumsum(counts - 1)]), type=pa.int32())
    features = pa.MapArray.from_arrays(offsets, index, values)
    return pa.Table.from_arrays([response, features], names=["response", "x"])


def _as_floats(texts: ArrowArray) -> ArrowArray:
    if texts.null_count:
        raise pa.ArrowInvalid("a pair without a value")
    return pc.utf8_ltrim(texts, "+").cast(pa.float64())


def _first_fault(tokens: ArrowArray, is_response: Bools, lines: NDArray[np.intp], source: str) -> DataError:
    for token, alone, line in zip(tokens.to_pylist(), is_response, lines, strict=True):
        index, _, value = ("", "", token) if alone else token.partition(":")
        try:
            _as_floats(pa.array([value]))
            fine = bool(alone or index)
        except pa.ArrowInvalid:
            fine = False
        if not fine:
            expected = "a number" if alone else "index:value"
            return DataError(f"{source}, line {line + 1}: expected {expected}, found {token!r}")
    return DataError(f"{source}: expected a number and index:value pairs on every line")

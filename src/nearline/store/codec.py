"""Records <-> bytes, one value an entity, in a layout that any language can read.

Little endian, without gaps but for the padding named here; d is the number of columns::

    offset  type      what
    0       u8        format version: 1
    1       u8        form: bit 0 a full precision (else its diagonal), bit 1 precision in float32 (else float64)
    2       u16       zero
    4       u32       d
    8       u64       checksum
    16      i64       version, at least 1
    24      i64       position
    32      i64       as_of_ms
    40      i64       rows
    48      i32[d]    columns, ascending; then zeros up to a multiple of 8 bytes
    .       f64[d]    shift
    .       f64 or f32[d (d + 1) / 2 or d]
                      the packed upper triangle of the precision row by row, or its diagonal; then zeros up to a
                      multiple of 8 bytes

The checksum, with the record taken as unsigned words w[0], w[1], ... of 64 bits, is::

    sum over i != 1 of (w[i] xor (w[i] >> 32)) * m[i]  mod 2^64,    m[i] = ((i + 1) * 0x9E3779B97F4A7C15 mod 2^64) | 1

Each term is a one-to-one function of its word, so damage within one word is always found, and any other is missed
once in 2^64 times. It is computed for thousands of records at once, at a fifth of the cost of a CRC-32.

A record in float32 takes half the room; what was learned is rounded when it is written, so whoever learns on must
begin from the record as it was stored.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline.arrays import Bools, Ints
from nearline.errors import ModelError
from nearline.posterior.blocks import empty_blocks
from nearline.store.records import Records

FORMAT_VERSION = 1
FULL, SINGLE = 1, 2
_HEAD = Struct("<BBHI")
_VERSION = Struct("<q")
_VERSION_AT = 16
_SMALLEST = 48
_HALF = np.uint64(32)
_AT_ONCE = 1 << 19  # bytes
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_NUMBERS = ("version", "position", "as_of_ms", "rows")


def encode_records(records: Records, *, single: bool = False) -> list[bytes]:
    """One value for each record; the precision in float32 if `single`.

    Raises
    ------
    ModelError
        A version is below 1, a number of the evidence is not finite, or too large for float32.
    """
    evidence = records.evidence
    _require_writable(records, single)
    form = (FULL if evidence.full else 0) | (SINGLE if single else 0)
    sizes = np.diff(evidence.start)
    values: list[bytes] = [b""] * len(records)
    for d in np.unique(sizes).tolist():
        for places in _portions(np.flatnonzero(sizes == d), d, form):
            for place, value in zip(places.tolist(), _encode_alike(records, places, d, form), strict=True):
                values[place] = value
    return values


def _encode_alike(records: Records, places: Ints, d: int, form: int) -> list[bytes]:
    """The values of some records, all with d columns."""
    evidence = records.evidence
    written = np.zeros(len(places), _layout(d, form))
    written["head"] = np.array((FORMAT_VERSION, form, 0, d), written.dtype["head"])
    for name in _NUMBERS:
        written[name] = getattr(records, name)[places]
    written["column"] = _part(evidence.column, evidence.start, places, d)
    written["shift"] = _part(evidence.mean, evidence.start, places, d)
    begins = evidence.packed_start if evidence.full else evidence.start
    written["precision"] = _part(evidence.precision, begins, places, _numbers_in(d, form))
    written["checksum"] = _checksum(written)
    values: list[bytes] = written.view(f"V{written.dtype.itemsize}").tolist()
    return values


def decode_records(values: Sequence[bytes | None], *, full: bool) -> Records:
    """The records of `values`, in order; None stands for an entity nobody has seen.

    Raises
    ------
    ModelError
        A value is no record, of a newer format, damaged, or not in the form that `full` says.
    """
    words, begin, present = _joined(values)
    groups = _alike(words, begin, present, full)
    sizes = np.zeros(len(values), dtype=np.int64)
    for d, _, alike in groups:
        sizes[present[alike]] = d
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    evidence = empty_blocks(start, np.empty(int(start[-1]), dtype=np.int32), full=full)
    numbers = np.zeros((len(_NUMBERS), len(values)), dtype=np.int64)
    for d, form, alike in groups:
        layout = _layout(d, form)
        for some in _portions(alike, d, form):
            read, places = _part(words, begin, some, layout.itemsize // 8).view(layout)[:, 0], present[some]
            _require_sound(read, places)
            for i, name in enumerate(_NUMBERS):
                numbers[i, places] = read[name]
            _fill(evidence.column, start, places, read["column"])
            _fill(evidence.mean, start, places, read["shift"])
            _fill(evidence.precision, evidence.packed_start if full else start, places, read["precision"])
    return Records(numbers[0], numbers[1], numbers[2], numbers[3], evidence)


def decode_named(
    effect: str, names: Sequence[str], values: Sequence[bytes | None], *, full: bool
) -> Records:
    """The same, but the error says which entity of which effect it is."""
    try:
        return decode_records(values, full=full)
    except ModelError:
        for name, value in zip(names, values, strict=True):
            try:
                decode_records([value], full=full)
            except ModelError as error:
                raise ModelError(f"{effect}: entity {name!r}: {error}") from error
        raise


def versions_of(values: Iterable[bytes | memoryview | None]) -> list[int]:
    """The version of each value that `encode_records` wrote, 0 of None; nothing else of it is looked at."""
    return [0 if value is None else _VERSION.unpack_from(value, _VERSION_AT)[0] for value in values]


def _numbers_in(d: int, form: int) -> int:
    return d * (d + 1) // 2 if form & FULL else d


def _size(d: int, form: int) -> int:
    """Bytes of a record, in whole numbers of any size."""
    precision = _numbers_in(d, form) * (4 if form & SINGLE else 8)
    return 48 + _padded(4 * d) + 8 * d + _padded(precision)


def _padded(size: int) -> int:
    return -(-size // 8) * 8


@lru_cache(maxsize=4096)
def _layout(d: int, form: int) -> np.dtype[Any]:
    head = np.dtype([("format", "u1"), ("form", "u1"), ("zero", "<u2"), ("d", "<u4")])
    precision = "<f4" if form & SINGLE else "<f8"
    shift_at = 48 + _padded(4 * d)
    fields = {
        "head": (head, 0),
        "checksum": ("<u8", 8),
        "version": ("<i8", 16),
        "position": ("<i8", 24),
        "as_of_ms": ("<i8", 32),
        "rows": ("<i8", 40),
        "column": (("<i4", (d,)), 48),
        "shift": (("<f8", (d,)), shift_at),
        "precision": ((precision, (_numbers_in(d, form),)), shift_at + 8 * d),
    }
    return np.dtype(
        {
            "names": list(fields),
            "formats": [kind for kind, _ in fields.values()],
            "offsets": [at for _, at in fields.values()],
            "itemsize": _size(d, form),
        }
    )


@lru_cache(maxsize=4096)
def _multipliers(words: int) -> NDArray[np.uint64]:
    multipliers = np.arange(1, words + 1, dtype=np.uint64) * _GOLDEN | np.uint64(1)
    multipliers[1] = 0  # the checksum itself
    multipliers.flags.writeable = False
    return multipliers


def _checksum(records: NDArray[Any]) -> NDArray[np.uint64]:
    words = records.view("<u8").reshape(len(records), -1)
    mixed = words >> _HALF
    np.bitwise_xor(mixed, words, out=mixed)
    checksum: NDArray[np.uint64] = mixed @ _multipliers(words.shape[1])
    return checksum


def _joined(values: Sequence[bytes | None]) -> tuple[NDArray[np.uint64], Ints, Ints]:
    """The words of all values that are there, where each begins and the last one ends, and the place of each."""
    there = [value for value in values if value is not None]
    places = np.arange(len(values), dtype=np.int64)
    if len(there) < len(values):
        places = places[np.fromiter((value is not None for value in values), np.bool_, len(values))]
    size = np.fromiter(map(len, there), np.int64, len(there))
    _require(
        (size >= _SMALLEST) & (size % 8 == 0), places, "expected 48 bytes or more by eights: it is damaged"
    )
    begin = np.concatenate([[0], np.cumsum(size // 8)]).astype(np.int64)
    return np.frombuffer(b"".join(there), "<u8"), begin, places


def _alike(words: NDArray[np.uint64], begin: Ints, present: Ints, full: bool) -> list[tuple[int, int, Ints]]:
    """Number of columns and form, and which of the values have them; each value has the size that it says."""
    head, size = words[begin[:-1]], np.diff(begin) * 8
    groups = []
    for one in np.unique(head):
        alike = np.flatnonzero(head == one)
        d, form = _read_head(one.tobytes(), int(present[alike[0]]), full)
        _require(
            size[alike] == _size(d, form), present[alike], f"expected {_size(d, form)} bytes: it is damaged"
        )
        groups.append((d, form, alike))
    return groups


def _read_head(head: bytes, place: int, full: bool) -> tuple[int, int]:
    version, form, zero, d = _HEAD.unpack(head)
    if version > FORMAT_VERSION:
        raise ModelError(
            f"record {place}: expected a format version up to {FORMAT_VERSION}, got {version}: "
            "it is damaged, or needs a newer nearline"
        )
    if version < 1 or zero or form & ~(FULL | SINGLE):
        raise ModelError(f"record {place}: expected the head of a record, got {head.hex()}: it is damaged")
    if bool(form & FULL) is not full:
        found, expected = ("full", "diagonal") if form & FULL else ("diagonal", "full")
        raise ModelError(f"record {place}: expected a {expected} precision, got a {found} one")
    return d, form


def _require_sound(read: NDArray[Any], places: Ints) -> None:
    _require(read["checksum"] == _checksum(read), places, "its checksum does not fit: it is damaged")
    column = read["column"]
    _require(column[:, 1:] > column[:, :-1], places, "expected columns that ascend")
    _require(column[:, :1] >= 0, places, "expected columns that ascend from 0 or above")
    _require((read["version"] > 0) & (read["rows"] >= 0), places, "expected a version and a count of rows")
    _require(np.isfinite(read["shift"]), places, "expected finite numbers")
    _require(np.isfinite(read["precision"]), places, "expected finite numbers")


def _require_writable(records: Records, single: bool) -> None:
    evidence = records.evidence
    _require(records.version > 0, None, "expected a version of 1 or above")
    starts = evidence.packed_start if evidence.full else evidence.start
    for numbers, begin in ((evidence.mean, evidence.start), (evidence.precision, starts)):
        if begin is None or np.isfinite(numbers).all():
            continue
        bad = int(np.searchsorted(begin, np.flatnonzero(~np.isfinite(numbers))[0], side="right")) - 1
        raise ModelError(f"record {bad}: expected finite numbers")
    if single and len(evidence.precision):
        largest = float(np.abs(evidence.precision).max())
        if largest > float(np.finfo(np.float32).max):
            raise ModelError(f"expected precisions that float32 can hold, got {largest:g}: use float64")


def _require(sound: Bools, places: Ints | None, expected: str) -> None:
    """Raise a `ModelError` that names the first record with anything in its row that is not sound."""
    if not sound.all():
        first = int(np.argwhere(~sound)[0, 0])
        raise ModelError(f"record {first if places is None else int(places[first])}: {expected}")


def _portions(places: Ints, d: int, form: int) -> Iterator[Ints]:
    """The places a few at a time, so that what is worked on stays in the processor's cache."""
    at_once = max(1, _AT_ONCE // _size(d, form))
    for begin in range(0, len(places), at_once):
        yield places[begin : begin + at_once]


def _part(numbers: NDArray[Any] | None, begin: Ints | None, places: Ints, size: int) -> NDArray[Any]:
    """[len(places), size]: that many numbers from the beginning of each place."""
    assert numbers is not None and begin is not None  # noqa: S101, PT018 - records always have them
    if _in_a_row(places):
        first = int(begin[places[0]])
        return numbers[first : first + len(places) * size].reshape(len(places), size)
    part: NDArray[Any] = numbers[begin[places][:, None] + np.arange(size)]
    return part


def _fill(numbers: NDArray[Any] | None, begin: Ints | None, places: Ints, values: NDArray[Any]) -> None:
    """Put the numbers where `_part` finds them."""
    assert numbers is not None and begin is not None  # noqa: S101, PT018 - records always have them
    if _in_a_row(places):
        _part(numbers, begin, places, values.shape[1])[...] = values
    else:
        numbers[begin[places][:, None] + np.arange(values.shape[1])] = values


def _in_a_row(places: Ints) -> bool:
    """Whether places that ascend have no others between them."""
    return int(places[-1] - places[0]) == len(places) - 1

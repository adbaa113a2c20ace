"""Events <-> the bytes that the log keeps.

A record is one byte, the version of the format (1), and a MessagePack array: the tag of the kind (1 impression,
2 feedback, 3 tick) and the fields in the order of `nearline.events.impression`. Fields may be appended to a kind
without another version: a reader of an earlier day skips them, a later one takes their defaults where they are absent.
"""

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias, final

import msgspec
from msgspec import Raw, Struct

from nearline.errors import DataError
from nearline.events.impression import Count, Event, Feedback, Impression, Tick, TimeMs

FORMAT: Final = b"\x01"
DAMAGED: Final = b"\x00"
"""What the log hands out in place of a record that it cannot read back."""


@final
class ImpressionHead(Struct, frozen=True, array_like=True, tag=1, gc=False):
    """An impression without its features and contributions, which stay bytes: what a join has to know, and cheaper.

    The fields that are not bytes are those of `Impression`.
    """

    id: str
    time_ms: TimeMs
    entities: dict[str, str] = {}
    features: Raw = Raw()
    contributions: Raw = Raw()
    offset: float = 0.0
    fixed: float = 0.0
    propensity: float | None = None
    policy: Raw = Raw()
    generation: Count = 0
    versions: Raw = Raw()
    resolves_ms: TimeMs | None = None
    weight: float = 1.0


@final
class ImpressionTemplate:
    """The records of the impressions of one request, but for what differs: see `nearline.kernels._templates`.

    The columns that go into it are id, entities and features as MessagePack, mean and variance of each effect, offset,
    fixed, propensity, and the version of each kind: fields of `Impression` in its order.

    Parameters
    ----------
    effects : that contribute.
    kinds : of entities that have a version.
    """

    def __init__(self, effects: Sequence[str], kinds: Sequence[str]) -> None:
        pair = b"\x92"
        self._begin = FORMAT + b"\x9d" + _encoder.encode(1)
        contributions = [b""]
        for effect in effects:
            contributions[-1] += _encoder.encode(effect) + pair
            contributions += [b"", b""]
        contributions[0] = map_of(len(effects)) + contributions[0]
        versions = [b""]
        for kind in kinds:
            versions[-1] += _encoder.encode(kind)
            versions.append(b"")
        versions[0] = map_of(len(kinds)) + versions[0]
        self._contributions, self._versions = contributions, versions

    def around(self, time_ms: int, policy: str, generation: int, resolves_ms: int | None) -> list[bytes]:
        """The bytes around the columns, given what all impressions have in common."""
        served_by = _encoder.encode(policy) + _encoder.encode(generation)
        first, *between = self._contributions
        begin, *versions = self._versions
        around = [
            self._begin,
            _encoder.encode(time_ms),
            b"",
            first,
            *between,
            b"",
            b"",
            served_by + begin,
            *versions,
        ]
        around[-1] += _encoder.encode(resolves_ms)
        return around


EventHead: TypeAlias = ImpressionHead | Feedback | Tick

_head_decoder: msgspec.msgpack.Decoder[EventHead] = msgspec.msgpack.Decoder(ImpressionHead | Feedback | Tick)
_UNREADABLE = msgspec.DecodeError, UnicodeDecodeError, RecursionError
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Impression | Feedback | Tick)


def encode_event(event: Event) -> bytes:
    """Return the record of an event; what is not a finite number is kept as it is.

    Raises
    ------
    DataError
        A text that UTF-8 cannot write (half a surrogate pair), or an integer beyond 64 bits.
    """
    try:
        return FORMAT + _encoder.encode(event)
    except (UnicodeEncodeError, OverflowError) as error:
        raise DataError(f"event: {error}") from error


def joined_maps(maps: Sequence[bytes]) -> bytes:
    """Return one map of MessagePack with the entries of all; the same key must not be in two of them."""
    count, entries = 0, []
    for one in maps:
        size, begin = _map_head(one)
        count += size
        entries.append(one[begin:])
    return map_of(count) + b"".join(entries)


def map_of(entries: int) -> bytes:
    """How a map of fewer than 65,536 entries begins in MessagePack."""
    return bytes([0x80 | entries]) if entries < 16 else b"\xde" + entries.to_bytes(2, "big")


def array_of(entries: int) -> bytes:
    """How an array of fewer than 65,536 entries begins likewise."""
    return bytes([0x90 | entries]) if entries < 16 else b"\xdc" + entries.to_bytes(2, "big")


def _map_head(encoded: bytes) -> tuple[int, int]:
    """How many entries a map of MessagePack has, and where they begin."""
    if encoded[0] & 0xF0 == 0x80:
        return encoded[0] & 0x0F, 1
    assert encoded[0] == 0xDE  # noqa: S101 - a map of fewer than 65,536 entries
    return int.from_bytes(encoded[1:3], "big"), 3


def encode_events(events: Iterable[Event]) -> list[bytes]:
    """Return the record of each event."""
    return [encode_event(event) for event in events]


def decode_event(record: bytes) -> Event:
    """Return the event of a record.

    Raises
    ------
    DataError
        The record is damaged or of another format; the message says how.
    """
    if record[:1] != FORMAT:
        raise DataError(_other_format(record))
    try:
        return _decoder.decode(record[1:])
    except _UNREADABLE as error:
        raise DataError(f"record: {error}") from error


def decode_head(record: bytes) -> EventHead:
    """Return the event of a record, an impression without what lies in its features and contributions.

    Whether those can be read shows only when they are: `examples_from_records` says which record cannot.

    Raises
    ------
    DataError
        The record is damaged or of another format; the message says how.
    """
    if record[:1] != FORMAT:
        raise DataError(_other_format(record))
    try:
        return _head_decoder.decode(record[1:])
    except _UNREADABLE as error:
        raise DataError(f"record: {error}") from error


def decode_heads(records: Sequence[bytes]) -> list[EventHead | DataError]:
    """Return the head of each record, or the error of one that cannot be read, in its place."""
    decode = _head_decoder.decode
    heads: list[EventHead | DataError] = []
    for record in records:
        if record[:1] == FORMAT:  # as decode_head, without a call for each
            try:
                heads.append(decode(record[1:]))
            except _UNREADABLE as error:
                heads.append(DataError(f"record: {error}"))
        else:
            heads.append(DataError(_other_format(record)))
    return heads


def decode_events(records: Sequence[bytes]) -> list[Event | DataError]:
    """Return the event of each record, or the error of one that cannot be read, in its place."""
    return [_event_or_error(record) for record in records]


def _event_or_error(record: bytes) -> Event | DataError:
    try:
        return decode_event(record)
    except DataError as error:
        return error


def _other_format(record: bytes) -> str:
    if not record:
        return "record: expected an event, got no bytes"
    if record == DAMAGED:
        return "record: damaged in the log: the checksum of its block does not match"
    return f"record: expected format {FORMAT[0]}, got {record[0]}: was it written by a later nearline?"

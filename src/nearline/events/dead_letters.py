"""Records that could not be used, with the reason: nothing is dropped in silence."""

from typing import Any, final

import msgspec
from msgspec import Struct

from nearline.errors import DataError
from nearline.events.cloudevents import write_event
from nearline.events.wire import decode_event


@final
class DeadLetter(Struct, frozen=True, array_like=True):
    """A record that could not be used.

    Attributes
    ----------
    position : where it is in the log.
    reason : why it could not be used.
    record : the bytes as they were.
    time_ms : event time when it was set aside, in milliseconds since 1970 (UTC).
    """

    position: int
    reason: str
    record: bytes
    time_ms: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(DeadLetter)


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """Return the bytes of a dead letter: a MessagePack array of its fields."""
    return _encoder.encode(letter)


def decode_dead_letter(letter: bytes) -> DeadLetter:
    """Return what `encode_dead_letter` wrote.

    Raises
    ------
    DataError
        These bytes are no dead letter.
    """
    try:
        return _decoder.decode(letter)
    except msgspec.DecodeError as error:
        raise DataError(f"dead letter: {error}") from error


def describe_letter(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter as a document: its record as an event in JSON, or in hexadecimal if it is none."""
    try:
        event = write_event(decode_event(letter.record)).decode()
    except DataError:
        event = None
    return {
        "position": letter.position,
        "time_ms": letter.time_ms,
        "reason": letter.reason,
        "event": event,
        "record_hex": letter.record.hex() if event is None else None,
    }

"""Records that could not be used, with the reason: nothing is dropped in silence."""

from typing import final

import msgspec
from msgspec import Struct

from nearline.errors import DataError


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

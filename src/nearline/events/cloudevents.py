"""CloudEvents 1.0 in JSON (structured mode) <-> events: the door through which events come in from outside.

============  ===================  ====================================================================
attribute     of                   is
============  ===================  ====================================================================
``type``      all                  ``nearline.impression``, ``nearline.feedback`` or ``nearline.tick``
``id``        all                  the idempotency key: the id of the impression or of the feedback
``source``    all                  who says so; not kept
``time``      all                  RFC 3339, or an integer: milliseconds since 1970 (UTC)
``data``      impression, feedback  the other fields by name; a contribution is ``{"mean": m, "variance": v}``
============  ===================  ====================================================================

What is not in order is refused with the path of the field. Attributes that CloudEvents allows besides are skipped,
fields of ``data`` that are not known are refused: they are typing errors.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias, final

import msgspec
from msgspec import Struct

from nearline.errors import DataError
from nearline.events.diagnosis import envelope_fault, feedback_fault, impression_fault
from nearline.events.impression import Event, Features, Feedback, Impression, Tick, require_valid

IMPRESSION: Final = "nearline.impression"
FEEDBACK: Final = "nearline.feedback"
TICK: Final = "nearline.tick"

_Type: TypeAlias = Literal["nearline.impression", "nearline.feedback", "nearline.tick"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@final
class _Envelope(Struct, frozen=True, gc=False, omit_defaults=True):
    specversion: Literal["1.0"]
    type: _Type
    source: str
    id: str
    time: int | datetime
    datacontenttype: Literal["application/json"] = "application/json"
    data: msgspec.Raw = msgspec.Raw()


@final
class _Contribution(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    mean: float
    variance: float


@final
class _ImpressionData(Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    entities: dict[str, str] = {}
    features: dict[str, Features] = {}
    contributions: dict[str, _Contribution] = {}
    offset: float = 0.0
    fixed: float = 0.0
    propensity: float | None = None
    policy: str | None = None
    generation: int = 0
    versions: dict[str, int] = {}
    resolves_ms: int | None = None
    weight: float = 1.0


@final
class _FeedbackData(Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    impression: str
    label: float
    weight: float = 1.0


_envelope = msgspec.json.Decoder(_Envelope)
_impression = msgspec.json.Decoder(_ImpressionData)
_feedback = msgspec.json.Decoder(_FeedbackData)
_encoder = msgspec.json.Encoder()
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_event(document: bytes | str, *, latest_ms: int | None = None) -> Event:
    """Return the event of a CloudEvent in JSON.

    An event later than `latest_ms` is refused; None lets any time in.

    Raises
    ------
    DataError
        It is none; the message begins with the path of the field, as in
        ``data.features.user.age: expected a finite number, got NaN``.
    """
    try:
        envelope = _envelope.decode(document)
    except _UNREADABLE as error:
        raise DataError(envelope_fault(document, str(error))) from error
    event = _read_data(envelope, _milliseconds(envelope.time))
    try:
        require_valid(event)
    except DataError as error:
        raise DataError(_outside_path(str(error))) from error
    if latest_ms is not None and event.time_ms > latest_ms:
        raise DataError(
            f"time: expected at most {_rfc3339(latest_ms)}, got {_rfc3339(event.time_ms)}: "
            "an event from the future would close the windows of all others"
        )
    return event


def read_events(lines: Iterable[bytes], *, latest_ms: int | None = None) -> Iterator[Event]:
    """Yield the event of each line, as `read_event` reads it; blank lines are skipped.

    Raises
    ------
    DataError
        A line is no event; the message begins with the number of the line, from 1.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield read_event(line, latest_ms=latest_ms)
        except DataError as error:
            raise DataError(f"line {number}: {error}") from error


def write_event(event: Event, source: str = "nearline", *, position: int | None = None) -> bytes:
    """Return an event as a CloudEvent in JSON, in one line without its end.

    A tick, and feedback without an id, get one made of what they say. With `position` the event has an attribute of
    that name: where in the log it is.

    Raises
    ------
    DataError
        A text that UTF-8 cannot write.
    """
    envelope = _to_envelope(event, source)
    try:
        return _encoder.encode(envelope if position is None else {**envelope, "position": position})
    except UnicodeEncodeError as error:
        raise DataError(f"event: {error}") from error


def _read_data(envelope: _Envelope, time_ms: int) -> Event:
    if envelope.type == IMPRESSION:
        return _read_impression(envelope, time_ms)
    if envelope.type == FEEDBACK:
        return _read_feedback(envelope, time_ms)
    return Tick(time_ms)


def _read_impression(envelope: _Envelope, time_ms: int) -> Impression:
    try:
        served = _impression.decode(envelope.data)
    except _UNREADABLE as error:
        raise DataError(impression_fault(bytes(envelope.data), str(error))) from error
    return Impression(
        envelope.id,
        time_ms,
        served.entities,
        served.features,
        {effect: (part.mean, part.variance) for effect, part in served.contributions.items()},
        served.offset,
        served.fixed,
        served.propensity,
        served.policy,
        served.generation,
        served.versions,
        served.resolves_ms,
        served.weight,
    )


def _read_feedback(envelope: _Envelope, time_ms: int) -> Feedback:
    try:
        said = _feedback.decode(envelope.data)
    except _UNREADABLE as error:
        raise DataError(feedback_fault(bytes(envelope.data), str(error))) from error
    return Feedback(said.impression, time_ms, said.label, said.weight, envelope.id)


def _to_envelope(event: Event, source: str) -> dict[str, Any]:
    if isinstance(event, Impression):
        return _envelope_of(IMPRESSION, event.id, event.time_ms, source, _impression_data(event))
    if isinstance(event, Feedback):
        name = event.id or f"{event.impression}@{event.time_ms}"
        said = _FeedbackData(event.impression, event.label, event.weight)
        return _envelope_of(FEEDBACK, name, event.time_ms, source, said)
    return _envelope_of(TICK, f"tick@{event.time_ms}", event.time_ms, source, None)


def _envelope_of(kind: str, name: str, time_ms: int, source: str, inside: Struct | None) -> dict[str, Any]:
    head = {"specversion": "1.0", "type": kind, "source": source, "id": name, "time": _rfc3339(time_ms)}
    return head if inside is None else {**head, "datacontenttype": "application/json", "data": inside}


def _impression_data(impression: Impression) -> _ImpressionData:
    return _ImpressionData(
        impression.entities,
        impression.features,
        {effect: _Contribution(*part) for effect, part in impression.contributions.items()},
        impression.offset,
        impression.fixed,
        impression.propensity,
        impression.policy,
        impression.generation,
        impression.versions,
        impression.resolves_ms,
        impression.weight,
    )


def _milliseconds(time: int | datetime) -> int:
    if isinstance(time, int):
        return time
    if time.tzinfo is None:
        raise DataError(
            "time: expected RFC 3339 with its offset from UTC, as in 2026-01-31T12:00:00Z, got none"
        )
    since = time - _EPOCH
    return since.days * 86_400_000 + since.seconds * 1_000 + since.microseconds // 1_000


def _rfc3339(time_ms: int) -> str | int:
    """The time in words; beyond what those can say, as a number."""
    try:
        seconds = datetime.fromtimestamp(time_ms // 1_000, UTC)
    except (ValueError, OverflowError, OSError):
        return time_ms
    return f"{seconds:%Y-%m-%dT%H:%M:%S}.{time_ms % 1_000:03d}Z"


def _outside_path(message: str) -> str:
    """What a fault of an event is called outside: id and time are attributes, the rest is in ``data``."""
    path = message.partition(":")[0]
    if path == "time_ms":
        return message.replace("time_ms", "time", 1)
    return message if path == "id" else f"data.{message}"

"""What was shown and what people did about it: impressions, feedback, and the log that keeps them."""

from nearline.events.cloudevents import read_event, read_events, write_event
from nearline.events.dead_letters import DeadLetter, decode_dead_letter, encode_dead_letter
from nearline.events.embedded import EmbeddedLog
from nearline.events.examples import Served, examples_from_records, to_examples
from nearline.events.impression import Event, Feedback, Impression, Tick, require_valid
from nearline.events.log import Batch, EventLog, MemoryLog
from nearline.events.partition import partition_of, partitions_of
from nearline.events.wire import (
    EventHead,
    ImpressionHead,
    decode_event,
    decode_events,
    decode_head,
    encode_event,
    encode_events,
    joined_maps,
)

__all__ = [
    "Batch",
    "DeadLetter",
    "EmbeddedLog",
    "Event",
    "EventHead",
    "EventLog",
    "Feedback",
    "Impression",
    "ImpressionHead",
    "MemoryLog",
    "Served",
    "Tick",
    "decode_dead_letter",
    "decode_event",
    "decode_events",
    "decode_head",
    "encode_dead_letter",
    "encode_event",
    "encode_events",
    "examples_from_records",
    "joined_maps",
    "partition_of",
    "partitions_of",
    "read_event",
    "read_events",
    "require_valid",
    "to_examples",
    "write_event",
]

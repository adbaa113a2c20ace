"""What was shown and what people did about it: impressions, feedback, and the log that keeps them."""

from nearline.events.dead_letters import DeadLetter, decode_dead_letter, encode_dead_letter
from nearline.events.embedded import EmbeddedLog
from nearline.events.impression import Event, Feedback, Impression, Tick, require_valid
from nearline.events.log import Batch, EventLog, MemoryLog
from nearline.events.partition import partition_of, partitions_of
from nearline.events.wire import decode_event, decode_events, encode_event, encode_events

__all__ = [
    "Batch",
    "DeadLetter",
    "EmbeddedLog",
    "Event",
    "EventLog",
    "Feedback",
    "Impression",
    "MemoryLog",
    "Tick",
    "decode_dead_letter",
    "decode_event",
    "decode_events",
    "encode_dead_letter",
    "encode_event",
    "encode_events",
    "partition_of",
    "partitions_of",
    "require_valid",
]

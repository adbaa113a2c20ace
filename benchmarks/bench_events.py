"""Events: processor time to encode, append, read and decode one, and to make it an example.

Impressions of two entities with 20 features in one bag, two contributions; 1,000 at a time.
"""

import statistics
import tempfile
from collections.abc import Callable

import numpy as np

from benchmarks.measurement import Bar, Measurement, cpu_seconds, spread
from nearline.events import (
    EmbeddedLog,
    Impression,
    decode_events,
    decode_head,
    encode_events,
    examples_from_records,
    read_event,
    to_examples,
    write_event,
)

EVENTS, FEATURES = 1_000, 20


def impressions(rng: np.random.Generator) -> list[Impression]:
    """EVENTS impressions, as a service with one schema of features would log them."""
    values = rng.normal(size=(EVENTS, FEATURES))
    return [
        Impression(
            f"impression-{row:09d}",
            1_769_860_800_000 + row,
            {"user": f"user-{rng.integers(1_000)}", "item": f"item-{rng.integers(3_000)}"},
            {"context": {f"feature-{j}": float(value) for j, value in enumerate(values[row])}},
            {"per-user": (0.25, 0.5), "per-item": (-0.25, 0.125)},
            generation=1,
        )
        for row in range(EVENTS)
    ]


def run(quick: bool = False) -> list[Measurement]:
    """All figures of this module."""
    rounds = 5 if quick else 25
    shown = impressions(np.random.default_rng(1))
    records = encode_events(shown)
    lines = [write_event(event) for event in shown]
    labels = np.zeros(EVENTS)
    with tempfile.TemporaryDirectory() as folder, EmbeddedLog(folder) as log:
        log.append(records)
        works: dict[str, tuple[Callable[[], object], float | None]] = {
            "through the door (JSON)": (lambda: [read_event(line) for line in lines], None),
            "encode": (lambda: encode_events(shown), None),
            "append, durable": (lambda: log.append(records), 1.5),
            "read": (lambda: log.read(0, EVENTS), None),
            "decode the head": (lambda: [decode_head(record) for record in records], None),
            "decode": (lambda: decode_events(records), 3.0),
            "record to example": (lambda: examples_from_records(records, labels), 6.0),
            "impression to example, in Python": (lambda: to_examples(shown, labels), None),
        }
        return [measure(name, work, limit, rounds) for name, (work, limit) in works.items()]


def measure(name: str, work: Callable[[], object], limit: float | None, rounds: int) -> Measurement:
    """Median over the rounds of the time an event takes."""
    work()
    seconds = [cpu_seconds(work) for _ in range(rounds)]
    bar = None if limit is None else Bar(limit, "at most")
    value = statistics.median(seconds) / EVENTS * 1e6
    return Measurement(
        f"events: {name}",
        value,
        "us",
        bar,
        f"a record of 20 features, {EVENTS:,} at a time",
        spread=spread(seconds),
    )


if __name__ == "__main__":
    for found in run():
        print(f"{found.name}: {found.value:.2f} {found.unit}")

"""Memory and disk of a worker over five million events: python -m benchmarks.run --only memory.

NEARLINE_STREAM_EVENTS sets another number of events.
"""

import os

from benchmarks.measurement import Bar, Measurement
from benchmarks.shown_pairs import source
from benchmarks.whole_path import AT_FEEDBACK, PART, through_the_path


def run(quick: bool = False) -> list[Measurement]:
    """Growth of memory and disk; what is joined and learned is removed after a while."""
    count = int(os.environ.get("NEARLINE_STREAM_EVENTS", "200000" if quick else "5000000"))
    passage = through_the_path(count, AT_FEEDBACK)
    fifth = len(passage.resident) // 5 - 1
    for i in range(fifth, len(passage.resident), fifth + 1):
        mega = passage.resident[i] / 2**20, passage.disk[i] / 2**20
        print(f"after {PART * (i + 1):>9,} events: resident {mega[0]:.0f} MiB, on disk {mega[1]:.0f} MiB")
    return [
        Measurement(
            f"stream: {what}, growth from 20 % to 100 % of {count:,} events",
            100.0 * (values[-1] / values[fifth] - 1.0),
            "%",
            Bar(5.0, "at most") if what == "memory" and not quick else None,
            baseline=source(),
            ours=f"{values[-1] / 2**20:.0f} MiB, {values[fifth] / 2**20:.0f} MiB before",
        )
        for what, values in (("memory", passage.resident), ("disk", passage.disk))
    ]


if __name__ == "__main__":
    for line in run(quick=True):
        print(line)

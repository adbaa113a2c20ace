"""Ten minutes of requests: python -m benchmarks.run --only serving.

Memory is what the server has of its own: pages of the log and of the store that it has mapped come and go with the
system's file cache.
"""

import json
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmarks.load import write_requests
from benchmarks.measurement import Bar, Measurement
from benchmarks.serving import deploy
from benchmarks.under_load import begun_load, by_id, own_memory, started
from nearline.events import EmbeddedLog, Impression, decode_events

RATE = 300
SHOWN = 10
EVERY_S = 2.0


def run(quick: bool = False) -> list[Measurement]:
    """Growth of memory, errors, and impressions that are not in the log."""
    users, items, seconds = (9_000, 1_000, 10.0) if quick else (90_000, 10_000, 600.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        deploy(folder, users=users, items=items)
        rng = np.random.default_rng(4)
        write_requests(folder / "requests", [by_id(rng, users, items) for _ in range(5_000)])
        server, port = started(folder)
        try:
            asking = begun_load(port, folder / "requests", seconds=seconds, rate=RATE)
            memory: list[int] = []
            said = None
            while said is None:
                memory.append(own_memory(server.pid))
                with suppress(subprocess.TimeoutExpired):
                    said, _ = asking.communicate(timeout=EVERY_S)
            found = json.loads(said)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
        logged = _logged(folder / "stream" / "log")
    fifth = len(memory) // 5
    what = f"serving, {seconds:g} s of {RATE} requests/s"
    failed = sum(count for status, count in found["statuses"].items() if status != "200") + found["lost"]
    return [
        Measurement(f"{what}: answered", found["answered"], "requests"),
        Measurement(f"{what}: p99", found["p99"], "ms"),
        Measurement(f"{what}: errors and lost connections", failed, "", Bar(0.0, "at most")),
        Measurement(
            f"{what}: impressions given out that are not in the log",
            max(0, SHOWN * found["answered"] - logged),
            "",
            Bar(0.0, "at most"),
            ours=f"{logged:,} in the log",
        ),
        Measurement(
            f"{what}: memory, growth from 20 % of the time to its end",
            100.0 * (memory[-1] / memory[fifth] - 1.0),
            "%",
            None if quick else Bar(5.0, "at most"),
            ours=f"{memory[-1] / 2**20:.0f} MiB, {memory[fifth] / 2**20:.0f} MiB before",
        ),
    ]


def _logged(folder: Path) -> int:
    """How many distinct impressions there are in the log."""
    found, position = set[str](), 0
    with EmbeddedLog(folder) as log:
        while position < log.end():
            records = log.read(position, 50_000).records
            found.update(one.id for one in decode_events(records) if isinstance(one, Impression))
            position += len(records)
    return len(found)


if __name__ == "__main__":
    for one in run(quick="--quick" in sys.argv):
        sys.stdout.write(f"{one}\n")

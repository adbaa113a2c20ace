"""Serving: one server process on one core, under an open load from another process.

A request has 100 candidates of 50 features; the store has 100,000 entities; what is shown (10 each) is in the log
before it is answered. The requests come at a fixed rate whether or not the server keeps up (`benchmarks.load`). The
policy is the default, greedy; Thompson sampling, whose propensities are counted in 200 further draws, has a figure of
its own.
"""

import signal
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.load import write_requests
from benchmarks.measurement import Bar, Measurement
from benchmarks.serving import deploy
from benchmarks.under_load import by_id, cpu_seconds, load, named, started, tensor


def run(quick: bool = False) -> list[Measurement]:
    """All figures of this module."""
    users, items = (9_000, 1_000) if quick else (90_000, 10_000)
    seconds = 3.0 if quick else 10.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        deploy(folder, users=users, items=items)
        server, port = started(folder)
        try:
            found = _served(folder, port, server.pid, users, items, seconds)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
        return found


def _served(folder: Path, port: int, pid: int, users: int, items: int, seconds: float) -> list[Measurement]:
    rng = np.random.default_rng(2)
    found = []
    for name, rate, least, make in (
        ("named features", 300, None, named),
        ("by id", 1_500, 3_000, by_id),
        ("one binary tensor", 1_500, 3_000, tensor),
    ):
        file = folder / "requests"
        write_requests(file, [make(rng, users, items) for _ in range(100 if make is named else 1_000)])
        load(port, file, seconds=1.0)  # what is asked for often is in memory
        most = load(port, file, seconds=seconds)
        bar = None if least is None else Bar(least)
        found.append(Measurement(f"{name}: at saturation", most["per_second"], "requests/s", bar))
        found += _at_rate(f"{name}, {rate} requests/s", port, pid, file, seconds, rate, Bar(20.0, "at most"))
        half = most["per_second"] / 2
        found += _at_rate(f"{name}, at half of saturation", port, pid, file, seconds, half, None)
    file = folder / "requests"
    write_requests(file, [by_id(rng, users, items, policy="thompson") for _ in range(100)])
    thompson = load(port, file, seconds=seconds / 2)
    return [
        *found,
        Measurement("by id, Thompson sampling: at saturation", thompson["per_second"], "requests/s"),
    ]


def _at_rate(
    what: str, port: int, pid: int, file: Path, seconds: float, rate: float, bar: Bar | None
) -> list[Measurement]:
    before, at_rate = cpu_seconds(pid), load(port, file, seconds=seconds, rate=rate)
    cpu_us = (cpu_seconds(pid) - before) / at_rate["answered"] * 1e6
    return [
        Measurement(f"{what}: p50", at_rate["p50"], "ms"),
        Measurement(f"{what}: p99", at_rate["p99"], "ms", bar),
        Measurement(f"{what}: p99.9", at_rate["p99.9"], "ms"),
        Measurement(f"{what}: processor time a request", cpu_us, "us"),
        Measurement(f"{what}: the load generator's share of its core", at_rate["busy"], ""),
    ]


if __name__ == "__main__":
    for one in run(quick="--quick" in sys.argv):
        sys.stdout.write(f"{one}\n")

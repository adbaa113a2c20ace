"""The ragged batch on one thread and on two, by wall time, and with each instruction set, by CPU time.

Wall time shows a speed-up only where a second core is idle; the beliefs must be bitwise the same either
way.
"""

import statistics
import time

import numpy as np

from benchmarks.measurement import Measurement, interleave, microseconds, spread
from benchmarks.problems import Stream, dense_stream
from nearline.kernels import _posterior


def run(quick: bool = False) -> list[Measurement]:
    """All figures of this module."""
    entities = 2_000 if quick else 20_000
    rng = np.random.default_rng(20)
    stream = dense_stream(rng, rng.geometric(1.0 / 20.0, entities), 32)
    rounds = 3 if quick else 9
    return [two_threads(stream, rounds), *instruction_sets(stream, rounds)]


def two_threads(stream: Stream, rounds: int) -> Measurement:
    """Wall time on one thread over wall time on two, the two taking turns."""
    one, two = stream.learn(threads=1), stream.learn(threads=2)
    assert np.array_equal(one.mean, two.mean)
    assert np.array_equal(one.precision, two.precision)
    ratios, cpu = [], []
    for _ in range(rounds):
        single, double = wall_and_cpu(stream, 1), wall_and_cpu(stream, 2)
        ratios.append(single[0] / double[0])
        cpu.append(double[1] / single[1])
    return Measurement(
        f"ragged batch of {stream.rows.entities:,} entities, d=32: two threads over one",
        statistics.median(ratios),
        "x",
        None,
        f"wall time; best round {max(ratios):.2f}; CPU time {statistics.median(cpu):.2f} times that on one",
        spread=spread(ratios),
    )


def wall_and_cpu(stream: Stream, threads: int) -> tuple[float, float]:
    """Seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    stream.learn(threads=threads)
    return time.perf_counter() - wall, time.process_time() - cpu


def instruction_sets(stream: Stream, rounds: int) -> list[Measurement]:
    """CPU time per entity with each instruction set this machine has."""
    usual = _posterior.instruction_set()

    def learn_with(name: str) -> None:
        _posterior.use_instruction_set(name)
        stream.learn()

    names = list(_posterior.available_instruction_sets())
    try:
        seconds = interleave({name: lambda name=name: learn_with(name) for name in names}, rounds)  # type: ignore[misc]
    finally:
        _posterior.use_instruction_set(usual)
    found = []
    for name in names:
        each = [s / stream.rows.entities for s in seconds[name]]
        found.append(
            Measurement(
                f"ragged batch, d=32, one thread, instruction set {name}",
                statistics.median(each) * 1e6,
                "us",
                ours=microseconds(each),
                spread=spread(each),
            )
        )
    return found

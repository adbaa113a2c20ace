"""A million entities of 16 coefficients and 20 rows each, learned in one call: time and peak memory.

Precisions are full. The 20 million rows of float32 features are drawn a slice at a time, so that
drawing them stays below the peak of learning from them; the peak is that of the whole process with the
data in it. CPU and wall time are of the call alone, on two threads.
"""

import resource
import sys
import time

import numpy as np

from benchmarks.measurement import Bar, Measurement
from nearline.posterior import FeatureRows, Gaussian, Outcome, group_rows, update_many
from nearline.posterior.blocks import share, whole_layout
from nearline.posterior.evidence import extract_evidence
from nearline.posterior.update import Labels, Status

ROWS, COLUMNS, THREADS, SLICE = 20, 16, 2, 10_000


def run(quick: bool = False) -> list[Measurement]:
    """All figures of this module; the peak is of this process, so run it in a fresh one."""
    entities = 100_000 if quick else 1_000_000
    rows, labels = draw(entities)
    before = peak_gib()
    prior = Gaussian(np.zeros(COLUMNS), np.eye(COLUMNS) / 4.0)
    wall, cpu = time.perf_counter(), time.process_time()
    update = update_many(rows, labels, share(prior), Outcome.BERNOULLI, threads=THREADS)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    learned, steps = update.report.count(Status.LEARNED), float(np.mean(update.report.steps))
    assert learned == entities
    after_learning = peak_gib()
    extract_wall, extract_cpu = time.perf_counter(), time.process_time()
    extract_evidence(update.beliefs, prior, whole_layout_of(entities), threads=THREADS)
    extract_wall, extract_cpu = time.perf_counter() - extract_wall, time.process_time() - extract_cpu
    what = f"{entities:,} entities, d={COLUMNS}, {ROWS} rows each"
    return [
        Measurement(
            f"{what}: peak memory, data included",
            after_learning,
            "GiB",
            None if quick else Bar(6.0, "at most"),
            f"{before:.2f} GiB of it before learning",
        ),
        Measurement(
            f"{what}: wall time on {THREADS} threads", wall, "s", None, f"{steps:.1f} Newton steps on average"
        ),
        Measurement(f"{what}: CPU time", cpu, "s"),
        Measurement(f"{what}: rows learned a second of CPU", entities * ROWS / cpu, "rows/s"),
        Measurement(
            f"{what}: wall time to evidence form", extract_wall, "s", None, f"{extract_cpu:.2f} s of CPU"
        ),
        Measurement(f"{what}: peak memory, evidence included", peak_gib(), "GiB"),
    ]


def draw(entities: int) -> tuple[FeatureRows, Labels]:
    """Rows in the order of the entities: coefficients N(0, 4), features N(0, 1) / sqrt(d)."""
    rng = np.random.default_rng(1)
    x = np.empty((entities * ROWS, COLUMNS), np.float32)
    y = np.empty(entities * ROWS)
    for first in range(0, entities, SLICE):
        count = min(SLICE, entities - first)
        here = slice(first * ROWS, (first + count) * ROWS)
        theta = rng.normal(0.0, 2.0, (count, 1, COLUMNS)).astype(np.float32)
        rng.standard_normal(out=x[here], dtype=np.float32)
        x[here] /= np.float32(np.sqrt(COLUMNS))
        eta = (x[here].reshape(count, ROWS, COLUMNS) * theta).sum(axis=2).ravel()
        y[here] = rng.random(len(eta)) < 1.0 / (1.0 + np.exp(-eta))
    entity = np.repeat(np.arange(entities, dtype=np.int32), ROWS)
    return group_rows(x, entity, entities), Labels(y)


def whole_layout_of(entities: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], None]:
    """Every column for every entity."""
    return whole_layout(entities, COLUMNS), None


def peak_gib() -> float:
    """Largest resident size of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30

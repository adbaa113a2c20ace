"""Time per feature of the vocabulary kernel against a Python dict keyed by (name, term) tuples."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline.arrays import ArrowArray
from nearline.kernels._vocabulary import Vocabulary
from nearline.model.strings import string_column

RECORDS, FEATURES, KEYS, REPEATS = 100_000, 20, 200_000, 5


def draw_features(rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Return names and terms of RECORDS x FEATURES features, drawn evenly from KEYS (name, term) pairs."""
    drawn = rng.integers(0, KEYS, RECORDS * FEATURES)
    names = [f"feature_name_{i % 50}" for i in range(KEYS)]
    terms = [f"term{i // 50:06d}" for i in range(KEYS)]
    return [names[i] for i in drawn], [terms[i] for i in drawn]


def index_by_dict(names: list[str], terms: list[str]) -> list[int]:
    index: dict[tuple[str, str], int] = {}
    columns = []
    for key in zip(names, terms, strict=True):
        column = index.get(key)
        if column is None:
            column = index[key] = len(index)
        columns.append(column)
    return columns


def index_by_kernel(names: ArrowArray, terms: ArrowArray) -> NDArray[np.int32]:
    return Vocabulary().lookup([string_column(names), string_column(terms)], add=True)


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def row(name: str, value: float, unit: str, bar: float | None, baseline: float) -> dict[str, object]:
    return {"name": f"vocabulary: {name}", "value": value, "unit": unit, "bar": bar, "baseline": baseline}


def run() -> list[dict[str, object]]:
    """Return rows of name, value, unit, bar, baseline: medians of interleaved repetitions of CPU time."""
    names, terms = draw_features(np.random.default_rng(0))
    arrow_names, arrow_terms = pa.array(names), pa.array(terms)
    assert index_by_dict(names, terms) == index_by_kernel(arrow_names, arrow_terms).tolist()
    kernel, python = [], []
    for _ in range(REPEATS):
        python.append(seconds(lambda: index_by_dict(names, terms)))
        kernel.append(seconds(lambda: index_by_kernel(arrow_names, arrow_terms)))
    per_feature = 1e9 / (RECORDS * FEATURES)
    ours, theirs = statistics.median(kernel) * per_feature, statistics.median(python) * per_feature
    return [
        row("time per feature", ours, "ns", None, theirs),
        row("times faster than a dict", theirs / ours, "x", 4.0, 1.0),
    ]


if __name__ == "__main__":
    for line in run():
        print(line)

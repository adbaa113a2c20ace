"""Records made up for tests, and how to compare them."""

from zlib import crc32

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nearline.posterior.blocks import Blocks, packed_starts
from nearline.store.records import Records

NUMBERS = ("version", "position", "as_of_ms", "rows")
whole = st.integers(0, 2**63 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
single = st.floats(allow_nan=False, allow_infinity=False, width=32)


def place(effect: str, entity: str, partitions: int) -> int:
    """A partition for each entity; any function of both will do."""
    return crc32(f"{effect}\0{entity}".encode()) % partitions


def places(effect: str, entities, partitions: int):
    """The same for many, as a store asks for it."""
    return np.array([place(effect, entity, partitions) for entity in entities], dtype=np.int32)


def blocks(sizes, *, full: bool = True, seed: int = 0) -> Blocks:
    """Evidence of entities with so many columns each."""
    rng = np.random.default_rng(seed)
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    column = np.concatenate([np.zeros(0), *(np.sort(rng.choice(1000, d, replace=False)) for d in sizes)])
    numbers = packed_starts(start) if full else start
    return Blocks(
        start,
        rng.normal(size=int(start[-1])),
        rng.normal(size=int(numbers[-1])),
        column.astype(np.int32),
        numbers if full else None,
        full,
    )


def records(sizes, *, full: bool = True, version: int = 1, seed: int = 0) -> Records:
    """Records of entities with so many columns each, all of one version."""
    rng = np.random.default_rng(seed + 1)
    n = len(sizes)
    position, as_of_ms, rows = rng.integers(1, 2**40, size=(3, n))
    return Records(np.full(n, version), position, as_of_ms, rows, blocks(sizes, full=full, seed=seed))


@st.composite
def any_records(draw, *, full: bool, numbers=finite):
    """Records of any content that may be written."""
    sizes = draw(st.lists(st.integers(0, 6), max_size=8))
    made = blocks(sizes, full=full)
    fill = arrays.arrays(np.float64, len(made.precision), elements=numbers)
    shift = arrays.arrays(np.float64, len(made.mean), elements=finite)
    evidence = Blocks(made.start, draw(shift), draw(fill), made.column, made.packed_start, full)
    counts = arrays.arrays(np.int64, len(sizes), elements=whole)
    return Records(np.maximum(draw(counts), 1), draw(counts), draw(counts), draw(counts), evidence)


def assert_same(one: Records, other: Records) -> None:
    """Bit for bit the same records."""
    for name in NUMBERS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    mine, theirs = one.evidence, other.evidence
    assert mine.full is theirs.full
    for name in ("start", "column", "mean", "precision"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
        assert getattr(mine, name).dtype == getattr(theirs, name).dtype
    if mine.full:
        np.testing.assert_array_equal(mine.packed_start, theirs.packed_start)

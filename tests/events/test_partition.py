"""Which partition owns an entity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline.events import partition
from nearline.events.partition import partition_of, partitions_of

VECTORS = [
    ("per-user", "u1", 3201904063),
    ("per-user", "u2", 667974661),
    ("per-item", "u1", 198749300),
    ("per-user", "", 1439292476),
    ("", "u1", 4241970331),
    ("per-user", "Zoë", 1492844571),
    ("per-user", "用户-1", 1148587154),
]


@pytest.mark.parametrize(("effect", "entity", "crc"), VECTORS)
def test_the_partitions_of_these_entities_never_change(effect, entity, crc):
    assert partition_of(effect, entity, 2**32) == crc
    for partitions in (1, 4, 7):
        assert partition_of(effect, entity, partitions) == crc % partitions


def test_the_documented_vectors_are_these():
    for effect, entity, crc in VECTORS:
        if effect and entity:
            row = [effect, entity, str(crc), str(crc % 4), str(crc % 7)]
            assert row in [line.split() for line in partition.__doc__.splitlines()]


@given(
    st.text(max_size=8), st.lists(st.text(st.characters(exclude_categories=("Cs",)))), st.integers(1, 70_000)
)
def test_many_at_once_are_each_by_itself_and_in_range(effect, entities, partitions):
    found = partitions_of(effect, entities, partitions)
    assert found.dtype == np.int32
    assert found.tolist() == [partition_of(effect, entity, partitions) for entity in entities]
    assert all(0 <= at < partitions for at in found)


def test_entities_spread_evenly():
    names = [f"user-{i}" for i in range(40_000)]
    counts = np.bincount(partitions_of("per-user", names, 8))
    assert counts.min() > 4_800
    assert counts.max() < 5_200


def test_no_partitions_own_nothing():
    with pytest.raises(ValueError, match="partitions: expected 1 or more, got 0"):
        partition_of("per-user", "u1", 0)

"""The number by which readers see that a partition has another commit."""

import subprocess
import sys

import pytest
from stored import place, places, records

from nearline.store.embedded import EmbeddedStore

OTHER = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from stored import places
from test_stamp import write
from nearline.store.embedded import EmbeddedStore
store = EmbeddedStore(Path(sys.argv[1]), places)
write(store, 1, 0, version=2)
store.switch(1, force=True)
store.close()
"""


@pytest.fixture
def number(new_store, model):
    store = new_store(partitions=2)
    return store, store.create(model, created_ms=5).number


def of(partition):
    return next(f"e{i}" for i in range(1_000) if place("per-user", f"e{i}", 2) == partition)


def write(store, number, partition, version=1):
    with store.writing(number, partition) as txn:
        txn.put_many("per-user", [of(partition)], records([2], version=version))


def test_a_stamp_changes_with_each_commit_to_its_partition_and_with_no_other(number):
    store, generation = number
    seen = [store.stamp(generation, 0)]
    write(store, generation, 0)
    seen.append(store.stamp(generation, 0))
    write(store, generation, 1)
    store.get_many(generation, "per-user", [of(0)])
    assert store.stamp(generation, 0) == seen[-1]
    write(store, generation, 0, version=2)
    seen.append(store.stamp(generation, 0))
    assert len(set(seen)) == 3


def test_what_another_has_written_changes_the_stamp_and_the_live_generation(tmp_path, model):
    one = EmbeddedStore(tmp_path / "s", places, partitions=2)
    generation = one.create(model, created_ms=5).number
    write(one, generation, 0)
    assert one.live() is None
    before = one.stamp(generation, 0)
    here = [str(tmp_path / "s"), *sys.path]
    subprocess.run([sys.executable, "-c", OTHER, *here], check=True)  # noqa: S603
    assert one.stamp(generation, 0) != before
    assert one.live() == generation
    one.close()

"""Processes that write to a store and read from it, and what their readers may see."""

import os
import signal
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from stored import places

from nearline.posterior.blocks import Blocks, packed_starts
from nearline.store.embedded import EmbeddedStore
from nearline.store.records import Records

USER = "per-user"
NAMES = [f"e{i}" for i in range(200)]
COLUMNS = 8
SPAWN = get_context("spawn")


def opened(folder: Path, **how) -> EmbeddedStore:
    return EmbeddedStore(folder, places, **how)


def of_version(version: int, names=NAMES) -> Records:
    """Records every number of which says which version it is."""
    n, every = len(names), np.full(len(names), version, dtype=np.int64)
    start = np.arange(n + 1, dtype=np.int64) * COLUMNS
    packed = packed_starts(start)
    column = np.tile(np.arange(COLUMNS, dtype=np.int32), n)
    shift, precision = np.full(int(start[-1]), float(version)), np.full(int(packed[-1]), float(version))
    return Records(every, every, every, every, Blocks(start, shift, precision, column, packed))


def version_seen(store: EmbeddedStore, number: int, names=NAMES) -> int:
    """The one version that all records are of; fails if they are a mixture."""
    read = store.get_many(number, USER, names)
    version = int(read.version[0])
    assert set(read.version.tolist()) == {version}
    assert set(read.position.tolist()) == {version}
    assert set(read.evidence.mean.tolist()) | set(read.evidence.precision.tolist()) <= {float(version)}
    return version


def write_version(store: EmbeddedStore, number: int, version: int) -> None:
    with store.writing(number, 0) as txn:
        assert txn.get_state(b"position") == (str(version - 1).encode() if version > 1 else None)
        txn.put_many(USER, NAMES, of_version(version))
        txn.put_state(b"position", str(version).encode())


def write_on(folder: Path, number: int, until: int, said) -> None:
    """Write version after version, and say which ones are committed."""
    store = opened(folder)
    for version in range(version_seen(store, number) + 1, until + 1):
        write_version(store, number, version)
        said.send(version)
    store.close()


def read_on(folder: Path, until: int, said) -> None:
    """Read whatever is live until version `until` of generation 2 is seen; say how many versions there were."""
    store = opened(folder)
    said.send("ready")
    seen: list[tuple[int, int]] = []
    while not seen or seen[-1] != (2, until):
        number = store.live()
        assert number is not None
        version = version_seen(store, number)
        if not seen or seen[-1] != (number, version):
            seen.append((number, version))
    assert seen == sorted(seen)
    said.send(len(seen))
    store.close()


def read_once(folder: Path, number: int, asked, said) -> None:
    """Open and read, then read again when asked to."""
    store = opened(folder, map_bytes=1 << 18)
    said.send(version_seen(store, number))
    asked.recv()
    said.send(version_seen(store, number))
    store.close()


class Deadly(dict[bytes, bytes | None]):
    """State that kills the process when it is about to be written."""

    def items(self):
        os.kill(os.getpid(), signal.SIGKILL)
        return super().items()


def die_inside(folder: Path, number: int) -> None:
    """Write the next version and be killed in the middle of its transaction, records already put."""
    store = opened(folder)
    with store.writing(number, 0) as txn:
        txn.put_many(USER, NAMES, of_version(version_seen(store, number) + 1))
        txn._state = Deadly({b"position": b"x"})


def die_between(folder: Path, number: int) -> None:
    """What must not be done: records in one transaction, the position in the next, and death in between."""
    store = opened(folder)
    with store.writing(number, 0) as txn:
        txn.put_many(USER, NAMES, of_version(version_seen(store, number) + 1))
    with store.writing(number, 0) as txn:
        txn._state = Deadly({b"position": b"x"})

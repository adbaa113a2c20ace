"""(effect, entity) -> the partition that owns it.

The partition is the CRC-32 (that of zlib, gzip and PNG) of the effect's name, a zero byte and the entity's name, in
UTF-8, modulo the number of partitions. It is never negative, and the same in every process and language::

    effect    entity   CRC-32       of 4   of 7
    per-user  u1       3201904063   3      1
    per-user  u2       667974661    1      4
    per-item  u1       198749300    0      1
    per-user  Zoë      1492844571   3      1
    per-user  用户-1   1148587154   2      1
"""

import zlib
from collections.abc import Sequence

import numpy as np

from nearline.arrays import Columns


def partition_of(effect: str, entity: str, partitions: int) -> int:
    """Return the partition, 0 to `partitions` - 1, of an entity of an effect.

    Raises
    ------
    ValueError
        `partitions` is not positive.
    """
    _require_some(partitions)
    return zlib.crc32(f"{effect}\0{entity}".encode()) % partitions


def partitions_of(effect: str, entities: Sequence[str], partitions: int) -> Columns:
    """Return the partition of each entity of an effect, int32[n]."""
    _require_some(partitions)
    if partitions == 1:
        return np.zeros(len(entities), dtype=np.int32)
    begun = zlib.crc32(f"{effect}\0".encode())
    hashes = [zlib.crc32(entity.encode(), begun) for entity in entities]
    return (np.array(hashes, dtype=np.uint32) % np.uint32(partitions)).astype(np.int32)


def _require_some(partitions: int) -> None:
    if partitions < 1:
        raise ValueError(f"partitions: expected 1 or more, got {partitions}")

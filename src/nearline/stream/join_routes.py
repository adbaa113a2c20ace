"""Impressions to the partitions that own one of their entities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, final
from zlib import crc32

from nearline.events.impression import Impression
from nearline.events.wire import ImpressionHead

Showing: TypeAlias = Impression | ImpressionHead
"""An impression; its features and contributions are not looked at, so they need not be decoded."""


@final
@dataclass(frozen=True, slots=True)
class Route:
    """An impression to the partitions it goes to, ascending.

    Attributes
    ----------
    owners : kind of entity, and the CRC-32 that `partition_of` begins with, of each random effect. None: every
        impression goes to partition 0.
    partitions : how many there are.
    """

    owners: tuple[tuple[str, int], ...] | None = None
    partitions: int = 1

    def __call__(self, impression: Showing) -> tuple[int, ...]:
        """The partitions of one impression."""
        if self.owners is None:
            return (0,)
        entities = impression.entities
        found = {
            crc32(entities[kind].encode(), begun) % self.partitions
            for kind, begun in self.owners
            if kind in entities
        }
        return tuple(sorted(found))


def route_by_entity(effects: Mapping[str, str], partitions: int) -> Route:
    """Return what sends an impression to each partition that owns one of its entities.

    `effects`: random effect to its kind of entity. An impression without any of them goes to no partition.
    """
    return Route(tuple((kind, crc32(f"{effect}\0".encode())) for effect, kind in effects.items()), partitions)

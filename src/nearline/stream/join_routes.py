"""Impressions to the partitions that own one of their entities."""

from collections.abc import Callable, Mapping
from typing import TypeAlias
from zlib import crc32

from nearline.events.impression import Impression
from nearline.events.wire import ImpressionHead

Showing: TypeAlias = Impression | ImpressionHead
"""An impression; its features and contributions are not looked at, so they need not be decoded."""
Route: TypeAlias = Callable[[Showing], tuple[int, ...]]
"""An impression to the partitions it goes to, ascending."""


def route_by_entity(effects: Mapping[str, str], partitions: int) -> Route:
    """Return what sends an impression to each partition that owns one of its entities.

    `effects`: random effect to its kind of entity. An impression without any of them goes to no partition.
    """
    owners_of = tuple((_owner_of(effect, partitions), kind) for effect, kind in effects.items())
    if partitions == 1:
        kinds = frozenset(effects.values())
        return lambda impression: () if kinds.isdisjoint(impression.entities) else (0,)

    def route(impression: Showing) -> tuple[int, ...]:
        entities = impression.entities
        owners = {owner_of(entities[kind]) for owner_of, kind in owners_of if kind in entities}
        return tuple(owners) if len(owners) < 2 else tuple(sorted(owners))

    return route


def _owner_of(effect: str, partitions: int) -> Callable[[str], int]:
    """`partition_of` for one effect: the sum over its name is made once."""
    begun = crc32(f"{effect}\0".encode())

    def owner_of(entity: str) -> int:
        return crc32(entity.encode(), begun) % partitions

    return owner_of

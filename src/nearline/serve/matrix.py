"""Candidates whose features are in arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import final

import msgspec
import numpy as np

from nearline.arrays import Floats
from nearline.events.wire import array_of, map_of
from nearline.kernels._templates import message_pack_rows
from nearline.serve.layout import FeaturesOfBag, list_keys

_encode = msgspec.msgpack.Encoder().encode


@final
@dataclass(frozen=True, slots=True, eq=False)
class CandidateMatrix:
    """Candidates of a request, instead of a list of them.

    Attributes
    ----------
    ids : of the C candidates.
    features : bag to float64[C, m].
    keys : bag to the names of its m features; a bag without has features "0", "1", ...
    """

    ids: Sequence[str]
    features: Mapping[str, Floats]
    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def keys_of(self, bag: str) -> Sequence[str]:
        """The names of the features of a bag."""
        if bag in self.keys:
            return self.keys[bag]
        values = self.features[bag]
        return list_keys([0.0] * values.shape[1]) if values.ndim == 2 else []

    def encoded(self, places: Sequence[int]) -> list[bytes]:
        """The features of candidates, bag to features as events have them, in MessagePack."""
        head = map_of(len(self.features))
        if len(self.features) == 1:
            ((bag, _),) = self.features.items()
            return self._rows(bag, places, head + _encode(bag))
        bags = [self._rows(bag, places, _encode(bag)) for bag in self.features]
        return [b"".join((head, *rows)) for rows in zip(*bags, strict=True)] if bags else [head] * len(places)

    def row(self, bag: str, place: int) -> FeaturesOfBag:
        """The features of one candidate, as an event has them."""
        row: list[float] = self.features[bag][place].tolist()
        return dict(zip(self.keys[bag], row, strict=True)) if bag in self.keys else row

    def _rows(self, bag: str, places: Sequence[int], begin: bytes) -> list[bytes]:
        """The features of candidates in one bag, after what is to be before them."""
        values = np.ascontiguousarray(self.features[bag].take(places, axis=0), np.float64)
        if values.shape[1] == 0:
            return [begin + _encode(self.row(bag, place)) for place in places]
        return message_pack_rows(_template(begin, tuple(self.keys.get(bag, ())), values.shape[1]), [values])


@lru_cache(64)
def _template(begin: bytes, keys: tuple[str, ...], columns: int) -> list[bytes]:
    """The bytes around the values of a row: of a map with these keys, or of a list where there are none."""
    if not keys:
        return [begin + array_of(columns), *[b""] * columns]
    first, *others = map(_encode, keys)
    return [begin + map_of(columns) + first, *others, b""]

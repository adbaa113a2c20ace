"""What is shown -> records of impressions: everything that is learned from them, as served."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import final

import msgspec
from msgspec import Raw, Struct

from nearline.arrays import Floats
from nearline.events.wire import ImpressionTemplate, joined_maps
from nearline.kernels._templates import message_pack_rows
from nearline.serve.asked import Asked
from nearline.serve.explained import Explained
from nearline.serve.request import Features

_encode = msgspec.msgpack.Encoder().encode


@final
class Shown(Struct, frozen=True):
    """What all impressions of a request have in common.

    `places` are those of the shown candidates in the request. An impression is called by the request's id and that
    place, so that a request asked again shows what the log takes for duplicates.
    """

    request: str
    time_ms: int
    resolves_ms: int | None
    policy: str
    generation: int
    places: Sequence[int]

    def impressions(self) -> list[str]:
        """The id of the impression of each."""
        return [f"{self.request}/{place}" for place in self.places]


def encode_shown(
    shown: Shown, about: Asked, parts: Explained, features: Features, propensities: Floats
) -> list[bytes]:
    """The record of each impression; `features` are those that all candidates share."""
    shared = {bag: Raw(_encode(one)) for bag, one in features.items()}
    made = _template(tuple(name for name, _, _ in parts.effects), tuple(kind for kind, _ in parts.versions))
    fixed = made.around(shown.time_ms, shown.policy, shown.generation, shown.resolves_ms)
    return message_pack_rows(
        fixed,
        [
            shown.impressions(),
            [_encode(one) for one in about.entities_of(shown.places)],
            [_encode(_together(shared, own)) for own in about.encode(shown.places)],
            *(column for _, mean, variance in parts.effects for column in (mean, variance)),
            parts.offset,
            parts.fixed,
            propensities,
            *(versions for _, versions in parts.versions),
        ],
    )


_template = lru_cache(64)(ImpressionTemplate)


def _together(shared: Mapping[str, Raw], own: Mapping[str, Raw]) -> dict[str, Raw]:
    """Bag to features as MessagePack; a bag of which there are features in both has those of both."""
    bags = {**shared, **own}
    if shared.keys().isdisjoint(own):
        return bags
    for bag in shared.keys() & own.keys():
        bags[bag] = Raw(joined_maps((bytes(shared[bag]), bytes(own[bag]))))
    return bags

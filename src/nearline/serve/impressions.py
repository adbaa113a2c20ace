"""What is shown -> records of impressions: everything that is learned from them, as served."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import final

import msgspec
from msgspec import Raw, Struct

from nearline.arrays import Floats
from nearline.events.wire import ImpressionTemplate, joined_maps
from nearline.kernels._templates import joined_maps as joined_to_each
from nearline.kernels._templates import message_pack_rows
from nearline.serve.asked import Asked
from nearline.serve.explained import Explained
from nearline.serve.request import Features

_encode = msgspec.msgpack.Encoder().encode
_of_bag = msgspec.msgpack.Decoder(dict[str, Raw])


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
    shown: Shown,
    impressions: list[str],
    about: Asked,
    parts: Explained,
    features: Features,
    propensities: Floats,
) -> list[bytes]:
    """The record of each impression; `features` are those that all candidates share."""
    made = _template(tuple(name for name, _, _ in parts.effects), tuple(kind for kind, _ in parts.versions))
    around = made.around(shown.time_ms, shown.policy, shown.generation, shown.resolves_ms)
    begin, entities = about.encoded_entities(shown.places)
    around[1] += begin
    return message_pack_rows(
        around,
        [
            impressions,
            entities,
            _together(features, about.encode(shown.places), about.bags),
            *(column for _, mean, variance in parts.effects for column in (mean, variance)),
            parts.offset,
            parts.fixed,
            propensities,
            *(versions for _, versions in parts.versions),
        ],
    )


_template = lru_cache(64)(ImpressionTemplate)


def _together(shared: Features, own: list[bytes], bags: Collection[str]) -> list[bytes]:
    """Bag to features as MessagePack, of each; a bag of which there are features in both has those of both."""
    if not shared:
        return own
    if shared.keys().isdisjoint(bags):
        return joined_to_each(_encode(shared), own)
    of_all = {bag: Raw(_encode(one)) for bag, one in shared.items()}
    return [_encode(_joined(of_all, _of_bag.decode(one))) for one in own]


def _joined(shared: Mapping[str, Raw], own: Mapping[str, Raw]) -> dict[str, Raw]:
    bags = {**shared, **own}
    for bag in shared.keys() & own.keys():
        bags[bag] = Raw(joined_maps((bytes(shared[bag]), bytes(own[bag]))))
    return bags

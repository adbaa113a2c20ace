"""What is shown -> records of impressions: everything that is learned from them, as served."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import msgspec
from msgspec import Raw

from nearline.events.wire import ServedImpression, encode_served, joined_maps
from nearline.serve.asked import Asked
from nearline.serve.explained import Explained
from nearline.serve.request import Features

_encode = msgspec.msgpack.Encoder().encode


@final
@dataclass(frozen=True, slots=True)
class Shown:
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

    def impression(self, place: int) -> str:
        """The id of the impression of a candidate."""
        return f"{self.request}/{place}"


def encode_shown(
    shown: Shown, about: Asked, parts: Explained, features: Features, propensities: Sequence[float]
) -> list[bytes]:
    """The record of each impression; `features` are those that all candidates share."""
    shared = {bag: Raw(_encode(one)) for bag, one in features.items()}
    contributions = parts.by_effect()
    entities = about.entities_of(shown.places)
    return [
        encode_served(
            ServedImpression(
                shown.impression(place),
                shown.time_ms,
                entities[i],
                _together(shared, about.encode(place)),
                contributions[i],
                parts.offset[i],
                parts.fixed[i],
                propensities[i],
                shown.policy,
                shown.generation,
                parts.versions[i],
                shown.resolves_ms,
            )
        )
        for i, place in enumerate(shown.places)
    ]


def _together(shared: Mapping[str, Raw], own: Mapping[str, Raw]) -> dict[str, Raw]:
    """Bag to features as MessagePack; a bag of which there are features in both has those of both."""
    bags = {**shared, **own}
    for bag in shared.keys() & own.keys():
        bags[bag] = Raw(joined_maps((bytes(shared[bag]), bytes(own[bag]))))
    return bags

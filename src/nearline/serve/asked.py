"""A request -> the candidates it asks about: their names, features and entities, within the limits."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import cast, final

import msgspec
import numpy as np
from msgspec import Raw, Struct

from nearline.arrays import Floats, Ints
from nearline.errors import RequestError
from nearline.kernels._features import read_alike
from nearline.serve.checked import (
    are_known,
    overlaps,
    require_apart,
    require_count,
    require_features,
    require_finite,
    require_matrix,
    require_names,
    require_once,
    require_own,
    require_shared,
)
from nearline.serve.clock_index import NOBODY
from nearline.serve.design import Featured, KeptRows, own_entries, shared_entries
from nearline.serve.features import Extra
from nearline.serve.kept import KeptCandidates
from nearline.serve.layout import Entries, Layout, entries_of
from nearline.serve.limits import Limits
from nearline.serve.matrix import CandidateMatrix
from nearline.serve.request import Candidate, RankRequest, ScoreRequest

_encode = msgspec.msgpack.Encoder().encode
_of_bag = msgspec.msgpack.Decoder(dict[str, Raw])


@final
class Asked(Struct, frozen=True, eq=False):
    """The C candidates of a request.

    Attributes
    ----------
    names : their ids.
    featured : their features.
    entities : kind to one name for all, or to one for each; `NOBODY` where there is none.
    offset : float64[C], of the request and of each.
    bags : in which candidates may have features of their own.
    encode : of the candidates at these places, bag to their own features as MessagePack.
    extra : bag to what a feature function said.
    """

    names: Sequence[str]
    featured: Featured
    entities: Mapping[str, str | Sequence[str]]
    offset: Floats
    bags: Collection[str]
    encode: Callable[[Sequence[int]], list[bytes]]
    extra: Mapping[str, Extra] = {}

    def encoded_entities(self, places: Sequence[int]) -> tuple[bytes, list[str] | list[bytes]]:
        """Kind to name as MessagePack, of the candidates at these places: how all begin, and a column of the rest."""
        shared = {kind: name for kind, name in self.entities.items() if isinstance(name, str)}
        of_each = {kind: names for kind, names in self.entities.items() if not isinstance(names, str)}
        if len(of_each) == 1:
            ((kind, names),) = of_each.items()
            shown = [names[place] for place in places]
            if NOBODY not in shown:
                return _encode({**shared, kind: NOBODY})[:-1], shown
        return b"", [
            _encode(
                shared | {kind: name for kind, names in of_each.items() if (name := names[place]) != NOBODY}
            )
            for place in places
        ]


def asked(
    request: RankRequest | ScoreRequest,
    matrix: CandidateMatrix | None,
    kept: KeptCandidates,
    rows: KeptRows,
    layout: Layout,
    item_kind: str | None,
    limits: Limits,
    extra: Mapping[str, Extra],
) -> Asked:
    """Return what a request asks about; `extra` is what feature functions say of the candidates, by bag.

    Raises
    ------
    RequestError
        With the path of the field: something is beyond the limits, not finite, given twice, or not kept.
    """
    require_shared(request, limits)
    if matrix is not None:
        return _with(_of_matrix(request, matrix, layout, item_kind, limits), extra, layout)
    require_count(len(request.candidates), limits)
    slots = kept.plain_slots(request.candidates, limits.name_bytes)
    if slots is not None:
        of_ids = _of_ids(
            request, cast("Sequence[str]", request.candidates), slots, kept, rows, layout, item_kind
        )
        return _with(of_ids, extra, layout)
    found = _of_alike(request, layout, item_kind, limits)
    if found is None:
        found = _of_any(request, kept, rows, layout, item_kind, limits)
    return _with(found, extra, layout)


def _of_ids(
    request: RankRequest | ScoreRequest,
    names: Sequence[str],
    slots: Ints,
    kept: KeptCandidates,
    rows: KeptRows,
    layout: Layout,
    item_kind: str | None,
) -> Asked:
    """Of candidates by id, all of which are kept."""
    if overlaps(request.features, kept.keys):
        require_apart(request, slots, kept)
    featured = Featured(len(names), shared_entries(layout, request.features), {}, (rows, slots))
    entities = _entities(request, names, slots, {}, kept, item_kind)
    return Asked(
        names,
        featured,
        entities,
        _offsets(request, len(names)),
        kept.keys,
        lambda places: [kept.encoded(slot) for slot in slots.take(places).tolist()],
    )


def _of_alike(
    request: RankRequest | ScoreRequest, layout: Layout, item_kind: str | None, limits: Limits
) -> Asked | None:
    """Of candidates that all bring the same features of one bag and nothing else, as clients send them; else None."""
    candidates = [one for one in request.candidates if isinstance(one, Candidate)]
    count = len(candidates)
    features = [one.features for one in candidates]
    if count < len(request.candidates) or len(features[0]) != 1 or any(one.entities for one in candidates):
        return None
    ((bag, first),) = features[0].items()
    if not isinstance(first, dict) or bag in request.features or len(first) > limits.features:
        return None
    keys, values = tuple(first), np.empty((count, len(first)))
    if not read_alike(features, bag, keys, values):
        return None
    names = [one.id for one in candidates]
    require_names("$.candidates", names, limits)
    require_features("$.candidates[0].features", features[0], limits)
    own = {bag: Entries(layout.bags[bag].numbers_of(keys), values)} if bag in layout.bags else {}
    entities: dict[str, str | Sequence[str]] = {} if item_kind is None else {item_kind: names}
    return Asked(
        names,
        Featured(count, shared_entries(layout, request.features), own),
        entities | request.entities,
        np.array([one.offset for one in candidates]) + request.offset,
        (bag,),
        lambda places: [_encode(features[place]) for place in places],
    )


def _of_any(
    request: RankRequest | ScoreRequest,
    kept: KeptCandidates,
    rows: KeptRows,
    layout: Layout,
    item_kind: str | None,
    limits: Limits,
) -> Asked:
    """Of candidates that bring their features, and maybe some by id."""
    count = len(request.candidates)
    names, slots, own = _split(request.candidates, kept)
    require_names("$.candidates", names, limits)
    if slots is not None and overlaps(request.features, kept.keys):
        require_apart(request, slots, kept)
    entries = _own_entries(request, own, layout, limits, count) if own else {}
    shared = shared_entries(layout, request.features)
    featured = Featured(count, shared, entries, None if slots is None else (rows, slots))
    offset = _offsets(request, count)
    for place, one in own.items():
        if one.offset:
            offset[place] += one.offset

    def encode(places: Sequence[int]) -> list[bytes]:
        at = [] if slots is None else slots.tolist()
        return [_encode(own[place].features) if place in own else kept.encoded(at[place]) for place in places]

    bags = {bag for one in own.values() for bag in one.features}
    entities = _entities(request, names, slots, own, kept, item_kind)
    return Asked(names, featured, entities, offset, bags if slots is None else bags.union(kept.keys), encode)


def _offsets(request: RankRequest | ScoreRequest, count: int) -> Floats:
    offset = np.empty(count)
    offset.fill(request.offset)
    return offset


def _own_entries(
    request: RankRequest | ScoreRequest,
    own: Mapping[int, Candidate],
    layout: Layout,
    limits: Limits,
    count: int,
) -> dict[str, Entries]:
    """The entries of features that candidates brought, within the limits and finite."""
    require_own(request, own, limits)
    places = list(own)
    entries = own_entries(layout, [own[place].features for place in places], places, count)
    if any((one.number < 0).any() for one in entries.values()) or not are_known(own, layout):
        for place, one in own.items():  # names that the model knows are not too long
            require_features(f"$.candidates[{place}].features", one.features, limits)
    require_finite(entries, request)
    return entries


def _with(asked: Asked, extra: Mapping[str, Extra], layout: Layout) -> Asked:
    """The same with computed features."""
    if not extra:
        return asked
    featured = asked.featured
    own, given = dict(featured.own), _of_bag.decode(asked.encode([0])[0])
    for bag, one in extra.items():
        if bag in featured.own or bag in featured.shared or bag in given:
            raise RequestError(f"$.features.{bag}", "the server computes these features: do not give them")
        if bag in layout.bags:
            own[bag] = entries_of(layout.bags[bag], one.features, None)

    def encode(places: Sequence[int]) -> list[bytes]:
        return [
            _encode({**_of_bag.decode(known), **{bag: one.features[place] for bag, one in extra.items()}})
            for place, known in zip(places, asked.encode(places), strict=True)
        ]

    featured = msgspec.structs.replace(featured, own=own)
    bags = {*asked.bags, *extra}
    return msgspec.structs.replace(asked, featured=featured, bags=bags, encode=encode, extra=extra)


def _split(
    candidates: Sequence[str | Candidate], kept: KeptCandidates
) -> tuple[list[str], Ints | None, dict[int, Candidate]]:
    """The ids; the slots of those asked for by id, -1 of the others; and the others, by place."""
    names = [one if isinstance(one, str) else one.id for one in candidates]
    own = {place: one for place, one in enumerate(candidates) if isinstance(one, Candidate)}
    if len(own) == len(candidates):
        return names, None, own
    slots, missing = kept.slots(names)
    if own:
        slots[list(own)] = -1
    if missing:
        for place in np.flatnonzero(slots < 0).tolist():
            if place not in own:
                raise RequestError(
                    f"$.candidates[{place}]",
                    f"no features are kept of {names[place]!r}: put them, or give the candidate as an object",
                )
    return names, slots, own


def _entities(
    request: RankRequest | ScoreRequest,
    names: Sequence[str],
    slots: Ints | None,
    own: Mapping[int, Candidate],
    kept: KeptCandidates,
    item_kind: str | None,
) -> dict[str, str | Sequence[str]]:
    entities: dict[str, str | Sequence[str]] = {} if item_kind is None else {item_kind: names}
    entities |= request.entities
    others: dict[str, list[str]] = {}
    for place, one in own.items():
        for kind, name in one.entities.items():
            others.setdefault(kind, [NOBODY] * len(names))[place] = name
    if slots is not None and kept.have_entities:
        for place, slot in enumerate(slots.tolist()):
            for kind, name in kept.at(slot).entities.items() if slot >= 0 else ():
                others.setdefault(kind, [NOBODY] * len(names))[place] = name
    for kind, of_each in others.items():
        before = entities.get(kind, NOBODY)
        each = [before] * len(names) if isinstance(before, str) else before
        entities[kind] = [name or known for name, known in zip(of_each, each, strict=True)]
    return entities


def _of_matrix(
    request: RankRequest | ScoreRequest,
    matrix: CandidateMatrix,
    layout: Layout,
    item_kind: str | None,
    limits: Limits,
) -> Asked:
    count = len(matrix.ids)
    require_count(count, limits)
    require_names("$.candidates", matrix.ids, limits)
    own = {}
    for bag, values in matrix.features.items():
        require_matrix(f"$.features.{bag}", matrix.keys_of(bag), values, count, limits)
        if bag in request.features:
            require_once(f"$.features.{bag}", request.features[bag], matrix.row(bag, 0))
        if bag in layout.bags:
            number = layout.bags[bag].numbers_of(tuple(matrix.keys_of(bag)))
            own[bag] = Entries(number, np.ascontiguousarray(values, np.float64))

    entities: dict[str, str | Sequence[str]] = {} if item_kind is None else {item_kind: matrix.ids}
    featured = Featured(count, shared_entries(layout, request.features), own)
    offset = _offsets(request, count)
    return Asked(matrix.ids, featured, entities | request.entities, offset, matrix.features, matrix.encoded)

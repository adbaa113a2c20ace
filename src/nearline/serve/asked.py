"""A request -> the candidates it asks about: their names, features and entities, within the limits."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast, final

import msgspec
import numpy as np
from msgspec import Raw, Struct

from nearline.arrays import Floats, Ints
from nearline.errors import RequestError
from nearline.events.impression import as_written
from nearline.serve.clock_index import NOBODY
from nearline.serve.design import Featured, KeptRows, own_entries, shared_entries
from nearline.serve.features import Extra
from nearline.serve.kept import KeptCandidates
from nearline.serve.layout import (
    Entries,
    FeaturesOfBag,
    Layout,
    entries_of,
    list_keys,
)
from nearline.serve.limits import Limits
from nearline.serve.matrix import CandidateMatrix
from nearline.serve.request import Candidate, Features, RankRequest, ScoreRequest

_encode = msgspec.msgpack.Encoder().encode


@final
class Asked(Struct, frozen=True, eq=False):
    """The C candidates of a request.

    Attributes
    ----------
    names : their ids.
    featured : their features.
    entities : kind to one name for all, or to one for each; `NOBODY` where there is none.
    offset : float64[C], of the request and of each.
    encode : of the candidates at these places, bag to their own features as MessagePack.
    extra : bag to what a feature function said.
    """

    names: Sequence[str]
    featured: Featured
    entities: Mapping[str, str | Sequence[str]]
    offset: Floats
    encode: Callable[[Sequence[int]], list[Mapping[str, Raw]]]
    extra: Mapping[str, Extra] = {}

    def entities_of(self, places: Sequence[int]) -> list[dict[str, str]]:
        """Kind to name, of the candidates at these places."""
        shared = {kind: name for kind, name in self.entities.items() if isinstance(name, str)}
        found = [dict(shared) for _ in places]
        for kind, names in self.entities.items():
            if isinstance(names, str):
                continue
            for one, place in zip(found, places, strict=True):
                if (name := names[place]) != NOBODY:
                    one[kind] = name
        return found


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
    _require_shared(request, limits)
    if matrix is not None:
        return _with(_of_matrix(request, matrix, layout, item_kind, limits), extra, layout)
    count = len(request.candidates)
    _require_count(count, limits)
    names, slots, own = _split(request.candidates, kept)
    _require_names("$.candidates", names, limits)
    if slots is not None and _overlaps(request.features, kept.keys):
        _require_apart(request, slots, kept)
    entries = _own_entries(request, own, layout, limits, count) if own else {}
    shared = shared_entries(layout, request.features)
    featured = Featured(count, shared, entries, None if slots is None else (rows, slots))
    offset = np.full(count, float(request.offset))
    for place, one in own.items():
        offset[place] += one.offset

    def encode(places: Sequence[int]) -> list[Mapping[str, Raw]]:
        at = [] if slots is None else slots.tolist()
        return [
            {bag: Raw(_encode(one)) for bag, one in own[place].features.items()}
            if place in own
            else kept.encoded(at[place])
            for place in places
        ]

    entities = _entities(request, names, slots, own, kept, item_kind)
    return _with(Asked(names, featured, entities, offset, encode), extra, layout)


def _own_entries(
    request: RankRequest | ScoreRequest,
    own: Mapping[int, Candidate],
    layout: Layout,
    limits: Limits,
    count: int,
) -> dict[str, Entries]:
    """The entries of features that candidates brought, within the limits and finite."""
    _require_own(request, own, limits)
    places = list(own)
    entries = own_entries(layout, [own[place].features for place in places], places, count)
    if any((one.number < 0).any() for one in entries.values()) or not _are_known(own, layout):
        for place, one in own.items():  # names that the model knows are not too long
            require_features(f"$.candidates[{place}].features", one.features, limits)
    _require_finite(entries, request)
    return entries


def _with(asked: Asked, extra: Mapping[str, Extra], layout: Layout) -> Asked:
    """The same with computed features."""
    if not extra:
        return asked
    featured = asked.featured
    own = dict(featured.own)
    for bag, one in extra.items():
        if bag in featured.own or bag in featured.shared or bag in asked.encode([0])[0]:
            raise RequestError(f"$.features.{bag}", "the server computes these features: do not give them")
        if bag in layout.bags:
            own[bag] = entries_of(layout.bags[bag], one.features, None)

    def encode(places: Sequence[int]) -> list[Mapping[str, Raw]]:
        return [
            {**known, **{bag: Raw(_encode(one.features[place])) for bag, one in extra.items()}}
            for place, known in zip(places, asked.encode(places), strict=True)
        ]

    featured = msgspec.structs.replace(featured, own=own)
    return msgspec.structs.replace(asked, featured=featured, encode=encode, extra=extra)


def _split(
    candidates: Sequence[str | Candidate], kept: KeptCandidates
) -> tuple[list[str], Ints | None, dict[int, Candidate]]:
    """The ids; the slots of those asked for by id, -1 of the others; and the others, by place."""
    if set(map(type, candidates)) == {str}:
        names = cast("list[str]", candidates)
        own: dict[int, Candidate] = {}
    else:
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
    _require_count(count, limits)
    _require_names("$.candidates", matrix.ids, limits)
    own = {}
    for bag, values in matrix.features.items():
        _require_matrix(f"$.features.{bag}", matrix.keys_of(bag), values, count, limits)
        if bag in request.features:
            _require_once(f"$.features.{bag}", request.features[bag], matrix.row(bag, 0))
        if bag in layout.bags:
            number = layout.bags[bag].numbers_of(tuple(matrix.keys_of(bag)))
            own[bag] = Entries(number, np.ascontiguousarray(values, np.float64))

    def encode(places: Sequence[int]) -> list[Mapping[str, Raw]]:
        rows = {bag: matrix.encoded(bag, places) for bag in matrix.features}
        return [{bag: Raw(of_bag[i]) for bag, of_bag in rows.items()} for i in range(len(places))]

    entities: dict[str, str | Sequence[str]] = {} if item_kind is None else {item_kind: matrix.ids}
    featured = Featured(count, shared_entries(layout, request.features), own)
    return Asked(
        matrix.ids, featured, entities | request.entities, np.full(count, float(request.offset)), encode
    )


def _require_matrix(path: str, keys: Sequence[str], values: Floats, count: int, limits: Limits) -> None:
    if values.shape != (count, len(keys)):
        raise RequestError(path, f"expected shape {[count, len(keys)]}, got {list(values.shape)}")
    if len(keys) > limits.features:
        raise RequestError(path, f"expected at most {limits.features} features, got {len(keys)}")
    _require_names(path, keys, limits)
    if len(set(keys)) < len(keys):
        raise RequestError(path, "expected names of features that differ from each other")
    if not np.isfinite(values).all():
        place, column = np.argwhere(~np.isfinite(values))[0].tolist()
        found = as_written(float(values[place, column]))
        raise RequestError(f"{path}[{place}][{column}]", f"expected a finite number, got {found}")


def _require_count(count: int, limits: Limits) -> None:
    if not 1 <= count <= limits.candidates:
        raise RequestError("$.candidates", f"expected 1 to {limits.candidates} candidates, got {count}")


def _require_shared(request: RankRequest | ScoreRequest, limits: Limits) -> None:
    require_features("$.features", request.features, limits)
    for kind, name in request.entities.items():
        _require_names(f"$.entities.{kind}", [kind, name], limits)


def _require_own(request: RankRequest | ScoreRequest, own: Mapping[int, Candidate], limits: Limits) -> None:
    for place, one in own.items():
        if one.features:
            path = f"$.candidates[{place}].features"
            for bag in one.features.keys() & request.features.keys():
                _require_once(f"{path}.{bag}", request.features[bag], one.features[bag])
            _require_fewer(path, one.features, limits)
        for kind, name in one.entities.items():
            _require_names(f"$.candidates[{place}].entities.{kind}", [kind, name], limits)


def _overlaps(features: Features, keys: Mapping[str, set[str]]) -> bool:
    return any(bag in keys and not keys[bag].isdisjoint(list_keys(one)) for bag, one in features.items())


def _require_apart(request: RankRequest | ScoreRequest, slots: Ints, kept: KeptCandidates) -> None:
    for place, slot in enumerate(slots.tolist()):
        features = kept.at(slot).features if slot >= 0 else {}
        for bag in features.keys() & request.features.keys():
            _require_once(f"$.candidates[{place}].features.{bag}", request.features[bag], features[bag])


def _require_once(path: str, shared: FeaturesOfBag, own: FeaturesOfBag) -> None:
    """Raise a `RequestError` if a feature of a bag is given for all candidates and with one of them."""
    if isinstance(shared, dict) and isinstance(own, dict):
        if shared.keys().isdisjoint(own):
            return
        key = next(key for key in own if key in shared)
        raise RequestError(f"{path}.{key}", "given for all candidates and with this one: give it once")
    if shared and own:
        raise RequestError(path, "a list of features is given for all candidates or with each, not both")


def _are_known(own: Mapping[int, Candidate], layout: Layout) -> bool:
    """Whether every bag is one of the model's."""
    return all(layout.bags.keys() >= one.features.keys() for one in own.values())


def _require_fewer(path: str, features: Features, limits: Limits) -> None:
    if (count := sum(map(len, features.values()))) > limits.features:
        raise RequestError(path, f"expected at most {limits.features} features, got {count}")


def require_features(path: str, features: Features, limits: Limits) -> None:
    """Raise a `RequestError` if there are too many features, or a name is too long."""
    _require_fewer(path, features, limits)
    for bag, one in features.items():
        _require_names(path, [bag], limits)
        if isinstance(one, dict):
            _require_names(f"{path}.{bag}", one, limits)


def _require_names(path: str, names: Sequence[str] | Mapping[str, float], limits: Limits) -> None:
    if not names or 4 * max(map(len, names)) <= limits.name_bytes:
        return
    for name in names:
        try:
            size = len(name.encode())
        except UnicodeEncodeError as error:
            raise RequestError(path, f"expected text that UTF-8 can write, got {name!r}") from error
        if size > limits.name_bytes:
            raise RequestError(
                path, f"expected names of at most {limits.name_bytes} bytes, got {size}: {name[:20]!r}..."
            )


def _require_finite(entries: Mapping[str, Entries], request: RankRequest | ScoreRequest) -> None:
    """JSON has no number that is not finite; a request made in Python may."""
    if all(np.isfinite(one.values).all() for one in entries.values()):
        return
    for place, one in enumerate(request.candidates):
        for bag, features in one.features.items() if isinstance(one, Candidate) else ():
            pairs = features.items() if isinstance(features, dict) else enumerate(features)
            for key, value in pairs:
                if not np.isfinite(value):
                    path = f"$.candidates[{place}].features.{bag}.{key}"
                    raise RequestError(path, f"expected a finite number, got {as_written(value)}")

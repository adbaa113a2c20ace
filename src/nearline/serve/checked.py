"""What a request brings, held to the limits: raises a `RequestError` with the path of the field that is beyond them."""

from collections.abc import Mapping, Sequence

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.errors import RequestError
from nearline.events.impression import as_written
from nearline.serve.kept import KeptCandidates
from nearline.serve.layout import Entries, FeaturesOfBag, Layout, list_keys
from nearline.serve.limits import Limits
from nearline.serve.request import Candidate, Features, RankRequest, ScoreRequest


def require_matrix(path: str, keys: Sequence[str], values: Floats, count: int, limits: Limits) -> None:
    """Features of a bag in an array: a row for each candidate, names that differ, finite numbers."""
    if values.shape != (count, len(keys)):
        raise RequestError(path, f"expected shape {[count, len(keys)]}, got {list(values.shape)}")
    if len(keys) > limits.features:
        raise RequestError(path, f"expected at most {limits.features} features, got {len(keys)}")
    require_names(path, keys, limits)
    if len(set(keys)) < len(keys):
        raise RequestError(path, "expected names of features that differ from each other")
    if not np.isfinite(values).all():
        place, column = np.argwhere(~np.isfinite(values))[0].tolist()
        found = as_written(float(values[place, column]))
        raise RequestError(f"{path}[{place}][{column}]", f"expected a finite number, got {found}")


def require_count(count: int, limits: Limits) -> None:
    """At least one candidate, and no more than may be."""
    if not 1 <= count <= limits.candidates:
        raise RequestError("$.candidates", f"expected 1 to {limits.candidates} candidates, got {count}")


def require_shared(request: RankRequest | ScoreRequest, limits: Limits) -> None:
    """What all candidates share: features and names of entities."""
    require_features("$.features", request.features, limits)
    for kind, name in request.entities.items():
        require_names(f"$.entities.{kind}", [kind, name], limits)


def require_own(request: RankRequest | ScoreRequest, own: Mapping[int, Candidate], limits: Limits) -> None:
    """What candidates bring: features that are not given for all as well, and names of entities."""
    for place, one in own.items():
        if one.features:
            path = f"$.candidates[{place}].features"
            for bag in one.features.keys() & request.features.keys():
                require_once(f"{path}.{bag}", request.features[bag], one.features[bag])
            _require_fewer(path, one.features, limits)
        for kind, name in one.entities.items():
            require_names(f"$.candidates[{place}].entities.{kind}", [kind, name], limits)


def overlaps(features: Features, keys: Mapping[str, set[str]]) -> bool:
    """Whether a feature that all candidates share is one that a kept candidate may have."""
    return any(bag in keys and not keys[bag].isdisjoint(list_keys(one)) for bag, one in features.items())


def require_apart(request: RankRequest | ScoreRequest, slots: Ints, kept: KeptCandidates) -> None:
    """No kept candidate has a feature that is given for all as well."""
    for place, slot in enumerate(slots.tolist()):
        features = kept.at(slot).features if slot >= 0 else {}
        for bag in features.keys() & request.features.keys():
            require_once(f"$.candidates[{place}].features.{bag}", request.features[bag], features[bag])


def require_once(path: str, shared: FeaturesOfBag, own: FeaturesOfBag) -> None:
    """Raise a `RequestError` if a feature of a bag is given for all candidates and with one of them."""
    if isinstance(shared, dict) and isinstance(own, dict):
        if shared.keys().isdisjoint(own):
            return
        key = next(key for key in own if key in shared)
        raise RequestError(f"{path}.{key}", "given for all candidates and with this one: give it once")
    if shared and own:
        raise RequestError(path, "a list of features is given for all candidates or with each, not both")


def are_known(own: Mapping[int, Candidate], layout: Layout) -> bool:
    """Whether every bag is one of the model's."""
    return all(layout.bags.keys() >= one.features.keys() for one in own.values())


def _require_fewer(path: str, features: Features, limits: Limits) -> None:
    if (count := sum(map(len, features.values()))) > limits.features:
        raise RequestError(path, f"expected at most {limits.features} features, got {count}")


def require_features(path: str, features: Features, limits: Limits) -> None:
    """Raise a `RequestError` if there are too many features, or a name is too long."""
    _require_fewer(path, features, limits)
    for bag, one in features.items():
        require_names(path, [bag], limits)
        if isinstance(one, dict):
            require_names(f"{path}.{bag}", one, limits)


def require_names(path: str, names: Sequence[str] | Mapping[str, float], limits: Limits) -> None:
    """Names are text that UTF-8 can write, and not too long."""
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


def require_finite(entries: Mapping[str, Entries], request: RankRequest | ScoreRequest) -> None:
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

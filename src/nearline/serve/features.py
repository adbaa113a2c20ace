"""Features that cost something to compute, and a cache of what they were.

A function computes the features of one candidate in one bag. What it returns is kept under its version and the key of
the candidate: its id, and of what all candidates share whatever the function looks at. By choice the key is coarser, so
that candidates that differ little share one computation.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TypeAlias, final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.serve.request import Features

Compute: TypeAlias = Callable[[str, Mapping[str, str], Features], dict[str, float]]
"""Id of the candidate, entities and features that all candidates share -> features by name."""
KeyOf: TypeAlias = Callable[[str, Mapping[str, str], Features], Hashable]
"""The same -> what the features depend on; equal keys share a computation."""


def by_candidate(name: str, entities: Mapping[str, str], features: Features) -> Hashable:  # noqa: ARG001 - as `KeyOf`
    """The key of features that depend on the candidate alone."""
    return name


@final
@dataclass(frozen=True, slots=True)
class FeatureFunction:
    """Features computed while a request is answered.

    Attributes
    ----------
    bag : of the features; no request gives it.
    compute : what computes them, in the thread of the request.
    key : what they depend on. A coarser key is an equivalence class: those in it have the features of whichever was
        computed first.
    version : of what computes them, by generation; where it is another one, nothing that was kept is used.
    """

    bag: str
    compute: Compute
    key: KeyOf = by_candidate
    version: Callable[[int], Hashable] = lambda generation: 0  # noqa: ARG005 - the same for every generation


@final
@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """The features of the candidates of a request; None where the deadline had passed.

    `mean` and `variance` are those of each feature among what is kept, by name: what is expected where it is missing.
    """

    features: Sequence[dict[str, float] | None]
    mean: Mapping[str, float]
    variance: Mapping[str, float]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Extra:
    """Computed features of one bag of the C candidates of a request.

    Attributes
    ----------
    features : of each; what was missing at the deadline is what is expected.
    missing : int64, which were.
    variance : of each feature of those.
    """

    features: Sequence[dict[str, float]]
    missing: Ints
    variance: Mapping[str, float]


def filled(computed: Computed) -> Extra:
    """What was computed, with what is expected in place of what is missing."""
    features = [computed.mean if one is None else one for one in computed.features]
    missing = [place for place, one in enumerate(computed.features) if one is None]
    return Extra([dict(one) for one in features], np.array(missing, np.int64), computed.variance)


@final
class FeatureCache:
    """What a feature function returned, the least recently used forgotten first; threads may share it."""

    def __init__(self, function: FeatureFunction, entries: int = 100_000) -> None:
        self.function = function
        self._most = entries
        self._kept: OrderedDict[tuple[Hashable, Hashable], tuple[dict[str, float], _Arguments]] = (
            OrderedDict()
        )
        self._lock = Lock()
        self._moments = _Moments()
        self.hits, self.misses = 0, 0

    def find(
        self,
        names: Sequence[str],
        entities: Mapping[str, str],
        features: Features,
        generation: int,
        expired: Callable[[], bool],
    ) -> Computed:
        """The features of each candidate, computed where they are not kept and there is time."""
        version = self.function.version(generation)
        found = [self._one(version, (name, entities, features), expired) for name in names]
        if None not in found:
            return Computed(found, {}, {})
        return Computed(found, *self._moments.of_all())

    def warm(self, generation: int) -> None:
        """Compute for a generation what was asked for of the one before, the latest last; nobody waits for it."""
        version = self.function.version(generation)
        with self._lock:
            before = {key: arguments for (_, key), (_, arguments) in self._kept.items()}
        for arguments in before.values():
            self._one(version, arguments, _never, counted=False)

    def _one(
        self, version: Hashable, arguments: "_Arguments", expired: Callable[[], bool], *, counted: bool = True
    ) -> dict[str, float] | None:
        at = (version, self.function.key(*arguments))
        with self._lock:
            if (kept := self._kept.get(at)) is not None:
                self._kept.move_to_end(at)
                self.hits += counted
                return kept[0]
        self.misses += counted
        if expired():
            return None
        computed = self.function.compute(*arguments)
        with self._lock:
            self._kept[at] = computed, arguments
            self._moments.add(computed)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return computed


_Arguments: TypeAlias = tuple[str, Mapping[str, str], Features]


@final
class _Moments:
    """Mean and variance of every feature that was computed; of a feature that is not there the value is 0."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: dict[str, Floats] = {}

    def add(self, features: Mapping[str, float]) -> None:
        self._count += 1
        for name, value in features.items():
            self._sums.setdefault(name, np.zeros(2))[:] += (value, value * value)

    def of_all(self) -> tuple[dict[str, float], dict[str, float]]:
        mean = {name: float(sums[0]) / self._count for name, sums in self._sums.items()}
        variance = {
            name: max(0.0, float(sums[1]) / self._count - mean[name] ** 2)
            for name, sums in self._sums.items()
        }
        return mean, variance


def _never() -> bool:
    return False

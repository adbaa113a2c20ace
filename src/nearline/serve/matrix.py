"""Candidates whose features are in arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from nearline.arrays import Floats
from nearline.serve.layout import FeaturesOfBag, list_keys


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

    def row(self, bag: str, place: int) -> FeaturesOfBag:
        """The features of one candidate, as an event has them."""
        row: list[float] = self.features[bag][place].tolist()
        return dict(zip(self.keys[bag], row, strict=True)) if bag in self.keys else row

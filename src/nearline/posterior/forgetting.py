"""How beliefs age: the share of evidence that is kept as time passes, or with each mini-batch."""

from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.errors import ConfigError


@final
@dataclass(frozen=True, slots=True)
class Forgetting:
    """The rule by which evidence gives way to the population prior; with neither set nothing is forgotten.

    Attributes
    ----------
    time_constant_ms : evidence of age t keeps the share exp(-t / time_constant_ms). Rows of a mini-batch age
        each by itself, so that how a stream is cut into mini-batches makes no difference (exactly so for
        Normal outcomes).
    keep_per_batch : evidence keeps this share with every mini-batch learned: the `delta` of Lambda Learner.
    """

    time_constant_ms: float | None = None
    keep_per_batch: float | None = None

    def __post_init__(self) -> None:
        if self.time_constant_ms is not None and self.keep_per_batch is not None:
            raise ConfigError("forgetting: expected a time constant or keep_per_batch, got both")
        if self.time_constant_ms is not None and not self.time_constant_ms > 0.0:
            raise ConfigError(f"forgetting.time_constant: expected more than 0, got {self.time_constant_ms}")
        if self.keep_per_batch is not None and not 0.0 <= self.keep_per_batch <= 1.0:
            raise ConfigError(f"forgetting.keep_per_batch: expected 0 to 1, got {self.keep_per_batch}")

    @property
    def is_none(self) -> bool:
        """Whether nothing is forgotten."""
        return self.time_constant_ms is None and self.keep_per_batch is None

    def keep_of_belief(self, from_ms: Ints, to_ms: Ints) -> Floats:
        """Share of a belief as of `from_ms` that is left at `to_ms`; ones where time went backwards."""
        if self.keep_per_batch is not None:
            return np.full(np.shape(to_ms), self.keep_per_batch)
        return self._share(to_ms - from_ms)

    def keep_of_rows(self, row_ms: Ints, to_ms: Ints) -> Floats:
        """Share of a row's evidence at `row_ms` left at the end `to_ms` of its mini-batch: a factor on its weight."""
        if self.keep_per_batch is not None:
            return np.ones(np.shape(row_ms))
        return self._share(to_ms - row_ms)

    def _share(self, elapsed_ms: Ints) -> Floats:
        if self.time_constant_ms is None:
            return np.ones(np.shape(elapsed_ms))
        return np.exp(-np.maximum(elapsed_ms, 0) / self.time_constant_ms)

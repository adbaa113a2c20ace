"""When the rows of an entity are due: the choices, checked."""

from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.errors import ConfigError


@final
@dataclass(frozen=True, slots=True)
class MiniBatchSettings:
    """When the rows of an entity are due; the first rule that holds decides.

    Attributes
    ----------
    rows : so many wait.
    age_ms : the first of them has waited so long, in event time; None: no matter how long.
    information : they would teach so much, as the sum of `expected_gain`: a new entity learns from every row, one
        well known waits; None: no matter how much.
    max_waiting : when so many rows wait in all, those that have waited longest are due, down to half of it.

    Raises
    ------
    ConfigError
        A value outside its range.
    """

    rows: int = 8
    age_ms: int | None = None
    information: float | None = None
    max_waiting: int = 100_000

    def __post_init__(self) -> None:
        for name, least in (("rows", 1), ("age_ms", 1), ("max_waiting", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"minibatch.{name}: expected {least} or more, got {value}")
        if self.information is not None and not 0.0 < self.information < np.inf:
            raise ConfigError(f"minibatch.information: expected a number above 0, got {self.information}")

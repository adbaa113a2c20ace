"""What is kept of entities: evidence, and which rows of the log it contains."""

from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Ints
from nearline.errors import DataError
from nearline.posterior.blocks import Blocks
from nearline.posterior.evidence import no_evidence, select_evidence


@final
@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """The records of n entities of one effect, in columns.

    Attributes
    ----------
    version : int64[n]; 0 of an entity nobody has seen, and one more with each record written of it.
    position : int64[n]; the last row of the row log that was learned.
    as_of_ms : int64[n]; the time the evidence is discounted to, in milliseconds since 1970 (UTC).
    rows : int64[n]; rows learned.
    evidence : n blocks, each over the columns the entity's rows touched; `mean` is the shift.
    """

    version: Ints
    position: Ints
    as_of_ms: Ints
    rows: Ints
    evidence: Blocks

    def __post_init__(self) -> None:
        expected = (self.evidence.entities,)
        for name in ("version", "position", "as_of_ms", "rows"):
            if (shape := getattr(self, name).shape) != expected:
                raise DataError(
                    f"Records.{name}: expected one for each of {expected[0]} blocks, got shape {shape}"
                )
        if self.evidence.column is None:
            raise DataError("Records.evidence: expected blocks that list their columns")

    def __len__(self) -> int:
        return len(self.version)


def no_records(count: int, *, full: bool) -> Records:
    """Records of entities nobody has seen: version 0, and no evidence."""
    zeros = np.zeros(count, dtype=np.int64)
    return Records(zeros, zeros, zeros, zeros, no_evidence(count, full=full))


def select_records(records: Records, index: Ints) -> Records:
    """The records listed by `index`, int64; -1 stands for an entity nobody has seen."""
    return Records(
        np.append(records.version, 0)[index],
        np.append(records.position, 0)[index],
        np.append(records.as_of_ms, 0)[index],
        np.append(records.rows, 0)[index],
        select_evidence(records.evidence, index),
    )

"""Rows of one effect that are not learned yet, as columns: those that wait, then those of a step.

Rows that wait stay as they were read, so they are read once however long they wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from nearline.arrays import Bools, Columns, Floats, Ints
from nearline.model.effects import RandomEffect, design
from nearline.posterior.blocks import FeatureRows
from nearline.stream.chunks import Chunk
from nearline.stream.effect_rows import gather
from nearline.stream.given_others import Observed

Objects: TypeAlias = NDArray[Any]
"""An array of Python objects."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """n rows, in the order of their positions.

    Attributes
    ----------
    position : int64[n], in the row log, ascending.
    takes_back : bool[n], whether the row takes an example back.
    observed : what was observed in them, as the effect meets them.
    columns : of the effect.
    indptr, indices, values : their features, int64[n + 1], int32[entries] and float64[entries].
    names, records : str and bytes [n], the entity (None where there is none) and the impression of each.
    """

    position: Ints
    takes_back: Bools
    observed: Observed
    columns: int
    indptr: Ints
    indices: Columns
    values: Floats
    names: Objects
    records: Objects

    @classmethod
    def of_chunk(cls, chunk: Chunk, effect: RandomEffect, names: Sequence[str]) -> "Pending":
        """The rows of a chunk; `names` are those that the codes of its entities stand for."""
        matrix = design(effect.registry, effect.bags, chunk.examples, grow=False)
        return cls(
            chunk.position,
            chunk.takes_back,
            chunk.observed(effect.name),
            int(matrix.shape[1]),
            np.ascontiguousarray(matrix.indptr, dtype=np.int64),
            np.ascontiguousarray(matrix.indices, dtype=np.int32),
            np.ascontiguousarray(matrix.data, dtype=np.float64),
            _objects([*names, None])[chunk.examples.entities[effect.kind].codes],
            _objects(chunk.records),
        )

    def place(self, position: Ints) -> Ints:
        """Where the rows at these positions are, int64[rows]."""
        return np.searchsorted(self.position, position)

    def at(self, place: Ints) -> "Pending":
        """The rows at these places, ascending."""
        indptr, indices, values = gather(self.indptr, self.indices, self.values, place)
        return Pending(
            self.position[place],
            self.takes_back[place],
            self.observed.at(place),
            self.columns,
            indptr,
            indices,
            values,
            self.names[place],
            self.records[place],
        )

    def then(self, later: "Pending") -> "Pending":
        """These rows, and later ones."""
        if not len(self.position):
            return later
        return Pending(
            np.concatenate([self.position, later.position]),
            np.concatenate([self.takes_back, later.takes_back]),
            self.observed.then(later.observed),
            self.columns,
            np.concatenate([self.indptr, self.indptr[-1] + later.indptr[1:]]),
            np.concatenate([self.indices, later.indices]),
            np.concatenate([self.values, later.values]),
            np.concatenate([self.names, later.names]),
            np.concatenate([self.records, later.records]),
        )

    def features(self, place: Ints, start: Ints) -> FeatureRows:
        """The features of the rows at these places, grouped as `start` says."""
        indptr, indices, values = gather(self.indptr, self.indices, self.values, place)
        return FeatureRows(len(place), self.columns, start, indptr=indptr, indices=indices, values=values)


def _objects(values: list[Any]) -> Objects:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array

"""The parts of a GAME model: one linear fixed effect, and one random effect for each kind of entity.

Both are bound to named features through a registry of columns, and turn examples into contributions to the linear
predictor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from nearline.arrays import Csr, Floats, Ints
from nearline.errors import DataError
from nearline.model.examples import EntityColumn, Examples
from nearline.model.features import Bag, ColumnRegistry, effect_matrix
from nearline.posterior.blocks import Blocks, group_rows
from nearline.posterior.evidence import complete, layout_for, select_evidence
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.score import score_blocks

_AT_ONCE = 1 << 14
"""How many entities' beliefs over all columns are held at once, where all entities are looked at in turn."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class FixedCoefficients:
    """The linear fixed effect: coefficients float64[columns] over a registry; the intercept is column 0.

    `precision` float64[columns] is the diagonal of the curvature of the penalised loss at the coefficients, the
    weight of the past when the model is refitted on new data alone; None where it was not computed.
    """

    bags: tuple[str, ...]
    registry: ColumnRegistry
    coefficients: Floats
    precision: Floats | None = None

    def contribution(self, examples: Examples) -> Floats:
        """X . coefficients of each row, float64[n]; features the registry does not know count as absent."""
        matrix = design(self.registry, self.bags, examples, grow=False)
        return np.asarray(matrix @ self.coefficients[: matrix.shape[1]], dtype=np.float64)


@final
@dataclass(frozen=True, slots=True, eq=False)
class RandomEffect:
    """One small model per entity of one kind: a population prior, and each entity's evidence beyond it.

    Attributes
    ----------
    name : of the effect.
    kind : the kind of entity, a key of `Examples.entities`.
    bags : whose features it weighs, after an intercept.
    prior : belief about an entity nobody has seen, over all columns of the registry.
    evidence : blocks of the entities `names`, in that order (see `nearline.posterior.evidence`).
    row_count : int64[entities], rows learned from.
    """

    name: str
    kind: str
    bags: tuple[str, ...]
    registry: ColumnRegistry
    prior: Gaussian
    evidence: Blocks
    names: pa.StringArray
    row_count: Ints

    @property
    def is_full(self) -> bool:
        """Whether beliefs keep the correlations between coefficients."""
        return self.evidence.full

    @property
    def entities(self) -> int:
        """How many entities have a model of their own."""
        return len(self.names)

    def find(self, column: EntityColumn) -> Ints:
        """The place of each row's entity in `names`, int64[n]; -1 where it is unknown or missing."""
        place = pc.index_in(column.names, self.names).fill_null(-1).to_numpy(zero_copy_only=False)
        return np.append(place, -1)[column.codes].astype(np.int64)

    def belief(self, name: str) -> tuple[Gaussian, Ints]:
        """The belief about one entity over every column it has evidence for, and those columns.

        Under a full prior that is every column of the registry; a name nobody knows has the prior.
        """
        place = pc.index(self.names, name).as_py()
        evidence = select_evidence(self.evidence, np.array([place]))
        if self.prior.is_diagonal:
            start, column = evidence.start, evidence.column
        else:
            start = np.array([0, len(self.prior.mean)], dtype=np.int64)
            column = np.arange(len(self.prior.mean), dtype=np.int32)
        belief = complete(evidence, self.prior, (start, column)).belief(0)
        assert column is not None  # noqa: S101 - set in both branches
        return belief, column.astype(np.int64)

    def coefficient(self, column: int, *, threads: int = 1) -> tuple[Floats, Floats]:
        """Posterior mean and standard deviation of one coefficient of every entity, float64[entities] each."""
        means, variances = np.empty(self.entities), np.empty(self.entities)
        for begin in range(0, self.entities, _AT_ONCE):
            some = np.arange(begin, min(begin + _AT_ONCE, self.entities))
            shape = (len(some), len(self.prior.mean))
            unit = csr_array((np.ones(len(some)), (some - begin, np.full(len(some), column))), shape=shape)
            rows = group_rows(unit, some - begin, len(some))
            evidence = select_evidence(self.evidence, some)
            beliefs = complete(evidence, self.prior, layout_for(rows, evidence, self.prior), threads=threads)
            means[some], variances[some] = score_blocks(rows, beliefs, threads=threads)
        return means, np.sqrt(variances)

    def contribution(self, examples: Examples, *, threads: int = 1) -> tuple[Floats, Floats]:
        """Mean and variance of x . b for each row, float64[n]; entities nobody knows have the prior."""
        matrix = design(self.registry, self.bags, examples, grow=False)
        place = self.find(entity_column(examples, self.kind))
        present, local = np.unique(place, return_inverse=True)
        rows = group_rows(matrix, local.astype(np.int64), len(present))
        evidence = select_evidence(self.evidence, present)
        beliefs = complete(evidence, self.prior, layout_for(rows, evidence, self.prior), threads=threads)
        return score_blocks(rows, beliefs, threads=threads)


def entity_column(examples: Examples, kind: str) -> EntityColumn:
    """The entities of a kind, or a `DataError` that lists what there is."""
    if kind not in examples.entities:
        raise DataError(
            f"no entities of kind {kind!r}: the examples have {sorted(examples.entities) or 'none'}"
        )
    return examples.entities[kind]


def design(registry: ColumnRegistry, bags: Sequence[str], examples: Examples, *, grow: bool) -> Csr:
    """The design matrix of an effect: its intercept and bags over its registry."""
    missing = [bag for bag in bags if bag not in examples.bags]
    if missing:
        raise DataError(f"no bag {missing[0]!r}: the examples have {sorted(examples.bags) or 'none'}")
    chosen = [(bag, examples.bags[bag]) for bag in bags] or [("", Bag.empty(len(examples)))]
    return effect_matrix(registry, chosen, intercept=True, grow=grow)[0]

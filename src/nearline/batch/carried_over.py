"""What a model learned before, carried over to more columns and entities."""

from dataclasses import replace

import numpy as np

from nearline.arrays import Bools, Floats, Ints
from nearline.posterior.blocks import Blocks
from nearline.posterior.gaussian import Gaussian


def extended(values: Floats, columns: int, fill: float) -> Floats:
    """The values, and `fill` for the columns that are new, float64[columns]."""
    return np.concatenate([values, np.full(columns - len(values), fill)])


def _diagonal(prior: Gaussian) -> Floats:
    return prior.precision if prior.is_diagonal else np.diag(prior.precision).copy()


def extended_prior(old: Gaussian, fresh: Gaussian, columns: int) -> Gaussian:
    """The old prior; columns it does not know are independent of the others and start as `fresh`."""
    known = len(old.mean)
    if known == columns:
        return old
    mean = extended(old.mean, columns, 0.0)
    if old.is_diagonal:
        return Gaussian(mean, np.concatenate([old.precision, _diagonal(fresh)[known:]]))
    precision = np.diag(_diagonal(fresh))
    precision[:known, :known] = old.precision
    return Gaussian(mean, precision)


def shaped(prior: Gaussian, *, diagonal: bool) -> Gaussian:
    """The prior as a diagonal one (the variances stay) or as a full one."""
    if diagonal == prior.is_diagonal:
        return prior
    return Gaussian(prior.mean, prior.std**-2.0 if diagonal else np.diag(prior.precision))


def with_untouched(evidence: Blocks, old: Blocks, untouched: Bools) -> Blocks:
    """The evidence, where no row was learned bit for bit the old one: adding and subtracting the prior rounds."""
    start, old_start = evidence.start, old.start
    mean = _replaced(evidence.mean, start, old.mean, old_start, untouched)
    if evidence.full and old.packed_start is not None and evidence.packed_start is not None:
        start, old_start = evidence.packed_start, old.packed_start
    precision = _replaced(evidence.precision, start, old.precision, old_start, untouched)
    return replace(evidence, mean=mean, precision=precision)


def _replaced(new: Floats, start: Ints, old: Floats, old_start: Ints, where: Bools) -> Floats:
    """The values of the entities `where` from `old`, where they have as many as in `new`; of the others from `new`."""
    out = new.copy()
    out[np.repeat(where, np.diff(start))] = old[np.repeat(where, np.diff(old_start))]
    return out

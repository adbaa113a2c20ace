"""Rows that can be measured, and what each weighs."""

import numpy as np

from nearline.arrays import Floats
from nearline.errors import DataError
from nearline.posterior.outcomes import Outcome, is_valid_response


def checked_weight(y: Floats, prediction: Floats, weight: Floats | None, outcome: Outcome) -> Floats:
    """Return the weight of each row, 1 where none is given; raise `DataError` if rows cannot be measured."""
    weight = np.ones(y.shape) if weight is None else weight
    named = {"y": y, "prediction": prediction, "weight": weight}
    if y.ndim != 1 or any(array.shape != y.shape for array in named.values()):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in named.items())
        raise DataError(f"expected y, prediction and weight of one shape (rows,), got {shapes}")
    if y.size == 0:
        raise DataError("expected at least one row to evaluate, got none")
    for name, array in named.items():
        if not np.all(np.isfinite(array)):
            row = int(np.flatnonzero(~np.isfinite(array))[0])
            raise DataError(f"{name}: expected finite numbers, got {array[row]} in row {row}")
    if np.any(weight < 0.0) or not np.any(weight > 0.0):
        raise DataError("weight: expected none below zero and at least one above")
    valid = is_valid_response(outcome, y)
    if not np.all(valid):
        row = int(np.flatnonzero(~valid)[0])
        raise DataError(f"y: {y[row]} in row {row} is no {outcome.name.capitalize()} outcome")
    return weight

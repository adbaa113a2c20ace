"""Predictions and weightings to all metrics of rows at once: what the bootstrap calls for each resample.

The work that does not depend on the weights (losses of rows, their order by score) is done once. The values
are those of `nearline.evaluate.metrics`, computed by the same code.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Floats
from nearline.evaluate.metrics import row_coverage, row_log_loss, row_poisson_deviance
from nearline.evaluate.ranked import Ranked, ratio
from nearline.posterior.outcomes import Outcome

CALIBRATION_BINS = 10
COVERAGE_LEVELS = (0.50, 0.80, 0.95)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """The metrics of rows for one set of predictions; call `of` with weightings of shape (resamples, rows).

    `means` are the metrics that are weighted means, with the values of the rows in the columns of `of_rows`.
    """

    outcome: Outcome
    y: Floats
    prediction: Floats
    means: tuple[str, ...]
    of_rows: Floats
    ranked: Ranked

    @classmethod
    def prepare(
        cls, outcome: Outcome, y: Floats, prediction: Floats, prediction_std: Floats | None = None
    ) -> "Measures":
        """Return the measures of an outcome family; all arrays are of shape (rows,)."""
        columns = _columns(outcome, y, prediction, prediction_std)
        return cls(
            outcome,
            y,
            prediction,
            tuple(columns),
            np.column_stack(list(columns.values())),
            Ranked.of(y, prediction),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics in the order of the columns of `of`."""
        match self.outcome:
            case Outcome.BERNOULLI:
                return ("log_loss", "auc", "aupr", "ece", "observed_over_expected")
            case Outcome.NORMAL:
                return ("rmse", *self.means[1:])
            case Outcome.POISSON:
                return ("poisson_deviance", "rmse", "observed_over_expected")

    def of(self, weight: Floats) -> Floats:
        """Return the value of each metric under each weighting, shape (resamples, metrics)."""
        total = weight.sum(axis=1)
        with np.errstate(invalid="ignore"):
            mean = ratio(weight @ self.of_rows, total[:, None])
        match self.outcome:
            case Outcome.BERNOULLI:
                ranking = self.ranked.measures(weight, CALIBRATION_BINS)
                return np.column_stack([mean[:, 0], ranking, ratio(mean[:, 1], mean[:, 2])])
            case Outcome.NORMAL:
                return np.column_stack([np.sqrt(mean[:, 0]), mean[:, 1:]])
            case Outcome.POISSON:
                observed = ratio(mean[:, 2], mean[:, 3])
                return np.column_stack([mean[:, 0], np.sqrt(mean[:, 1]), observed])


def _columns(
    outcome: Outcome, y: Floats, prediction: Floats, prediction_std: Floats | None
) -> dict[str, Floats]:
    match outcome:
        case Outcome.BERNOULLI:
            return {"log_loss": row_log_loss(y, prediction), "observed": y, "expected": prediction}
        case Outcome.NORMAL:
            columns = {"squared_error": (y - prediction) ** 2, "mae": np.abs(y - prediction)}
            if prediction_std is not None:
                for level in COVERAGE_LEVELS:
                    columns[f"coverage_{level:.0%}".rstrip("%")] = row_coverage(
                        y, prediction, prediction_std, level
                    )
            return columns
        case Outcome.POISSON:
            deviance, squared = row_poisson_deviance(y, prediction), (y - prediction) ** 2
            return {"deviance": deviance, "squared_error": squared, "observed": y, "expected": prediction}

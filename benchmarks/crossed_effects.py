"""How far the library's independent entities carry with crossed and nested effects: two models, a small table.

    python -m benchmarks.crossed_effects --data DIR

Two random intercepts are fitted by block coordinate descent, as the library trains any model with several random
effects: each in turn with the other's modes as its offset, its variance by one step of `maximise` (EM, lengthened),
then the noise from the residuals and leverages. The modes this ends at are right for its variances. But each
belief takes the other effect as known, so its spread leaves out the other's uncertainty, and the variances estimated
from it come out too small. The published maximum of the likelihood and the exact likelihood at both estimates say
what that costs.
"""

import argparse
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from benchmarks.reference_models import OBJECTIVE, Line, markdown, published, read_table
from nearline.arrays import Floats
from nearline.posterior import Gaussian, Outcome, group_rows, update_many
from nearline.posterior.blocks import FeatureRows, share
from nearline.posterior.prior import maximise, moments
from nearline.posterior.update import Labels

PASSES = 20_000
TOLERANCE = 1e-5  # of the noise; EM creeps where a variance goes to 0


@final
@dataclass(frozen=True, slots=True, eq=False)
class Crossed:
    """y = intercept + first[code] + second[code] + noise; `codes` int64[rows] of each factor."""

    y: Floats
    codes: tuple[NDArray[np.int64], NDArray[np.int64]]
    names: tuple[str, str]


@final
@dataclass(frozen=True, slots=True, eq=False)
class CrossedFit:
    """Estimates: the standard deviations, and of each effect the variance of every belief."""

    intercept: float
    std: tuple[float, float]
    noise_std: float
    belief_variance: tuple[Floats, Floats]


def descend(model: Crossed) -> CrossedFit:
    """Visit the two effects in turn until no estimate moves."""
    count = len(model.y)
    one = np.ones((count, 1))
    rows = tuple(group_rows(one, code, int(code.max()) + 1) for code in model.codes)
    intercept, noise = float(model.y.mean()), float(model.y.var())
    priors = [Gaussian(np.zeros(1), np.full((1, 1), 2.0 / noise)) for _ in rows]
    parts, leverages, spreads = [np.zeros(count), np.zeros(count)], [np.zeros(count)] * 2, [np.zeros(0)] * 2
    for _ in range(PASSES):
        before = _stds(priors, noise)
        intercept = float(np.mean(model.y - parts[0] - parts[1]))
        for k in (0, 1):
            offset = intercept + parts[1 - k]
            mean, spreads[k], leverages[k], priors[k] = _visit(rows[k], model.y, offset, noise, priors[k])
            parts[k] = mean[model.codes[k]]
        residual = model.y - intercept - parts[0] - parts[1]
        noise = float(np.mean(residual**2 + leverages[0] + leverages[1]))
        if np.all(np.abs(_stds(priors, noise) - before) <= TOLERANCE * np.sqrt(noise)):
            break
    first, second, noise_std = _stds(priors, noise).tolist()
    return CrossedFit(intercept, (first, second), noise_std, (spreads[0], spreads[1]))


def _stds(priors: list[Gaussian], noise: float) -> Floats:
    """Of the two effects and the noise, float64[3]."""
    return np.sqrt([*(1.0 / p.precision[0, 0] for p in priors), noise])


def _visit(
    rows: FeatureRows, y: Floats, offset: Floats, noise: float, prior: Gaussian
) -> tuple[Floats, Floats, Floats, Gaussian]:
    """Modes and variances of the beliefs, leverages of the rows, and the prior that the beliefs call for."""
    labels = Labels(y, np.full(len(y), 1.0 / noise), offset)
    beliefs = update_many(rows, labels, share(prior), Outcome.NORMAL).beliefs
    found = moments(rows, labels, beliefs, prior.mean, Outcome.NORMAL)
    return beliefs.mean, 1.0 / beliefs.precision, found.leverage, maximise(found, prior, estimate_mean=False)


def exact_spread(model: Crossed, std: tuple[float, float], noise_std: float) -> tuple[Floats, Floats, Floats]:
    """The marginal covariance [rows, rows] of y, and the variance of each effect given y and the estimates."""
    designs = [np.eye(int(code.max()) + 1)[code] for code in model.codes]
    marginal = noise_std**2 * np.eye(len(model.y))
    for design, s in zip(designs, std, strict=True):
        marginal += s**2 * design @ design.T
    inverse = np.linalg.inv(marginal)
    first, second = (
        s**2 - s**4 * np.einsum("ij,ik,kj->j", design, inverse, design)
        for design, s in zip(designs, std, strict=True)
    )
    return marginal, first, second


def minus_twice_log_likelihood(model: Crossed, std: tuple[float, float], noise_std: float) -> float:
    """Exact, at the best intercept for these standard deviations."""
    marginal = exact_spread(model, std, noise_std)[0]
    one = np.ones(len(model.y))
    solved = np.linalg.solve(marginal, np.column_stack([one, model.y]))
    residual = model.y - (one @ solved[:, 1]) / (one @ solved[:, 0])
    log_determinant = float(np.linalg.slogdet(2.0 * np.pi * marginal)[1])
    return log_determinant + float(residual @ np.linalg.solve(marginal, residual))


def models(data: Path) -> dict[str, Crossed]:
    """A crossed and a nested model, by the names of the published estimates."""
    penicillin, pastes = read_table(data, "lme4_Penicillin.csv"), read_table(data, "lme4_Pastes.csv")
    return {
        "penicillin": _crossed(
            penicillin["diameter"], penicillin["plate"], penicillin["sample"], ("plate", "sample")
        ),
        "pastes": _crossed(pastes["strength"], pastes["sample"], pastes["batch"], ("cask in batch", "batch")),
    }


@functools.cache
def lines(data: Path) -> list[Line]:
    """Ours and the published estimate of every quantity of both models."""
    references = published(data)
    return [line for name, model in models(data).items() for line in _compare(name, model, references[name])]


def _crossed(y: NDArray[Any], first: NDArray[Any], second: NDArray[Any], names: tuple[str, str]) -> Crossed:
    codes = [
        np.asarray(np.unique(column, return_inverse=True)[1], dtype=np.int64) for column in (first, second)
    ]
    return Crossed(y.astype(np.float64), (codes[0], codes[1]), names)


def _compare(name: str, model: Crossed, reference: dict[str, Any]) -> list[Line]:
    fit, sigma = descend(model), float(reference["sigma"])
    std = (float(reference["theta"][0]) * sigma, float(reference["theta"][1]) * sigma)
    exact = exact_spread(model, std, sigma)[1:]
    return [
        Line(name, "intercept", fit.intercept, float(reference["beta"][0])),
        Line(name, f"std of {model.names[0]}", fit.std[0], std[0]),
        Line(name, f"std of {model.names[1]}", fit.std[1], std[1]),
        Line(name, "std of both effects together", math.hypot(*fit.std), math.hypot(*std)),
        Line(name, "std of noise", fit.noise_std, sigma),
        Line(name, f"variance of a belief, {model.names[0]}", fit.belief_variance[0][0], exact[0][0]),
        Line(name, f"variance of a belief, {model.names[1]}", fit.belief_variance[1][0], exact[1][0]),
        Line(
            name,
            OBJECTIVE,
            minus_twice_log_likelihood(model, fit.std, fit.noise_std),
            float(reference["objective"]),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of public data sets")
    print(markdown(lines(parser.parse_args().data)))


if __name__ == "__main__":
    main()

"""How often intervals of beliefs hold the coefficients they are about, by number of rows.

Printed by `python -m benchmarks.posterior_honesty`; docs/honesty.md has it.

Coefficients are drawn from the prior and rows from the coefficients, so that the intervals of the exact posterior hold
them exactly as often as they say, whatever the number of rows. Beside our beliefs, learned from all rows at once and
in mini-batches, are those of the exact posterior by importance sampling: it shows how far chance alone is off.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import final

import numpy as np
import typer

from nearline.arrays import Floats
from nearline.posterior import Gaussian, Outcome, group_rows, outcomes, update_many
from nearline.posterior.blocks import Blocks, stack
from nearline.posterior.update import Labels

LEVELS = (0.5, 0.8, 0.95)
ROWS = (1, 2, 5, 10, 20, 50, 100, 200)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """Entities with the same number of rows: b [E, d] from the prior, x [E, n, d] with an intercept, y [E, n]."""

    b: Floats
    x: Floats
    y: Floats
    prior_std: float

    @property
    def prior(self) -> Gaussian:
        """The belief about an entity without rows."""
        columns = self.b.shape[1]
        return Gaussian(np.zeros(columns), np.eye(columns) / self.prior_std**2)


def simulate(
    rng: np.random.Generator, entities: int, rows: int, columns: int, outcome: Outcome, prior_std: float = 1.0
) -> Simulated:
    """Coefficients from N(0, prior_std^2 I), features from N(0, I), responses from both; unit noise if Normal."""
    b = prior_std * rng.normal(size=(entities, columns))
    x = rng.normal(size=(entities, rows, columns))
    x[:, :, 0] = 1.0
    eta = np.einsum("enj,ej->en", x, b)
    if outcome is Outcome.NORMAL:
        return Simulated(b, x, eta + rng.normal(size=eta.shape), prior_std)
    y = (rng.random(eta.shape) < outcomes.mean(outcome, eta)).astype(np.float64)
    return Simulated(b, x, y, prior_std)


def learn(data: Simulated, outcome: Outcome, at_a_time: int | None = None) -> Blocks:
    """The beliefs after all rows, learned in mini-batches of so many, or all at once."""
    entities, rows, columns = data.x.shape
    beliefs = stack([data.prior] * entities)
    entity = np.arange(entities)
    size = at_a_time or max(rows, 1)
    steps = [slice(i, i + size) for i in range(0, rows, size)]
    for some in steps:
        x = data.x[:, some]
        grouped = group_rows(x.reshape(-1, columns), np.repeat(entity, x.shape[1]), entities)
        beliefs = update_many(grouped, Labels(data.y[:, some].ravel()), beliefs, outcome).beliefs
    return beliefs


def coverage(data: Simulated, beliefs: Blocks) -> list[float]:
    """Share of the coefficients within the central intervals of LEVELS."""
    entities, columns = data.b.shape
    std = np.array([beliefs.belief(e).std for e in range(entities)])
    away = np.abs(data.b - beliefs.mean.reshape(entities, columns)) / std
    return [float(np.mean(away <= NormalDist().inv_cdf(0.5 + level / 2.0))) for level in LEVELS]


def exact_coverage(
    rng: np.random.Generator, data: Simulated, beliefs: Blocks, outcome: Outcome, draws: int
) -> list[float]:
    """The same of the exact posterior: draws from a belief 1.2 times as wide, weighted to it."""
    entities, columns = data.b.shape
    held = np.zeros((len(LEVELS), columns))
    for e in range(entities):
        belief = beliefs.belief(e)
        z = rng.normal(size=(draws, columns))
        b = belief.mean + 1.2 * np.linalg.solve(np.linalg.cholesky(belief.precision).T, z.T).T
        loss = outcomes.loss(outcome, data.y[e], b @ data.x[e].T).sum(axis=1)
        log_weight = 0.5 * np.sum(z**2, axis=1) - loss - 0.5 * np.sum(b**2, axis=1) / data.prior_std**2
        weight = np.exp(log_weight - log_weight.max())
        below = (weight @ (b < data.b[e])) / weight.sum()
        for i, level in enumerate(LEVELS):
            held[i] += np.abs(below - 0.5) <= level / 2.0
    return [float(np.mean(share)) for share in held / entities]


def table(entities: int, columns: int, prior_std: float, draws: int) -> str:
    """Coverage in percent by number of rows and way of learning, in Markdown."""
    outcome = Outcome.BERNOULLI
    lines = ["| rows | learned | " + " | ".join(f"{level:.0%}" for level in LEVELS) + " |"]
    lines.append("|---:|---" + "|---:" * len(LEVELS) + "|")
    for rows in ROWS:
        rng = np.random.default_rng(rows)
        data = simulate(rng, entities, rows, columns, outcome, prior_std)
        at_once = learn(data, outcome)
        found = {"all at once": coverage(data, at_once)}
        for size in (10, 1):
            if rows > size:
                found[f"{size} at a time"] = coverage(data, learn(data, outcome, size))
        found["exact posterior"] = exact_coverage(rng, data, at_once, outcome, draws)
        for how, shares in found.items():
            lines.append(
                f"| {rows} | {how} | " + " | ".join(f"{100.0 * share:.1f}" for share in shares) + " |"
            )
    return "\n".join(lines)


def main(entities: int = 2000, columns: int = 5, draws: int = 1000) -> None:
    """Print the tables of docs/honesty.md."""
    for prior_std in (0.5, 1.0):
        print(
            f"Standard deviation of the prior: {prior_std}\n\n{table(entities, columns, prior_std, draws)}\n",
            flush=True,
        )


if __name__ == "__main__":
    typer.run(main)

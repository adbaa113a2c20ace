"""The click rate of each policy of the Open Bandit files, estimated from the logs of the other.

Printed by `python -m benchmarks.open_bandit FOLDER`; docs/exploration.md has it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import typer

from nearline import datasets
from nearline.arrays import Floats, Ints
from nearline.bandit.off_policy import Confidence, inverse_propensity, self_normalised

ITEMS, POSITIONS = 34, 3
ESTIMATORS = (inverse_propensity, self_normalised)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Logs:
    """Clicks float64[n], the propensities of what was shown, and its item and position, int64[n] each from 0."""

    reward: Floats
    propensity: Floats
    item: Ints
    position: Ints


def read_logs(directory: Path, policy: str) -> Logs:
    """The logs of "random" or "bts", Bernoulli Thompson sampling."""
    table = datasets.load(f"open_bandit/{policy}", directory).table
    return Logs(
        table["click"].to_numpy().astype(np.float64),
        table["propensity"].to_numpy(),
        table["item_id"].to_numpy().astype(np.int64),
        table["position"].to_numpy().astype(np.int64) - 1,
    )


def thompson_probabilities(logged: Logs, thompson: Logs) -> Floats:
    """How likely Thompson sampling was to show what the other logs show, float64[n].

    Its files have its probability of what it showed, not of every item. Its share of each item at each position is that
    probability on average over the week, during which it learned.
    """
    share = np.zeros((POSITIONS, ITEMS))
    np.add.at(share, (thompson.position, thompson.item), 1.0)
    share /= share.sum(axis=1, keepdims=True)
    return np.asarray(share[logged.position, logged.item], dtype=np.float64)


def table(directory: Path) -> str:
    """Estimates with their intervals, in Markdown."""
    random, thompson = read_logs(directory, "random"), read_logs(directory, "bts")
    cases = {
        "Thompson sampling, from random": (random, thompson_probabilities(random, thompson), thompson),
        "random, from Thompson sampling": (thompson, np.full(len(thompson.reward), 1.0 / ITEMS), random),
    }
    lines = [
        "| policy, from the logs of | its own clicks | estimator | estimate | normal | bootstrap | effective rows |"
    ]
    lines.append("|---|---:|---|---:|---|---|---:|")
    for name, (logs, target, own) in cases.items():
        for estimator in ESTIMATORS:
            normal, resampled = (
                estimator(logs.reward, logs.propensity, target, confidence=Confidence(interval))
                for interval in ("normal", "bootstrap")
            )
            lines.append(
                f"| {name} | {own.reward.mean():.4f} | `{estimator.__name__}` | {normal.value:.5f} "
                f"| {normal.low:.5f} to {normal.high:.5f} | {resampled.low:.5f} to {resampled.high:.5f} "
                f"| {normal.effective_rows:,.0f} |"
            )
    return "\n".join(lines)


def main(directory: Path) -> None:
    """Print the table; the directory is that of the public data sets."""
    print(table(directory))


if __name__ == "__main__":
    typer.run(main)

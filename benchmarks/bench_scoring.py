"""One request: processor time to score 500 candidates under a user's belief, from arrays, through Python.

Dense features of 64 columns in float64, the same candidates for each of 16 users in rotation, who have full precisions;
one core. The mean; one joint draw of the coefficients, with the precision factored for the draw or beforehand; and mean
and standard deviation, as upper confidence bounds need them. Beside them lambda-learner's scorer on data it has indexed
already. It knows means, and draws under a diagonal precision alone, which it takes for a variance: they cost what they
cost, and are other draws.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import final

import numpy as np

from benchmarks.measurement import Bar, Measurement, interleave, microseconds, spread, times_faster
from benchmarks.peers import scores_of_lambda_learner
from nearline.arrays import Floats
from nearline.bandit import Candidates, EffectTerm, Greedy, ThompsonSampling, entity_keys, request_key
from nearline.posterior import Gaussian, group_rows
from nearline.posterior.blocks import stack
from nearline.posterior.draws import add_draws
from nearline.posterior.score import factor_blocks, mean_of_blocks, score_blocks

USERS = 16


@final
@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """Features [C, d] of the candidates, and one user's belief."""

    x: Floats
    belief: Gaussian
    term: EffectTerm


def requests(candidates: int, columns: int) -> list[Request]:
    """A request of each user, for the same candidates."""
    rng = np.random.default_rng(columns)
    x, found = rng.normal(size=(candidates, columns)), []
    for user in range(USERS):
        half = rng.normal(size=(columns, columns + 2))
        belief = Gaussian(rng.normal(size=columns), half @ half.T / columns + np.eye(columns))
        beliefs = stack([belief])
        keys = entity_keys("per-user", [f"u{user}"])
        found.append(
            Request(x, belief, EffectTerm("per-user", group_rows(x), beliefs, keys, factor_blocks(beliefs)))
        )
    return found


def run(quick: bool = False) -> list[Measurement]:
    """All figures of this module."""
    rounds = 5 if quick else 15
    found = one_term(500, 64, rounds)
    found += whole_policies(500, 64, rounds)
    return found


def one_term(candidates: int, columns: int, rounds: int) -> list[Measurement]:
    """The kernels, from arrays that are there already."""
    made = requests(candidates, columns)
    key = request_key("r1")

    def mean(term: EffectTerm) -> object:
        return mean_of_blocks(term.rows, term.beliefs)

    def draw(term: EffectTerm) -> object:
        scores = np.zeros((1, candidates))
        add_draws(term.rows, term.beliefs, term.keys, scores, request=key)
        return scores

    def draw_factored(term: EffectTerm) -> object:
        scores = np.zeros((1, candidates))
        add_draws(term.rows, term.beliefs, term.keys, scores, request=key, factors=term.factors)
        return scores

    def bounds(term: EffectTerm) -> object:
        of_effect, variance = score_blocks(term.rows, term.beliefs)
        return of_effect + np.sqrt(variance)

    ours = {
        "mean": (mean, 10.0),
        "Thompson sampling": (draw, 25.0),
        "Thompson sampling, factored before": (draw_factored, 15.0),
        "upper confidence bounds": (bounds, 90.0),
    }
    works = {name: in_turn(work, made) for name, (work, _) in ours.items()}
    peer, sampled = (
        scores_of_lambda_learner([(r.x, r.belief) for r in made], sample=s) for s in (False, True)
    )
    products = cycle([(request.x, request.belief.mean) for request in made])

    def product() -> object:
        x, belief = next(products)
        return x @ belief

    others = {"peer": peer, "peer, sampled": sampled, "product": product}
    seconds = interleave({**works, **others}, rounds)
    what = f"{candidates} candidates, d={columns}"
    rows = [
        Measurement(
            name=f"{what}: {name}",
            value=statistics.median(seconds[name]) * 1e6,
            unit="us",
            bar=Bar(limit, "at most"),
            ours=microseconds(seconds[name]),
            spread=spread(seconds[name]),
        )
        for name, (_, limit) in ours.items()
    ]
    rows.append(
        times_faster(
            f"{what}: mean, over NumPy's bare product of the same arrays",
            seconds["mean"],
            seconds["product"],
            "no belief, no entities, nothing checked: how fast this machine reads the features",
        )
    )
    rows.append(
        times_faster(
            f"{what}: mean, over lambda-learner", seconds["mean"], seconds["peer"], "its scorer, indexed data"
        )
    )
    rows.append(
        times_faster(
            f"{what}: Thompson sampling, over lambda-learner",
            seconds["Thompson sampling"],
            seconds["peer, sampled"],
            "its draws know a diagonal precision only, and take it for a variance",
        )
    )
    return rows


def whole_policies(candidates: int, columns: int, rounds: int) -> list[Measurement]:
    """A policy's ranking with propensities, ten positions."""
    made = [Candidates(np.zeros(candidates), (request.term,)) for request in requests(candidates, columns)]
    greedy, thompson = Greedy(), ThompsonSampling()
    turns = {name: cycle(made) for name in ("greedy", "thompson")}
    seconds = interleave(
        {
            "greedy": lambda: greedy.rank(next(turns["greedy"]), "r1", 10),
            "thompson": lambda: thompson.rank(next(turns["thompson"]), "r1", 10),
        },
        rounds,
    )
    what = f"{candidates} candidates, d={columns}, the first ten with propensities"
    names = {"greedy": "greedy", "thompson": f"Thompson sampling, {thompson.draws} draws counted"}
    return [
        Measurement(
            name=f"{what}: {words}",
            value=statistics.median(seconds[name]) * 1e6,
            unit="us",
            ours=microseconds(seconds[name]),
            spread=spread(seconds[name]),
        )
        for name, words in names.items()
    ]


def in_turn(work: Callable[[EffectTerm], object], made: list[Request]) -> Callable[[], object]:
    """The work on one request after the other."""
    turns = cycle(made)
    return lambda: work(next(turns).term)

"""What is asked -> what a policy shows of it, and what is said of that.

Under the greedy policy, as long as all beliefs are at hand, one call of a kernel does it. Everything else goes by way
of what is believed of every candidate, which the policy ranks; the kernel is held to that in the tests.
"""

from typing import TypeAlias

import numpy as np

from nearline.bandit import Greedy, Policy, Ranking
from nearline.kernels import _posterior
from nearline.posterior.outcomes import Outcome
from nearline.posterior.score import require_scored
from nearline.serve.asked import Asked
from nearline.serve.beliefs import Expired
from nearline.serve.clock_index import NOBODY
from nearline.serve.design import dense_parts, fixed_parts
from nearline.serve.explained import Explained, explained, explained_by
from nearline.serve.generation import ServingGeneration

Chosen: TypeAlias = tuple[Ranking, Explained, tuple[str, ...]]
"""A ranking, what is said of what it shows, and what was not looked up to the end before the deadline."""


def chosen(
    serving: ServingGeneration,
    about: Asked,
    policy: Policy,
    request: str,
    k: int,
    now_ms: int,
    expired: Expired,
) -> Chosen:
    """Return what the policy shows at `k` positions; `request` is its id."""
    serving.beliefs.refresh()
    if isinstance(policy, Greedy) and (found := highest(serving, about, k)) is not None:
        return found
    return ranked(serving, about, policy, request, k, now_ms, expired)


def ranked(
    serving: ServingGeneration,
    about: Asked,
    policy: Policy,
    request: str,
    k: int,
    now_ms: int,
    expired: Expired,
) -> Chosen:
    """Return the same for any policy and any effects: the definition."""
    believed = serving.believed(about, now_ms, expired)
    ranking = policy.rank(believed.candidates, request, k)
    return ranking, explained(serving, about, believed, ranking.candidates), believed.partial


def highest(serving: ServingGeneration, about: Asked, k: int) -> Chosen | None:
    """The greedy ranking; None where a belief has to be read or completed, or an effect has no table."""
    if about.extra:
        return None
    layout, featured = serving.layout, about.featured
    count, effects, kinds = featured.count, [], []
    for number, of_effect in enumerate(serving.beliefs.effects):
        entity = about.entities.get(of_effect.effect.kind, NOBODY)
        one = entity if isinstance(entity, str) else None
        if (tables := of_effect.tables) is None or (one is None and entity is not about.names):
            return None
        parts, kept, _ = dense_parts(layout, number, featured)
        mean, precision, *others = tables
        effects.append((parts, kept, mean, precision, layout.sizes[number], *others, one))
        kinds.append(of_effect.effect.kind)
    k = min(k, count)
    model = serving.model
    places, numbers = np.empty(k, np.int64), np.empty((6 + 2 * len(effects), k))
    versions = np.empty((len(effects), k), np.int64)
    failed = _posterior.highest(
        about.names,
        *fixed_parts(layout, featured),
        layout.fixed_intercept,
        effects,
        about.offset,
        model.noise_variance if model.outcome is Outcome.NORMAL else 0.0,
        places,
        versions,
        numbers,
    )
    if failed > 0:
        return None
    require_scored(-1 - failed)
    of_kinds: dict[str, list[int]] = {}
    for of_effect, kind, found in zip(serving.beliefs.effects, kinds, versions.tolist(), strict=True):
        of_effect.hits += count if kind in about.entities and not isinstance(about.entities[kind], str) else 1
        if kind in about.entities:
            before = of_kinds.get(kind)
            of_kinds[kind] = found if before is None else list(map(max, before, found))
    offset, fixed, linear, variance, std, scores, *of_effects = numbers
    parts_of = explained_by(
        model, (offset, fixed, linear, variance, std), serving.names, of_effects, of_kinds
    )
    return Ranking(places, scores, np.ones(k), np.zeros(k)), parts_of, ()

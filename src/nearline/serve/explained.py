"""What is believed of candidates -> numbers to show: expectation, uncertainty, and the contribution of each part."""

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from msgspec import Struct

from nearline.arrays import Floats, Ints
from nearline.kernels import _posterior
from nearline.model.game import GameModel, expected_response
from nearline.posterior.outcomes import Outcome
from nearline.posterior.score import require_scored
from nearline.serve.asked import Asked
from nearline.serve.generation import Believed, ServingGeneration
from nearline.serve.table_term import TableTerm


@final
class Explained(Struct, frozen=True, eq=False):
    """Of some candidates of a request, a value each, on the link scale but `expected`.

    Attributes
    ----------
    offset : of the request and the candidate. fixed : of the fixed effect.
    effects : of each random effect its name, means and variances.
    linear, std : of the linear predictor; the std of a Normal response has its noise in it.
    expected : the expected response, a probability where `is_yes_or_no`.
    versions : of each kind of entity its name and the versions of the records.
    """

    offset: Floats
    fixed: Floats
    effects: Sequence[tuple[str, Floats, Floats]]
    linear: Floats
    std: Floats
    expected: Floats
    is_yes_or_no: bool
    versions: Sequence[tuple[str, list[int]]]


def explained(serving: ServingGeneration, about: Asked, believed: Believed, places: Ints) -> Explained:
    """The numbers of the candidates at these places."""
    model, terms = serving.model, believed.candidates.effects
    kept = about.featured.kept
    numbers = np.empty((5 + 2 * len(terms), len(places)))
    failed = _posterior.request_parts(
        [term.tables if isinstance(term, TableTerm) else term.mean_and_variance(places) for term in terms],
        None if kept is None else kept[1],
        places,
        about.offset,
        believed.fixed,
        believed.widened,
        model.noise_variance if model.outcome is Outcome.NORMAL else 0.0,
        numbers,
    )
    require_scored(failed)
    offset, fixed, linear, variance, std, *of_effects = numbers
    versions = {
        kind: [version] * len(places) if isinstance(version, int) else version.take(places).tolist()
        for kind, version in believed.versions.items()
    }
    return explained_by(model, (offset, fixed, linear, variance, std), serving.names, of_effects, versions)


def explained_by(
    model: GameModel,
    numbers: tuple[Floats, Floats, Floats, Floats, Floats],
    names: Sequence[str],
    of_effects: Sequence[Floats],
    versions: Mapping[str, list[int]],
) -> Explained:
    """The same out of offset, fixed, linear predictor, variance, std; effects, and mean and variance of each."""
    offset, fixed, linear, variance, std = numbers
    return Explained(
        offset,
        fixed,
        list(zip(names, of_effects[::2], of_effects[1::2], strict=True)),
        linear,
        std,
        expected_response(model.outcome, linear, variance),
        model.outcome is Outcome.BERNOULLI,
        list(versions.items()),
    )

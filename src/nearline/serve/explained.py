"""What is believed of candidates -> numbers to show: expectation, uncertainty, and the contribution of each part."""

from collections.abc import Sequence
from typing import final

import numpy as np
from msgspec import Struct

from nearline.arrays import Floats, Ints
from nearline.model.game import expected_response
from nearline.posterior.outcomes import Outcome
from nearline.serve.asked import Asked
from nearline.serve.generation import Believed, ServingGeneration


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
    contributions = believed.candidates.contributions(places)
    effects = [(name, mean, variance) for name, (mean, variance) in contributions.items()]
    linear = believed.candidates.offset.take(places)
    variance = np.zeros(len(places)) if believed.widened is None else believed.widened.take(places)
    for _, mean, spread in effects:
        linear += mean
        variance += spread
    model = serving.model
    spread = variance + model.noise_variance if model.outcome is Outcome.NORMAL else variance
    return Explained(
        about.offset.take(places),
        believed.fixed.take(places),
        effects,
        linear,
        np.sqrt(spread),
        expected_response(model.outcome, linear, variance),
        model.outcome is Outcome.BERNOULLI,
        [
            (kind, [version] * len(places) if isinstance(version, int) else version.take(places).tolist())
            for kind, version in believed.versions.items()
        ],
    )

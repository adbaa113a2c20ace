"""What is answered."""

from typing import final

import msgspec
from msgspec import UNSET, Struct, UnsetType

_encode = msgspec.json.Encoder().encode


@final
class Scored(Struct, frozen=True, gc=False, omit_defaults=True):
    """What is believed of one candidate.

    Attributes
    ----------
    id : of the candidate.
    probability : of a yes, averaged over what is not known, where the outcome is yes or no.
    mean : the expected response, of other outcomes.
    std : standard deviation of the linear predictor; of a Normal response its noise included.
    linear : mean of the linear predictor, on the link scale: the sum of the contributions.
    contributions : offset, fixed effect and each random effect, on the link scale.
    versions : kind of entity to the version of its record; of nobody seen before 0.
    """

    id: str
    std: float
    linear: float
    contributions: dict[str, float]
    versions: dict[str, int]
    probability: float | UnsetType = UNSET
    mean: float | UnsetType = UNSET


@final
class Ranked(Struct, frozen=True, gc=False, omit_defaults=True):
    """One candidate that is shown: as `Scored`, and how it came to be shown.

    Attributes
    ----------
    impression : id of the impression, which feedback names.
    score : what it was ranked by: a mean, a draw or an upper bound, on the link scale.
    propensity : probability that the policy puts this candidate at this position.
    propensity_error : its standard error, where it is counted in draws.
    """

    id: str
    impression: str
    score: float
    propensity: float
    std: float
    linear: float
    contributions: dict[str, float]
    versions: dict[str, int]
    propensity_error: float = 0.0
    probability: float | UnsetType = UNSET
    mean: float | UnsetType = UNSET


@final
class Ranking(Struct, frozen=True, omit_defaults=True):
    """The answer to a request to rank: what to show, first to last.

    Attributes
    ----------
    request : id of the request.
    generation : of the model.
    partial : effects and feature functions that were not looked up to the end before the deadline; what was missing is
        replaced by what is expected, and std is wider for it.
    """

    request: str
    model: str
    generation: int
    policy: str
    ranked: list[Ranked]
    partial: list[str] = []


@final
class Scores(Struct, frozen=True, omit_defaults=True):
    """The answer to a request to score: every candidate, in the order of the request."""

    model: str
    generation: int
    scored: list[Scored]
    partial: list[str] = []


@final
class Accepted(Struct, frozen=True):
    """The answer to feedback: how many are in the log."""

    accepted: int


@final
class Kept(Struct, frozen=True):
    """The answer to features put: how many candidates they are of."""

    kept: int


def in_json(reply: Struct, field: str, rows: bytes) -> bytes:
    """The JSON of a reply whose list of that name is empty, with these rows in it."""
    empty = b'"%b":[]' % field.encode()
    before, _, after = _encode(reply).rpartition(empty)
    return b"".join((before, empty[:-1], rows, b"]", after))

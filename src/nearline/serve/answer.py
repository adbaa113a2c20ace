"""What was chosen, or is believed, in columns; and the reply that says so, as values or as JSON at once."""

from collections.abc import Sequence
from typing import final

from msgspec import Struct

from nearline.arrays import Floats
from nearline.bandit import Ranking as Ordered
from nearline.serve.asked import Asked
from nearline.serve.explained import Explained
from nearline.serve.impressions import Shown, encode_shown
from nearline.serve.reply import Ranking, Scores, in_json
from nearline.serve.request import Features
from nearline.serve.shown_columns import ranked_json, ranked_rows, scored_json, scored_rows


@final
class Answer(Struct, frozen=True, eq=False):
    """A ranking that must not be given out before its records are in the log.

    Attributes
    ----------
    request, model, generation, policy, partial : as of `Ranking`.
    names, impressions : of the k that are shown, first to last.
    scores, propensities, errors, parts : their numbers.
    records : their impressions, for the log.
    """

    request: str
    model: str
    generation: int
    policy: str
    partial: list[str]
    names: list[str]
    impressions: list[str]
    scores: Floats
    propensities: Floats
    errors: Floats
    parts: Explained
    records: Sequence[bytes]

    @property
    def ranking(self) -> Ranking:
        """The reply."""
        return Ranking(*self._head(), ranked_rows(*self._columns()), self.partial)

    def json(self) -> bytes:
        """The same as JSON."""
        return in_json(Ranking(*self._head(), [], self.partial), "ranked", ranked_json(*self._columns()))

    def _head(self) -> tuple[str, str, int, str]:
        return self.request, self.model, self.generation, self.policy

    def _columns(self) -> tuple[list[str], list[str], Floats, Floats, Floats, Explained]:
        return self.names, self.impressions, self.scores, self.propensities, self.errors, self.parts


def answered(
    model: str,
    shown: Shown,
    about: Asked,
    features: Features,
    ranking: Ordered,
    parts: Explained,
    partial: Sequence[str],
) -> Answer:
    """The answer to a request of these shared features, with its records."""
    impressions = shown.impressions()
    return Answer(
        shown.request,
        model,
        shown.generation,
        shown.policy,
        list(partial),
        [about.names[place] for place in shown.places],
        impressions,
        ranking.scores,
        ranking.propensities,
        ranking.standard_errors,
        parts,
        encode_shown(shown, impressions, about, parts, features, ranking.propensities),
    )


@final
class Believable(Struct, frozen=True, eq=False):
    """What is believed of all candidates."""

    model: str
    generation: int
    partial: list[str]
    names: list[str]
    parts: Explained

    def scores(self) -> Scores:
        """The reply."""
        return Scores(self.model, self.generation, scored_rows(self.names, self.parts), self.partial)

    def json(self) -> bytes:
        """The same as JSON."""
        return in_json(
            Scores(self.model, self.generation, [], self.partial),
            "scored",
            scored_json(self.names, self.parts),
        )

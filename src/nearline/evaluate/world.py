"""A simulated world: visitors in the order of time, what may be shown to them, and what they click, the truth known.

A click takes two things (the examination hypothesis, Richardson et al., WWW 2007): that the visitor looks at the
position, and that the item appeals to the visitor. Everything that is left to chance belongs to the visit and the
candidate, not to who shows it: whoever shows the same item at the same position gets the same click. So policies that
are tried side by side differ by what they choose alone (common random numbers).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from scipy.special import expit

from nearline.arrays import Bools, Floats, Ints
from nearline.datasets.drifting import FIRST_MS
from nearline.datasets.generated import DEVICES, GENRES
from nearline.datasets.population import Population
from nearline.errors import ConfigError
from nearline.events.impression import Features
from nearline.model.game import expected_response
from nearline.posterior.outcomes import Outcome

HOUR_MS: Final = 3_600_000


@final
@dataclass(frozen=True, slots=True)
class WorldSettings:
    """What the world is like. Effects have the sizes of `nearline.datasets.generated`.

    Attributes
    ----------
    visits, hours : how many visits, and over how long; they come evenly.
    users, items : there from the beginning; how often each comes, or may be shown, is long-tailed.
    new_items : that appear during the run, some at the beginning of every hour.
    past_items : of the history that are gone when the run begins; from them too it is known how items differ.
    candidates : of each visit, drawn out of the items that are there.
    examination : probability of looking at each position, first to last; as many are shown.
    intercept : log odds of a click of the average visitor on the average item.
    click_hours : mean time from what is shown to its click, which is exponential.
    user_days, item_days : time constants of the drift of tastes and appeals; infinite is no drift.
    changed : share of the items whose appeal, at half time, suddenly becomes that of another.
    history : visits before the run, at each of which one item was shown that no model had chosen.
    history_hours : how long they took.
    hour_ms : how long an hour of this world takes; less than a real one for a world to be watched.
    """

    visits: int = 10_000
    hours: float = 10.0
    users: int = 200
    items: int = 30
    new_items: int = 0
    past_items: int = 40
    candidates: int = 10
    examination: tuple[float, ...] = (1.0,)
    intercept: float = -3.0
    click_hours: float = 1 / 60
    user_days: float = math.inf
    item_days: float = math.inf
    changed: float = 0.0
    history: int = 5_000
    history_hours: float = 24.0
    hour_ms: int = HOUR_MS

    def __post_init__(self) -> None:
        for name, good, expected in (
            (
                "items",
                self.items >= self.candidates,
                f"at least {self.candidates}, the candidates of a visit",
            ),
            (
                "examination",
                1 <= len(self.examination) <= self.candidates,
                f"1 to {self.candidates} positions",
            ),
            ("changed", 0.0 <= self.changed <= 1.0, "a share from 0 to 1"),
        ):
            if not good:
                raise ConfigError(f"world.{name}: expected {expected}, got {getattr(self, name)}")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """Somebody comes by, and some of C candidates can be shown.

    `probability`, `chance` and all that is made of them are for judging alone: a policy never sees them.

    Attributes
    ----------
    number : of the visit, from 0. time_ms : when, in milliseconds since 1970 (UTC).
    user, device : numbers of the visitor and of what is visited with.
    candidates : int64[C], the items.
    probability : float64[C], of a click on each by somebody who looks at it.
    unknown : float64[C], that probability for whoever knows everything but the item's own coefficients.
    chance : float64[C], uniform in [0, 1): a candidate is clicked where it is below that probability.
    delay_ms : int64[C], from what is shown to its click.
    examination : float64[positions], probability of looking at each position.
    """

    number: int
    time_ms: int
    user: int
    device: int
    candidates: Ints
    probability: Floats
    unknown: Floats
    chance: Floats
    delay_ms: Ints
    examination: Floats

    def expected(self, places: Ints) -> Floats:
        """The probability of a click at each position where these places of `candidates` are shown, float64[k]."""
        return self.probability[places] * self.examination[: len(places)]

    def clicks(self, places: Ints) -> Bools:
        """Whether each of them is clicked, bool[k]."""
        return self.chance[places] < self.expected(places)

    def best(self) -> Ints:
        """The places that whoever knows the truth would show, int64[positions]."""
        return np.argsort(-self.probability, kind="stable")[: len(self.examination)]


@final
class World:
    """A world of these settings; the same seed is the same world, visit for visit.

    `start_ms` is when the run begins, in milliseconds since 1970 (UTC); the history ends an hour before.
    """

    def __init__(self, settings: WorldSettings, seed: int, start_ms: int = FIRST_MS) -> None:
        self.settings, self.start_ms = settings, start_ms
        self._seed = seed
        population, activity = (np.random.default_rng([seed, stream]) for stream in (0, 1))
        items = settings.items + settings.new_items + settings.past_items
        self._population = Population.drawn(population, settings.users, items)
        self._user_often = activity.gamma(1.5, size=settings.users)
        self._item_often = activity.gamma(1.5, size=items)
        steps = math.ceil(settings.hours)
        later = np.arange(settings.new_items) * steps // max(settings.new_items, 1)
        self._born = np.concatenate([np.full(settings.items, -1), later, np.full(settings.past_items, -1)])
        self._is_past = np.arange(items) >= settings.items + settings.new_items

    @property
    def item_count(self) -> int:
        """How many items there ever are."""
        return len(self._born)

    def is_new(self, items: Ints) -> Bools:
        """Whether each of these items has appeared during the run."""
        return np.asarray(self._born[items] >= 0)

    def features_of_item(self, item: int) -> dict[str, Features]:
        """Bag to the features of an item, as requests have them."""
        genre, length = GENRES[int(self._population.genre[item])], float(self._population.length[item])
        return {"of_item": {f"genre={genre}": 1.0, "length": length}}

    def features_of_visitor(self, visit: Visit) -> dict[str, Features]:
        """Bag to the features that all candidates of a visit share."""
        age = float(self._population.age[visit.user])
        return {"of_user": {"age": age}, "of_visit": {f"device={DEVICES[visit.device]}": 1.0}}

    def history(self) -> Iterator[Visit]:
        """The visits before the run, in the order of time; at each the first candidate was shown."""
        settings, span = self.settings, int(self.settings.history_hours * self.settings.hour_ms)
        rng = np.random.default_rng([self._seed, 2])
        times = np.sort(rng.integers(span, size=settings.history)) + self.start_ms - span - settings.hour_ms
        yield from self._drawn(rng, times, self._population, -1, 0, np.ones(1))

    def visits(self) -> Iterator[Visit]:
        """The visits of the run, in the order of time."""
        settings, span = self.settings, int(self.settings.hours * self.settings.hour_ms)
        moving, rng = (np.random.default_rng([self._seed, stream]) for stream in (3, 4))
        times = np.sort(rng.integers(span, size=settings.visits)) + self.start_ms
        steps, population = math.ceil(settings.hours), self._population
        edges = np.searchsorted(times, self.start_ms + np.arange(steps + 1) * settings.hour_ms)
        for step in range(steps):
            if step:
                population = population.moved(moving, 1.0 / 24.0, settings.user_days, settings.item_days)
            if step == steps // 2 and settings.changed:
                population = population.redrawn(
                    moving, np.flatnonzero(moving.random(len(self._born)) < settings.changed)
                )
            first, end = int(edges[step]), int(edges[step + 1])
            yield from self._drawn(
                rng, times[first:end], population, step, first, np.array(settings.examination)
            )

    def _drawn(
        self,
        rng: np.random.Generator,
        times: Ints,
        population: Population,
        step: int,
        first: int,
        examination: Floats,
    ) -> Iterator[Visit]:
        """Visits at these times, numbered from `first`."""
        count, settings = len(times), self.settings
        often = self._user_often / self._user_often.sum()
        user = rng.choice(settings.users, size=count, p=often).astype(np.int64)
        device = rng.integers(len(DEVICES), size=count)
        # Draws without replacement in proportion to the weights (Efraimidis and Spirakis 2006).
        with np.errstate(divide="ignore"):
            is_there = (self._born <= step) & ~(self._is_past & (step >= 0))
            weight = np.log(np.where(is_there, self._item_often, 0.0))
        key = weight + rng.gumbel(size=(count, len(weight)))
        candidates = np.argsort(-key, axis=1)[:, : settings.candidates]
        who = user[:, None]
        logit = population.logits(who, candidates, device[:, None], settings.intercept)
        without = logit - population.appeal_of(who, candidates)
        spread = np.broadcast_to(population.appeal_variance(who), logit.shape)
        probability, unknown = expit(logit), expected_response(Outcome.BERNOULLI, without, spread)
        chance = rng.random(candidates.shape)
        delay = rng.exponential(settings.click_hours * settings.hour_ms, size=candidates.shape).astype(
            np.int64
        )
        for i in range(count):
            yield Visit(
                first + i,
                int(times[i]),
                int(user[i]),
                int(device[i]),
                candidates[i],
                probability[i],
                unknown[i],
                chance[i],
                delay[i],
                examination,
            )


def user_name(user: int) -> str:
    """What a user is called."""
    return f"user-{user}"


def item_name(item: int) -> str:
    """What an item is called."""
    return f"item-{item}"

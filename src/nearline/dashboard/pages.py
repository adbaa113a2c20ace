"""Values -> pages of HTML. Every text is escaped, and no page has a script or a style of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, final

from nearline.dashboard import tables, words
from nearline.dashboard.entities import LATELY, LEAST_BEFORE, LEAST_RISE, STANDARD_ERRORS, Drifter, Newcomer
from nearline.dashboard.entity import Entity, Known
from nearline.dashboard.generations import Listed
from nearline.dashboard.letters import Letter
from nearline.dashboard.view import Live
from nearline.errors import MissingExtraError
from nearline.evaluate.words import number
from nearline.model.belief import OWN_ROWS

try:
    import jinja2
except ModuleNotFoundError as error:
    raise MissingExtraError("the dashboard", "serve") from error

_TEMPLATES: Final = Path(__file__).parent / "templates"
_NAVIGATION: Final = (
    (".", "Overview"),
    ("entities", "Entities"),
    ("generations", "Generations"),
    ("dead", "Dead letters"),
)
_WITHIN: Final = 1.959963984540054
"""Standard deviations to both sides of the mean that hold 95 % of a normal distribution."""


def overview_page(name: str, live: Live, generation: int) -> str:
    """The first page."""
    return _render("overview.html", name, ".", live=live, source="overview.json", generation=generation)


def entities_page(name: str, new: Sequence[Newcomer], drifting: Sequence[Drifter], loss: str) -> str:
    """Which entities deserve a look."""
    return _render(
        "entities.html",
        name,
        "entities",
        newcomers=tables.newcomers_table(new),
        drifters=tables.drifters_table(drifting, loss),
        lately=LATELY,
        least_before=LEAST_BEFORE,
        least_rise=LEAST_RISE,
        standard_errors=f"{STANDARD_ERRORS:g}",
        loss=loss,
    )


def entity_page(name: str, entity: Entity, generation: int, source: str) -> str:
    """All there is to see of one entity."""
    live = tables.of_entity(entity)
    charts = {chart.id: chart for chart in live.charts}
    beliefs = [(belief(known), charts.get(f"moved-{place}")) for place, known in enumerate(entity.known)]
    return _render(
        "entity.html",
        name,
        "",
        entity=entity,
        beliefs=beliefs,
        live=live,
        generation=generation,
        source=source,
    )


def generations_page(name: str, listed: Sequence[Listed], *, may_change: bool) -> str:
    """Which generations there are."""
    return _render("generations.html", name, "generations", listed=listed, may_change=may_change)


def switch_page(name: str, one: Listed, live: int | None, token: str) -> str:
    """Asks whether a generation is to be made live."""
    return _render("switch.html", name, "generations", one=one, live=live, token=token)


def letters_page(name: str, letters: Sequence[Letter]) -> str:
    """What could not be used."""
    return _render("dead.html", name, "dead", letters=letters)


def fault_page(name: str, status: int, message: str) -> str:
    """Says why there is no page."""
    return _render("fault.html", name, "", status=status, message=message)


@final
@dataclass(frozen=True, slots=True)
class Dot:
    """A coefficient as a table and a small chart show it; positions are shares of the width in percent.

    Attributes
    ----------
    away : from the prior's mean, in standard deviations of the belief.
    at, low, high : the mean and the ends of its 95 % credible interval. prior_... : those of the prior.
    """

    feature: str
    bag: str
    mean: float
    low: float
    high: float
    prior_mean: float
    prior_low: float
    prior_high: float
    is_own: bool
    at: dict[str, str]


@final
@dataclass(frozen=True, slots=True)
class Belief:
    """What one effect believes of an entity; `zero` is where 0 lies in the charts, in percent."""

    known: Known
    dots: tuple[Dot, ...]
    zero: str
    ends: tuple[float, float]


def belief(known: Known) -> Belief:
    """The coefficients with their intervals, on one scale."""
    rows = known.document["coefficients"]
    ends = [
        (
            one["mean"] - _WITHIN * one["std"],
            one["mean"] + _WITHIN * one["std"],
            one["prior_mean"] - _WITHIN * one["prior_std"],
            one["prior_mean"] + _WITHIN * one["prior_std"],
        )
        for one in rows
    ]
    least, most = min([0.0, *map(min, ends)]), max([0.0, *map(max, ends)])
    width = (most - least) or 1.0

    def place(value: float) -> str:
        return f"{2.0 + 96.0 * (value - least) / width:.2f}"

    dots = tuple(
        Dot(
            one["feature"],
            one["bag"],
            one["mean"],
            low,
            high,
            one["prior_mean"],
            prior_low,
            prior_high,
            one["from"] == OWN_ROWS,
            {
                "mean": place(one["mean"]),
                "low": place(low),
                "high": place(high),
                "prior": place(one["prior_mean"]),
                "prior_low": place(prior_low),
                "prior_high": place(prior_high),
            },
        )
        for one, (low, high, prior_low, prior_high) in zip(rows, ends, strict=True)
    )
    return Belief(known, dots, place(0.0), (least, most))


def _render(template: str, name: str, page: str, **values: Any) -> str:
    common = {"deployment": name, "page": page, "navigation": _NAVIGATION, "version": version("nearline")}
    return _environment().get_template(template).render(common | values)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["utc"] = words.clock_time
    environment.filters["number"] = number
    environment.tests["link"] = lambda cell: not isinstance(cell, str)
    return environment
